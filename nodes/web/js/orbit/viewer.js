// The viewer itself: one element that shows the views of a run and turns them under the hand.
// It knows nothing of ComfyUI; portrait_viewer.js puts it into a node.

import { PAGE, ICONS } from "./look.js";
import { Motion } from "./motion.js";
import { Stage2D } from "./stage_2d.js";
import { StageGL } from "./stage_gl.js";
import { loadViews } from "./views.js";
import { wordsFor } from "./words.js";

const MAX_ZOOM = 4;
const KEY_STEP = 4; // degrees per press of an arrow key
const DRAG_REACH = 0.75; // of the width: a drag this long goes from one end to the other
const MAX_PIXELS = 2048; // per side of the canvas

export class OrbitViewer {
  constructor({ forward = () => {}, plain = false, locale = "en" } = {}) {
    this.forward = forward; // what is not for the viewer goes here: wheel and middle button
    this.plain = plain; // no WebGL
    this.element = document.createElement("div");
    this.element.dataset.captureWheel = "true"; // ComfyUI leaves the wheel to it while it has focus
    this.root = this.element.attachShadow({ mode: "open" });
    this.root.innerHTML = PAGE;
    this.part = (name) => this.root.querySelector(`.${name}`);
    this.motion = new Motion();
    this.zoom = { scale: 1, x: 0, y: 0, goal: 1, at: [0, 0] };
    this.split = { place: 0.5, on: true };
    this.record = null;
    this.views = null;
    this.gone = new AbortController();
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.motion.calm = this.calm.matches;
    this.#listen();
    this.said = "waiting";
    this.locale = locale;
    this.observer = new ResizeObserver(() => this.refresh());
    this.observer.observe(this.element);
  }

  /** Shows the views of a run; the angle stays, so that two runs can be compared. */
  async show(record, url) {
    if (this.gone.signal.aborted || record.file.filename === this.record?.file.filename) return;
    const first = !this.record;
    this.record = record;
    this.url = url;
    this.loading?.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    try {
      const views = await loadViews(url, record, signal);
      const stage = this.#stageFor(views);
      views.close();
      this.#mount(stage, views, first);
    } catch (error) {
      if (signal.aborted) return;
      this.clear();
      this.#say(/gone/.test(error.message) ? "gone" : "broken");
    }
  }

  /** Goes back to the empty state. */
  clear() {
    this.stage?.dispose();
    this.stage = this.views = this.record = null;
    this.part("bar").hidden = true;
    this.#say("waiting");
    this.#compare();
  }

  /** Where the viewer stands or is on its way to, for `pose = ...` after a reload. */
  get pose() {
    const { yaw, pitch } = this.motion.goal ?? this.motion.shown;
    return { yaw, pitch, split: this.split.place, comparing: this.split.on };
  }

  set pose({ yaw = 0, pitch = 0, split = 0.5, comparing = true }) {
    Object.assign(this.motion, { yaw, pitch, goal: null });
    this.split = { place: split, on: comparing };
    this.posed = true;
    this.told = JSON.stringify(this.pose);
    this.#compare();
  }

  /** Says everything in the language of a locale such as "zh", or in English. */
  set locale(locale) {
    this.words = wordsFor(locale);
    this.element.lang = this.words === wordsFor("en") ? "en" : locale;
    this.part("stage").setAttribute("aria-roledescription", this.words.viewer);
    for (const name of ["stage", "bar", "split", "play", "compare", "reset", "expand"]) {
      this.part(name).setAttribute("aria-label", this.words[name]);
      if (this.part(name).tagName === "BUTTON") this.part(name).title = this.words[name];
    }
    for (const name of ["first", "second"]) this.part(name).textContent = this.words[name];
    this.part("empty").querySelector("p").innerHTML = this.words[this.said];
  }

  /** Shows how far a run is: [done, total], or null when none is under way. */
  set progress(value) {
    const line = this.part("progress");
    line.hidden = !value;
    if (!value) return (this.began = undefined);
    const [done, total] = value;
    const now = performance.now() / 1000;
    this.began ??= [now, done];
    const left = ((now - this.began[0]) / Math.max(done - this.began[1], 1)) * (total - done);
    const clock = done > this.began[1] ? this.words.left(time(left, this.words)) : "";
    line.querySelector("span").textContent = this.words.rendering(done, total) + clock;
    line.style.setProperty("--done", done / total);
  }

  /** Draws again soon; call it when the size on the screen may have changed. */
  refresh() {
    this.frame ??= requestAnimationFrame((time) => this.#tick(time));
  }

  /** Lets go of everything: pictures, memory on the graphics card, observers. */
  dispose() {
    this.gone.abort();
    this.loading?.abort();
    this.observer.disconnect();
    if (this.frame) cancelAnimationFrame(this.frame);
    clearTimeout(this.hiding);
    this.stage?.dispose();
    this.stage = this.views = null;
    this.element.remove();
  }

  #stageFor(views) {
    if (!this.plain) {
      try {
        return new StageGL(views);
      } catch (error) {
        console.info(`Portrait Viewer: ${error.message}; using a plain canvas`);
      }
    }
    return new Stage2D(views);
  }

  #mount(stage, views, first) {
    this.stage?.dispose();
    this.stage = stage;
    this.views = views;
    this.motion.range = { yaw: views.yawRange, pitch: views.pitchRange };
    this.part("stage").replaceChildren(stage.canvas);
    this.part("empty").hidden = true;
    this.part("bar").hidden = false;
    stage.canvas.addEventListener("webglcontextlost", () => this.#lost(stage));
    if (first && !this.posed && !this.calm.matches) {
      this.motion.yaw = -0.6 * views.yawRange; // comes round to the front
      this.motion.goTo(0, 0);
    }
    this.#compare();
    this.#tick(performance.now());
    requestAnimationFrame(() => stage.canvas.classList.add("shown"));
  }

  #lost(stage) {
    if (stage !== this.stage || this.gone.signal.aborted) return;
    const { record, url } = this; // the browser took the graphics memory: load again when needed
    this.element.addEventListener(
      "pointerenter",
      () => {
        this.record = null;
        this.posed = true;
        this.show(record, url);
      },
      { once: true, signal: this.gone.signal },
    );
  }

  #say(name) {
    this.said = name;
    this.part("empty").hidden = false;
    this.part("empty").querySelector("p").innerHTML = this.words[name];
  }

  // Drawing ----------------------------------------------------------------------------------

  #tick(time) {
    this.frame = null;
    if (!this.stage) return;
    const seconds = Math.min((time - (this.time ?? time)) / 1000, 0.05);
    this.time = time;
    this.motion.step(seconds);
    this.#zoomOn(seconds);
    this.#draw();
    this.#note();
    if (this.motion.moving || this.zoom.scale !== this.zoom.goal) this.refresh();
    else this.time = undefined;
    if (!this.motion.moving && !this.motion.held && !this.sliding) this.#tell();
  }

  #draw() {
    const { canvas } = this.stage;
    const { width, height } = this.element.getBoundingClientRect(); // with the graph's zoom
    if (width < 2 || height < 2) return;
    const most = MAX_PIXELS / Math.max(width, height);
    const scale = Math.min(globalThis.devicePixelRatio || 1, most);
    const size = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) {
      [canvas.width, canvas.height] = size;
    }
    const { yaw, pitch } = this.motion.shown;
    const split = this.#comparing ? this.split.place * size[0] : 0;
    this.stage.draw({ yaw, pitch, split, frame: this.#frame(size) });
    if (this.#comparing) this.part("split").style.left = `${100 * this.split.place}%`;
  }

  /** Returns left, top and side of the picture on a canvas: as large as fits, on the ground. */
  #frame([width, height]) {
    const fit = Math.min(width, height);
    const side = this.views.matte ? fit : Math.min(Math.max(width, height), 1.3 * fit);
    const left = (width - side) / 2;
    const top = this.views.matte ? height - side : (height - side) / 2;
    const { scale, x, y } = this.zoom;
    return [left + x * side, top + y * side, side * scale];
  }

  #zoomOn(seconds) {
    const zoom = this.zoom;
    if (zoom.scale === zoom.goal) return;
    const part = this.calm.matches ? 1 : 1 - Math.exp(-14 * seconds);
    let scale = zoom.scale + (zoom.goal - zoom.scale) * part;
    if (Math.abs(scale - zoom.goal) < 0.002) scale = zoom.goal;
    // What is under the pointer stays there, and the picture keeps covering its place.
    const moved = scale / zoom.scale;
    for (const [axis, at] of [["x", zoom.at[0]], ["y", zoom.at[1]]]) {
      zoom[axis] = Math.min(0, Math.max(1 - scale, at - (at - zoom[axis]) * moved));
    }
    zoom.scale = scale;
  }

  #note() {
    const { yaw, pitch } = this.motion.shown;
    const note = this.part("angle");
    note.textContent = `${degrees(yaw)}  ${degrees(pitch)}`;
    const busy = (this.motion.held && !this.#comparing) || (this.keyed && !this.#comparing);
    note.classList.toggle("shown", !!busy);
  }

  // Hands and keys ----------------------------------------------------------------------------

  #listen() {
    const { signal } = this.gone;
    const stage = this.part("stage");
    const on = (target, kind, what, options = {}) =>
      target.addEventListener(kind, what.bind(this), { signal, ...options });
    on(stage, "pointerdown", this.#grab);
    on(stage, "pointermove", this.#drag);
    on(stage, "pointerup", this.#release);
    on(stage, "pointercancel", this.#release);
    on(stage, "dblclick", this.reset);
    on(this.element, "wheel", this.#wheel, { passive: false });
    on(this.element, "keydown", this.#key);
    on(this.element, "pointerenter", this.refresh);
    on(this.element, "dblclick", (event) => event.stopPropagation());
    const split = this.part("split");
    on(split, "pointerdown", this.#slideStart);
    on(split, "pointermove", this.#slide);
    on(split, "pointerup", this.#slideEnd);
    on(split, "pointercancel", this.#slideEnd);
    on(this.part("play"), "click", () => this.#play(!this.motion.playing));
    on(this.part("compare"), "click", this.#toggleCompare);
    on(this.part("reset"), "click", this.reset);
    on(this.part("expand"), "click", this.#expand);
    on(this.calm, "change", () => (this.motion.calm = this.calm.matches));
  }

  #grab(event) {
    if (event.button === 1) this.forward(event);
    if (event.button !== 0 || !this.views) return;
    event.stopPropagation();
    this.part("stage").focus({ preventScroll: true, focusVisible: false });
    capture(event);
    this.motion.grab(event.timeStamp / 1000);
    this.start = [event.clientX, event.clientY];
    this.part("stage").classList.add("held");
    this.#playing();
    this.refresh();
  }

  #drag(event) {
    if (event.buttons & 4) this.forward(event);
    if (!this.motion.held) return;
    event.stopPropagation();
    const { width, height } = this.element.getBoundingClientRect();
    const reach = DRAG_REACH * Math.min(width, height) * Math.sqrt(this.zoom.scale);
    const { yaw, pitch } = this.motion.range;
    const x = (event.clientX - this.start[0]) / reach;
    const y = (event.clientY - this.start[1]) / reach;
    this.motion.drag(-2 * yaw * x, 2 * pitch * y, event.timeStamp / 1000);
    this.refresh();
  }

  #release(event) {
    if (event.button === 1) this.forward(event);
    if (!this.motion.held) return;
    event.stopPropagation();
    this.motion.release(event.timeStamp / 1000);
    this.part("stage").classList.remove("held");
    this.#moved();
    this.refresh();
  }

  #wheel(event) {
    const focused = this.element.matches(":focus-within") || document.activeElement === this.element;
    if (!this.views || !focused || event.ctrlKey || event.metaKey) {
      this.forward(event);
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    const { left, top, width, height } = this.element.getBoundingClientRect();
    this.#zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), [
      (event.clientX - left) / width,
      (event.clientY - top) / height,
    ]);
  }

  #zoomBy(factor, [x, y] = [0.5, 0.5]) {
    const { width, height } = this.element.getBoundingClientRect();
    const scale = this.zoom.scale;
    const [left, top, side] = this.#frame([width, height]);
    const base = side / scale;
    const origin = [left - this.zoom.x * base, top - this.zoom.y * base];
    this.zoom.at = [(x * width - origin[0]) / base, (y * height - origin[1]) / base];
    this.zoom.goal = Math.min(Math.max(this.zoom.goal * factor, 1), MAX_ZOOM);
    this.refresh();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.views) return;
    const onSplit = event.composedPath()[0] === this.part("split");
    const onButton = event.composedPath()[0].tagName === "BUTTON";
    if (onButton && (event.key === " " || event.key === "Enter")) {
      event.stopPropagation();
      return;
    }
    const step = event.shiftKey ? 3 * KEY_STEP : KEY_STEP;
    const turns = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const keys = {
      " ": () => this.#play(!this.motion.playing),
      "+": () => this.#zoomBy(1.25),
      "=": () => this.#zoomBy(1.25),
      "-": () => this.#zoomBy(0.8),
      0: () => this.reset(),
      Home: () => this.reset(),
      c: () => this.#toggleCompare(),
      f: () => this.#expand(),
    };
    const turn = turns[event.key];
    if (turn && onSplit) {
      this.#slideTo(this.split.place - Math.sign(turn[0] + turn[1]) * 0.04);
      this.#tell();
    } else if (turn) this.#turn(...turn);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #turn(yaw, pitch) {
    this.motion.turn(yaw, pitch);
    this.#playing();
    this.keyed = true;
    clearTimeout(this.hiding);
    this.hiding = setTimeout(() => {
      this.keyed = false;
      this.#moved();
      this.refresh();
    }, 900);
    this.refresh();
  }

  /** Goes back to the front view and the whole picture. */
  reset() {
    this.motion.goTo(0, 0);
    this.zoom.goal = 1;
    this.#playing();
    this.#moved();
    this.refresh();
  }

  #play(on) {
    this.motion.play(on);
    this.#playing();
    this.refresh();
  }

  #playing() {
    const { playing } = this.motion;
    const play = this.part("play");
    play.setAttribute("aria-pressed", playing);
    play.innerHTML = playing ? ICONS.pause : ICONS.play;
  }

  #expand() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.element.requestFullscreen?.().catch(() => {});
  }

  #moved() {
    const { yaw, pitch } = this.motion.goal ?? this.motion.shown;
    this.part("quiet").textContent = this.words.turned(Math.round(yaw), Math.round(pitch));
    this.#tell();
  }

  /** Says that the pose is another one: at once where its end is known, else once it stands. */
  #tell() {
    const pose = JSON.stringify(this.pose);
    if (pose === this.told) return;
    this.told = pose;
    this.element.dispatchEvent(new Event("posed"));
  }

  // Comparing -----------------------------------------------------------------------------------

  get #comparing() {
    return this.views?.portraits.length > 1 && this.split.on;
  }

  #compare() {
    const two = this.views?.portraits.length > 1;
    this.part("compare").hidden = !two;
    this.part("compare").setAttribute("aria-pressed", this.#comparing);
    for (const name of ["split", "first", "second"]) this.part(name).hidden = !this.#comparing;
    this.#slideTo(this.split.place);
  }

  #toggleCompare() {
    const focused = this.root.activeElement === this.part("split");
    this.split.on = !this.split.on;
    this.#compare();
    if (focused) this.part("stage").focus({ preventScroll: true }); // the slider is gone with it
    this.#tell();
  }

  #slideStart(event) {
    if (event.button !== 0) return;
    event.stopPropagation();
    capture(event);
    this.sliding = true;
  }

  #slideEnd() {
    this.sliding = false;
    this.#tell();
  }

  #slide(event) {
    if (!(event.buttons & 1)) return;
    event.stopPropagation();
    const { left, width } = this.element.getBoundingClientRect();
    this.#slideTo((event.clientX - left) / width);
  }

  #slideTo(place) {
    this.split.place = Math.min(Math.max(place, 0), 1);
    this.part("split").setAttribute("aria-valuenow", Math.round(100 * this.split.place));
    this.part("first").style.opacity = this.split.place > 0.2 ? 1 : 0;
    this.part("second").style.opacity = this.split.place < 0.8 ? 1 : 0;
    this.refresh();
  }
}

function capture(event) {
  try {
    event.currentTarget.setPointerCapture(event.pointerId);
  } catch {
    // a synthetic pointer cannot be captured; the drag works without
  }
}

function time(seconds, words) {
  const whole = Math.ceil(seconds);
  return whole < 60 ? words.seconds(whole) : `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function degrees(value) {
  const whole = Math.round(value);
  return `${whole < 0 ? "\u2212" : whole > 0 ? "+" : ""}${Math.abs(whole)}\u00b0`;
}
