// How the view moves: dragged by a hand, sliding on, springing back, sweeping, or going somewhere.
// Angles are degrees. Nothing here touches the page, so it can be tested with plain numbers.

const FRICTION = 3.4; // per second, of the slide after a drag
const SPRING = 11; // per second, back from beyond the last view
const GOING = 9; // per second, towards a goal
const SWEEP_SECONDS = 9; // once to both sides
const SWEEP_REACH = 0.92; // of the range
const GIVE = 5; // degrees the view gives way beyond the last one
const STILL = 0.02; // degrees, and degrees per second: closer than this is there

export class Motion {
  constructor() {
    this.range = { yaw: 30, pitch: 20 };
    this.yaw = this.pitch = 0;
    this.speed = { yaw: 0, pitch: 0 };
    this.held = null;
    this.goal = null;
    this.playing = false;
    this.phase = 0;
    this.calm = false; // prefers-reduced-motion: no sliding, no easing
  }

  /** Where the view is drawn from: beyond the last view it gives way a little. */
  get shown() {
    return { yaw: soft(this.yaw, this.range.yaw), pitch: soft(this.pitch, this.range.pitch) };
  }

  get moving() {
    const { yaw, pitch } = this.speed;
    const beyond = this.#beyond("yaw") || this.#beyond("pitch");
    return this.playing || !!this.goal || (!this.held && (yaw !== 0 || pitch !== 0 || beyond));
  }

  grab(time) {
    this.playing = false;
    this.goal = null;
    this.speed = { yaw: 0, pitch: 0 };
    this.held = { yaw: this.yaw, pitch: this.pitch, trail: [[time, this.yaw, this.pitch]] };
  }

  /** Moves with the hand by so many degrees since `grab`. */
  drag(yaw, pitch, time) {
    this.yaw = this.held.yaw + yaw;
    this.pitch = this.held.pitch + pitch;
    const { trail } = this.held;
    trail.push([time, this.yaw, this.pitch]);
    while (trail.length > 2 && time - trail[0][0] > 0.09) trail.shift();
  }

  release(time) {
    const [then, yaw, pitch] = this.held.trail[0];
    const seconds = Math.max(time - then, 0.016);
    const resting = time - this.held.trail.at(-1)[0] > 0.08;
    this.held = null;
    if (this.calm || resting) return;
    this.speed = { yaw: (this.yaw - yaw) / seconds, pitch: (this.pitch - pitch) / seconds };
  }

  goTo(yaw, pitch) {
    this.playing = false;
    this.speed = { yaw: 0, pitch: 0 };
    this.goal = { yaw: clamp(yaw, this.range.yaw), pitch: clamp(pitch, this.range.pitch) };
    if (this.calm) this.#arrive();
  }

  turn(yaw, pitch) {
    const from = this.goal ?? this;
    this.goTo(from.yaw + yaw, from.pitch + pitch);
  }

  play(on) {
    this.playing = on;
    this.goal = null;
    this.speed = { yaw: 0, pitch: 0 };
    if (on) this.phase = Math.asin(clamp(this.yaw / (SWEEP_REACH * this.range.yaw || 1), 1));
  }

  /** Moves on by so many seconds. */
  step(seconds) {
    if (this.held) return;
    if (this.playing) this.#sweep(seconds);
    else if (this.goal) this.#approach(this.goal, GOING, seconds);
    else this.#slide(seconds);
    const there = ["yaw", "pitch"].every((a) => !this.goal || Math.abs(this[a] - this.goal[a]) < STILL);
    if (this.goal && there) this.#arrive();
  }

  #sweep(seconds) {
    this.phase += (2 * Math.PI * seconds) / SWEEP_SECONDS;
    const yaw = SWEEP_REACH * this.range.yaw * Math.sin(this.phase);
    const pitch = 0.3 * this.range.pitch * Math.sin(2 * this.phase);
    this.#approach({ yaw, pitch }, 5, seconds);
  }

  #approach(goal, rate, seconds) {
    const part = 1 - Math.exp(-rate * seconds);
    this.yaw += (goal.yaw - this.yaw) * part;
    this.pitch += (goal.pitch - this.pitch) * part;
  }

  #slide(seconds) {
    for (const axis of ["yaw", "pitch"]) {
      const beyond = this.#beyond(axis);
      this[axis] += this.speed[axis] * seconds;
      this.speed[axis] *= Math.exp(-(beyond ? 3 * SPRING : FRICTION) * seconds);
      if (Math.abs(this.speed[axis]) < STILL * 20) this.speed[axis] = 0;
      if (!beyond) continue;
      const edge = clamp(this[axis], this.range[axis]);
      this[axis] = edge + (this[axis] - edge) * Math.exp(-SPRING * seconds);
      if (Math.abs(this[axis] - edge) < STILL) this[axis] = edge;
    }
  }

  #arrive() {
    Object.assign(this, this.goal);
    this.goal = null;
  }

  #beyond(axis) {
    return Math.abs(this[axis]) > this.range[axis];
  }
}

function clamp(value, reach) {
  return Math.min(Math.max(value, -reach), reach);
}

function soft(value, reach) {
  const edge = clamp(value, reach);
  const over = value - edge;
  return edge + Math.sign(over) * GIVE * (1 - Math.exp(-Math.abs(over) / (3 * GIVE)));
}
