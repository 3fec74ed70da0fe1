// Draws a portrait from any angle on a plain canvas: a crossfade of the nearest views. Used where
// WebGL2 is missing, or has no room for all views.

import { neighbours } from "./views.js";

export class Stage2D {
  constructor(views) {
    this.views = views;
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d");
    this.mixed = document.createElement("canvas");
    this.mixed.width = this.mixed.height = views.tile;
    this.tint = views.tint();
    this.sheets = views.portraits.map((_, part) => this.#sheet(part));
  }

  draw({ yaw, pitch, frame, split }) {
    const { context, canvas, views } = this;
    const near = neighbours(views, yaw, pitch);
    this.#room();
    context.imageSmoothingQuality = "high";
    this.sheets.forEach((sheet, part) => {
      this.#mix(sheet, near);
      context.save();
      context.beginPath();
      if (part === 0) context.rect(split, 0, canvas.width - split, canvas.height);
      else context.rect(0, 0, split, canvas.height);
      context.clip();
      context.drawImage(this.mixed, frame[0], frame[1], frame[2], frame[2]);
      context.restore();
    });
  }

  dispose() {
    for (const canvas of [this.canvas, this.mixed, ...this.sheets]) {
      canvas.remove();
      canvas.width = canvas.height = 0;
    }
  }

  #sheet(part) {
    const { views } = this;
    const sheet = document.createElement("canvas");
    sheet.width = views.columns * views.tile;
    sheet.height = views.rows * views.tile;
    const context = sheet.getContext("2d");
    for (let row = 0; row < views.rows; row++) {
      const pixels = views.imageRow(part, row);
      for (let i = 0; i < pixels.length; i += 4) {
        const scale = pixels[i + 3] ? 255 / pixels[i + 3] : 0; // ImageData is not premultiplied
        for (let c = i; c < i + 3; c++) pixels[c] *= scale;
      }
      context.putImageData(new ImageData(pixels, sheet.width), 0, row * views.tile);
    }
    return sheet;
  }

  #mix(sheet, near) {
    const { tile } = this.views;
    const context = this.mixed.getContext("2d");
    context.globalCompositeOperation = "copy";
    for (const view of near) {
      context.globalAlpha = view.weight;
      context.drawImage(sheet, view.column * tile, view.row * tile, tile, tile, 0, 0, tile, tile);
      context.globalCompositeOperation = "lighter"; // weights add up to one
    }
  }

  #room() {
    const { context, canvas, tint } = this;
    const [w, h] = [canvas.width, canvas.height];
    const side = Math.min(w, h);
    const glow = context.createRadialGradient(w / 2, 0.44 * h, 0, w / 2, 0.44 * h, 0.85 * side);
    const rgb = [0.115, 0.12, 0.132].map((x, i) => Math.round(255 * (x + 0.13 * tint[i])));
    glow.addColorStop(0, `rgb(${rgb})`);
    glow.addColorStop(1, "rgb(8 8 10)");
    context.fillStyle = glow;
    context.fillRect(0, 0, w, h);
  }
}
