// Reads the views of one run: fetches the picture file and hands out its tiles, row by row.
// The layout of the file is that of freestyle_core/files/media/atlas.py.

const DEGREE = Math.PI / 180;

/** Returns the views behind a record, or throws: a TypeError-free Error when the file is gone. */
export async function loadViews(url, record, signal) {
  const reply = await fetch(url, { signal });
  if (!reply.ok) throw new Error(`the views are gone (${reply.status})`);
  const bitmap = await createImageBitmap(await reply.blob(), { colorSpaceConversion: "none" });
  if (signal.aborted) {
    bitmap.close();
    throw new DOMException("aborted", "AbortError");
  }
  return new Views(bitmap, record);
}

class Views {
  constructor(bitmap, record) {
    this.columns = record.columns;
    this.rows = record.rows;
    this.tile = record.tile;
    this.yawRange = record.yaw_deg;
    this.pitchRange = record.rows > 1 ? record.pitch_deg : 0;
    this.distance = record.distance;
    this.focal = record.focal;
    this.portraits = record.portraits;
    this.matte = record.portraits.every((part) => part.alpha !== undefined);
    this.bitmap = bitmap;
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.columns * this.tile;
    this.canvas.height = this.tile;
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
  }

  get perPortrait() {
    return this.columns * this.rows;
  }

  /** Returns the RGBA pixels of one row of views, columns * tile wide. Opacity is multiplied in. */
  imageRow(portrait, row) {
    const part = this.portraits[portrait];
    const pixels = this.#strip(part.image, row, this.tile, this.columns * this.tile);
    if (part.alpha === undefined) return pixels;
    const alpha = this.#strip(part.alpha, row, this.tile, this.columns * this.tile);
    for (let i = 0; i < pixels.length; i += 4) {
      const a = alpha[i];
      // The picture is head * a + white * (1 - a): take the white away.
      for (let c = i; c < i + 3; c++) pixels[c] = Math.min(Math.max(pixels[c] + a - 255, 0), a);
      pixels[i + 3] = a;
    }
    return pixels;
  }

  /** Returns the depth of one row of views, one byte per pixel, columns * tile / 2 wide. */
  depthRow(portrait, row) {
    const size = this.tile / 2;
    const pixels = this.#strip(this.portraits[portrait].depth, row, size, this.columns * size);
    const depth = new Uint8Array(pixels.length / 4);
    for (let i = 0; i < depth.length; i++) depth[i] = pixels[4 * i];
    return depth;
  }

  /** Returns the mean colour of the front view, 0 to 1 each: the light of the room. */
  tint() {
    const middle = this.columns >> 1;
    const pixels = this.imageRow(0, this.rows >> 1);
    const sum = [0, 0, 0, 1e-6];
    for (let y = 0; y < this.tile; y += 4) {
      for (let x = 0; x < this.tile; x += 4) {
        const at = 4 * (y * this.columns * this.tile + middle * this.tile + x);
        for (let c = 0; c < 4; c++) sum[c] += pixels[at + c];
      }
    }
    return [sum[0] / sum[3], sum[1] / sum[3], sum[2] / sum[3]];
  }

  /** Lets go of the decoded picture, once a renderer has its own copy. */
  close() {
    this.bitmap.close();
    this.canvas.width = this.canvas.height = 0;
  }

  #strip(top, row, size, width) {
    this.context.drawImage(this.bitmap, 0, top + row * size, width, size, 0, 0, width, size);
    return this.context.getImageData(0, 0, width, size).data;
  }
}

/** Returns the place and axes of the camera at an angle, about the point all cameras look at. */
export function cameraAt(yawDeg, pitchDeg, distance) {
  const [sy, cy] = [Math.sin(yawDeg * DEGREE), Math.cos(yawDeg * DEGREE)];
  const [sp, cp] = [Math.sin(pitchDeg * DEGREE), Math.cos(pitchDeg * DEGREE)];
  const toCamera = [sy * cp, sp, cy * cp];
  return {
    position: toCamera.map((x) => x * distance),
    axes: [cy, 0, -sy, sy * sp, -cp, cy * sp, ...toCamera.map((x) => -x)], // right, down, forward
  };
}

/** Returns the up to four views around an angle: [{column, row, weight, yaw, pitch}]. */
export function neighbours(views, yaw, pitch) {
  const across = between(yaw, views.yawRange, views.columns);
  const down = between(-pitch, views.pitchRange, views.rows);
  const found = [];
  for (const [column, x] of across) {
    for (const [row, y] of down) {
      if (x * y < 1e-3) continue;
      found.push({
        column,
        row,
        weight: x * y,
        yaw: angle(column, views.yawRange, views.columns),
        pitch: -angle(row, views.pitchRange, views.rows),
      });
    }
  }
  const total = found.reduce((sum, view) => sum + view.weight, 0);
  for (const view of found) view.weight /= total;
  return found;
}

function angle(index, range, count) {
  return count > 1 ? (2 * index / (count - 1) - 1) * range : 0;
}

function between(value, range, count) {
  if (count < 2 || range === 0) return [[count >> 1, 1]];
  const place = Math.min(Math.max((value / range + 1) / 2, 0), 1) * (count - 1);
  const low = Math.min(Math.floor(place), count - 2);
  const part = place - low;
  const eased = part * part * (3 - 2 * part); // most of the way one view leads
  return [[low, 1 - eased], [low + 1, eased]];
}
