// What the viewer looks like: its style sheet, its icons, and the parts of its page.

export const STYLE = `
:host { display: block; position: relative; width: 100%; height: 100%; min-height: 0;
  font: 500 11px/1.3 Inter, system-ui, sans-serif; color: #d9dbe0; }
:host([hidden]) { display: none; }
.room { position: absolute; inset: 0; overflow: hidden; border-radius: 12px; contain: strict;
  background: radial-gradient(ellipse 75% 75% at 50% 44%, #23262c, #0b0c0e); user-select: none; }
.room::after { content: ""; position: absolute; inset: 0; border-radius: inherit;
  pointer-events: none; box-shadow: inset 0 0 0 1px #ffffff14, inset 0 1px 0 #ffffff12; }
.stage { position: absolute; inset: 0; outline: none; touch-action: none; cursor: grab;
  border-radius: inherit; }
.stage.held { cursor: grabbing; }
.stage:focus-visible { box-shadow: inset 0 0 0 2px #8ab4ff; }
:host(:focus-within) .room::after { box-shadow: inset 0 0 0 1px #8ab4ff66; }
.stage:focus-visible ~ .ring { position: absolute; inset: 0; border-radius: inherit;
  box-shadow: inset 0 0 0 2px #8ab4ff; pointer-events: none; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; opacity: 0;
  transition: opacity .45s ease; }
canvas.shown { opacity: 1; }
.empty { position: absolute; inset: 0; display: grid; place-content: center; justify-items: center;
  gap: 14px; text-align: center; padding: 20px; color: #9a9fa8; pointer-events: none; }
.empty svg { width: min(34%, 120px); min-width: 72px; color: #4a4f59; }
.empty p { margin: 0; max-width: 24em; font-size: 12px; }
.empty b { color: #d9dbe0; font-weight: 600; }
.bar { position: absolute; left: 50%; bottom: 12px; transform: translateX(-50%); display: flex;
  gap: 2px; padding: 3px; border-radius: 999px; background: #14161a99;
  backdrop-filter: blur(10px); -webkit-backdrop-filter: blur(10px);
  box-shadow: 0 0 0 1px #ffffff17, 0 4px 16px #0006; opacity: .0; transition: opacity .25s ease; }
:host(:hover) .bar, :host(:focus-within) .bar { opacity: 1; }
@media (hover: none) { .bar { opacity: .8; } }
button { all: unset; box-sizing: border-box; width: 28px; height: 28px; border-radius: 50%;
  display: grid; place-items: center; cursor: pointer; color: #c4c8d0; }
button:hover { background: #ffffff1f; color: #fff; }
button:focus-visible { box-shadow: 0 0 0 2px #8ab4ff; }
button[aria-pressed="true"] { color: #8ab4ff; }
button svg { width: 16px; height: 16px; }
svg { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linecap: round;
  stroke-linejoin: round; }
.angle { position: absolute; right: 12px; top: 11px; padding: 3px 9px; border-radius: 999px;
  background: #14161a80; color: #c4c8d0; font-variant-numeric: tabular-nums; opacity: 0;
  transition: opacity .3s ease; pointer-events: none; }
.angle.shown { opacity: 1; }
.progress { position: absolute; left: 12px; bottom: 14px; padding: 3px 9px; border-radius: 999px;
  background: #14161acc; color: #d9dbe0; font-variant-numeric: tabular-nums; }
.progress::after { content: ""; position: absolute; border-radius: 2px; left: 10px; right: 10px; bottom: 0; height: 2px;
  transform-origin: left; transform: scaleX(var(--done, 0)); background: #8ab4ff; }
.split { position: absolute; top: 0; bottom: 0; width: 28px; margin-left: -14px; cursor: ew-resize;
  touch-action: none; outline: none; }
.split::before { content: ""; position: absolute; left: 13px; top: 0; bottom: 0; width: 2px;
  background: #ffffffb0; box-shadow: 0 0 10px #0009; }
.split i { position: absolute; left: 0; top: 50%; width: 28px; height: 28px; margin-top: -14px;
  border-radius: 50%; background: #f4f5f7; color: #23262c; display: grid; place-items: center;
  box-shadow: 0 2px 10px #0008; }
.split i svg { width: 16px; height: 16px; }
.split:focus-visible i { box-shadow: 0 0 0 3px #8ab4ff; }
.name { position: absolute; top: 11px; padding: 3px 9px; border-radius: 999px;
  background: #14161a80; color: #c4c8d0; pointer-events: none; transition: opacity .2s; }
.name.first { left: 12px; }
.name.second { right: 12px; }
.quiet { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
[hidden] { display: none !important; }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
`;

const icon = (paths) => `<svg viewBox="0 0 24 24" aria-hidden="true">${paths}</svg>`;

export const ICONS = {
  play: icon('<path d="M8 5.5v13l10.5-6.5z" fill="currentColor"/>'),
  pause: icon('<path d="M9 6v12M15 6v12" stroke-width="3"/>'),
  reset: icon('<path d="M4 12a8 8 0 1 0 2.6-5.9"/><path d="M4 4v4.5h4.5"/>'),
  compare: icon('<path d="M12 4v16"/><path d="M9 8l-4 4 4 4M15 8l4 4-4 4"/>'),
  expand: icon('<path d="M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5"/>'),
  handle: icon('<path d="M9.5 8l-4 4 4 4M14.5 8l4 4-4 4" stroke-width="2.2"/>'),
  bust: `<svg viewBox="0 0 120 110" stroke-width="1.6" aria-hidden="true">
    <path d="M60 14c15 0 25 11 25 27 0 17-11 32-25 32S35 58 35 41c0-16 10-27 25-27z"/>
    <path d="M50 71v10c-14 3-27 8-31 19M70 71v10c14 3 27 8 31 19"/>
    <path d="M14 52c0 12 20 21 46 21s46-9 46-21" stroke-dasharray="1 6" stroke-width="2.4"/>
    <path d="M101 47l5 5-6 4" /></svg>`,
};

const button = (name) => `<button type="button" class="${name}">${ICONS[name]}</button>`;

// Without words: OrbitViewer puts them in, in the language of the moment.
export const PAGE = `<style>${STYLE}</style>
<div class="room">
  <div class="stage" tabindex="0" role="application"></div>
  <div class="empty" role="status">${ICONS.bust}<p></p></div>
  <span class="name first" hidden></span><span class="name second" hidden></span>
  <div class="split" tabindex="0" role="slider" aria-valuemin="0" aria-valuemax="100" hidden>
    <i>${ICONS.handle}</i></div>
  <div class="angle" aria-hidden="true"></div>
  <div class="bar" role="toolbar" hidden>
    ${["play", "compare", "reset", "expand"].map(button).join("")}
  </div>
  <div class="progress" hidden><span></span></div>
  <div class="quiet" aria-live="polite"></div>
</div>`;
