// Draws a portrait from any angle with WebGL2. A pixel of the picture is looked up in the nearest
// views at the place where its point of the surface is there, so the views do not ghost between
// two angles as in a plain crossfade.

import { cameraAt, neighbours } from "./views.js";

const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp sampler2DArray;
uniform sampler2DArray images;  // premultiplied
uniform sampler2DArray depths;  // 0..1 between near and far
uniform vec2 size;              // canvas, pixels
uniform vec3 frame;             // left, top, side of the picture, pixels
uniform float split;            // pixels: the second portrait is left of it
uniform float side;             // pixels per side of a view
uniform float enlarged;         // 1 when a view's pixel covers more than one of the screen
uniform float matted;           // 1 when the head is cut out
uniform float second;           // first layer of the second portrait
uniform vec4 reach;             // near, far of the first portrait and of the second
uniform float focal;
uniform vec3 eye;
uniform mat3 axes;              // columns: right, down, forward
uniform int count;
uniform float layers[4];
uniform float weights[4];
uniform vec3 eyes[4];
uniform mat3 axesOf[4];
uniform vec3 tint;
out vec4 color;

const float HIDDEN = 0.04;  // scene units between two surfaces

float depthAt(int i, vec2 uv, float first, vec2 range) {
  return mix(range.x, range.y, texture(depths, vec3(uv, first + layers[i])).r);
}

vec2 seenFrom(int i, vec3 point) {
  vec3 p = (point - eyes[i]) * axesOf[i];  // = transpose(axes) * p
  return p.xy / p.z * focal + 0.5;
}

vec4 crisp(vec2 uv, float layer) {  // cubic convolution (Keys 1981), -0.75, in nine taps
  vec2 p = uv * side, c = floor(p - 0.5) + 0.5, f = p - c;
  vec2 w0 = -0.75 * f * (1.0 - f) * (1.0 - f);
  vec2 w1 = (1.25 * f - 2.25) * f * f + 1.0;
  vec2 w3 = -0.75 * f * f * (1.0 - f);
  vec2 w2 = 1.0 - w0 - w1 - w3;
  vec2 w = w1 + w2, a = (c - 1.0) / side, b = (c + w2 / w) / side, d = (c + 2.0) / side;
  vec4 sum = textureLod(images, vec3(b, layer), 0.0) * w.x * w.y;
  sum += textureLod(images, vec3(a.x, b.y, layer), 0.0) * w0.x * w.y;
  sum += textureLod(images, vec3(d.x, b.y, layer), 0.0) * w3.x * w.y;
  sum += textureLod(images, vec3(b.x, a.y, layer), 0.0) * w.x * w0.y;
  sum += textureLod(images, vec3(b.x, d.y, layer), 0.0) * w.x * w3.y;
  sum += textureLod(images, vec3(a, layer), 0.0) * w0.x * w0.y;
  sum += textureLod(images, vec3(d.x, a.y, layer), 0.0) * w3.x * w0.y;
  sum += textureLod(images, vec3(a.x, d.y, layer), 0.0) * w0.x * w3.y;
  sum += textureLod(images, vec3(d, layer), 0.0) * w3.x * w3.y;
  return sum;
}

vec4 portrait(vec2 uv, float first, vec2 range) {
  vec3 ray = normalize(axes * vec3((uv - 0.5) / focal, 1.0));
  float z = 0.0;
  for (int i = 0; i < count; i++) z += weights[i] * depthAt(i, uv, first, range);
  for (int step = 0; step < 2; step++) {
    vec3 point = eye + z * ray;
    float next = 0.0;
    for (int i = 0; i < count; i++) {
      float there = depthAt(i, seenFrom(i, point), first, range);
      next += weights[i] * (there + z - distance(point, eyes[i]));
    }
    z = next;
  }
  vec3 point = eye + z * ray;
  vec4 sum = vec4(0.0);
  float total = 0.0;
  for (int i = 0; i < count; i++) {
    vec2 there = seenFrom(i, point);
    float hidden = (depthAt(i, there, first, range) - distance(point, eyes[i])) / HIDDEN;
    float weight = weights[i] * (exp(-hidden * hidden) + 0.02);  // does this view see the point?
    float layer = first + layers[i];
    vec4 seen = enlarged > 0.5 ? crisp(there, layer) : texture(images, vec3(there, layer));
    sum += weight * seen;
    total += weight;
  }
  sum /= total;
  sum.a = clamp(sum.a, 0.0, 1.0);
  return vec4(clamp(sum.rgb, 0.0, sum.a), sum.a);
}

float noise(vec2 p) {
  return fract(52.9829189 * fract(dot(p, vec2(0.06711056, 0.00583715)))) - 0.5;
}

void main() {
  vec2 pixel = vec2(gl_FragCoord.x, size.y - gl_FragCoord.y);
  vec2 place = (pixel - 0.5 * size) / min(size.x, size.y);
  vec2 uv = (pixel - frame.xy) / frame.z;

  float glow = exp(-dot(place - vec2(0.0, -0.06), place - vec2(0.0, -0.06)) * 3.2);
  vec3 room = mix(vec3(0.030, 0.032, 0.038), vec3(0.115, 0.120, 0.132) + 0.13 * tint, glow);
  vec2 ground = (uv - vec2(0.5, 1.0)) / vec2(0.52, 0.17);
  room *= 1.0 - 0.72 * matted * exp(-dot(ground, ground) * 1.4);

  vec4 head = vec4(0.0);
  if (all(greaterThan(uv, vec2(0.0))) && all(lessThan(uv, vec2(1.0)))) {
    bool other = pixel.x < split;
    head = portrait(uv, other ? second : 0.0, other ? reach.zw : reach.xy);
    vec2 rim = min(uv, 1.0 - uv);
    if (matted > 0.5) head *= smoothstep(0.0, 0.06, rim.x) * smoothstep(0.0, 0.025, uv.y);
    head.rgb *= 1.0 - 0.34 * matted * smoothstep(0.80, 1.0, uv.y);
  }
  vec3 rgb = head.rgb + (1.0 - head.a) * room;
  rgb *= 1.0 - 0.30 * smoothstep(0.35, 0.95, length(place));
  color = vec4(rgb + noise(gl_FragCoord.xy) / 255.0, 1.0);
}`;

export class StageGL {
  /** Throws when the browser has no WebGL2, or no room for that many views. */
  constructor(views) {
    this.canvas = document.createElement("canvas");
    const options = { alpha: false, antialias: false, preserveDrawingBuffer: true };
    const gl = (this.gl = this.canvas.getContext("webgl2", options));
    if (!gl) throw new Error("no WebGL2");
    const layers = views.perPortrait * views.portraits.length;
    if (layers > gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS)) throw new Error("too many views");
    this.views = views;
    this.program = link(gl);
    this.places = {};
    this.tint = views.tint();
    this.textures = this.#upload(layers);
  }

  draw({ yaw, pitch, frame, split }) {
    const { gl, views, canvas } = this;
    const near = neighbours(views, yaw, pitch);
    const here = cameraAt(yaw, pitch, views.distance);
    const there = near.map((view) => cameraAt(view.yaw, view.pitch, views.distance));
    const [first, second = first] = views.portraits;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.useProgram(this.program);
    this.textures.forEach((texture, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    });
    const at = (name) => (this.places[name] ??= gl.getUniformLocation(this.program, name));
    gl.uniform1i(at("images"), 0);
    gl.uniform1i(at("depths"), 1);
    gl.uniform2f(at("size"), canvas.width, canvas.height);
    gl.uniform3f(at("frame"), ...frame);
    gl.uniform1f(at("split"), split);
    gl.uniform1f(at("side"), views.tile);
    gl.uniform1f(at("enlarged"), frame[2] > views.tile ? 1 : 0);
    gl.uniform1f(at("matted"), views.matte ? 1 : 0);
    gl.uniform1f(at("second"), views.portraits.length > 1 ? views.perPortrait : 0);
    gl.uniform4f(at("reach"), first.near, first.far, second.near, second.far);
    gl.uniform1f(at("focal"), views.focal);
    gl.uniform3fv(at("eye"), here.position);
    gl.uniformMatrix3fv(at("axes"), false, here.axes);
    gl.uniform1i(at("count"), near.length);
    gl.uniform1fv(at("layers"), near.map((view) => view.row * views.columns + view.column));
    gl.uniform1fv(at("weights"), near.map((view) => view.weight));
    gl.uniform3fv(at("eyes"), there.flatMap((camera) => camera.position));
    gl.uniformMatrix3fv(at("axesOf"), false, there.flatMap((camera) => camera.axes));
    gl.uniform3fv(at("tint"), this.tint);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  dispose() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext(); // a page may hold about 16
    this.canvas.remove();
    this.canvas.width = this.canvas.height = 0;
  }

  #upload(layers) {
    const { gl, views } = this;
    const half = views.tile / 2;
    const images = texture(gl, gl.RGBA8, views.tile, layers, 1 + Math.floor(Math.log2(views.tile)));
    for (let part = 0; part < views.portraits.length; part++) {
      for (let row = 0; row < views.rows; row++) {
        const first = part * views.perPortrait + row * views.columns;
        this.#tiles(views.imageRow(part, row), views.tile, first, gl.RGBA);
      }
    }
    gl.generateMipmap(gl.TEXTURE_2D_ARRAY);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    const depths = texture(gl, gl.R8, half, layers, 1);
    for (let part = 0; part < views.portraits.length; part++) {
      for (let row = 0; row < views.rows; row++) {
        const first = part * views.perPortrait + row * views.columns;
        this.#tiles(views.depthRow(part, row), half, first, gl.RED);
      }
    }
    return [images, depths];
  }

  #tiles(pixels, size, first, format) {
    const { gl, views } = this;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, views.columns * size);
    for (let column = 0; column < views.columns; column++) {
      gl.pixelStorei(gl.UNPACK_SKIP_PIXELS, column * size);
      gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, first + column, size, size, 1, format,
        gl.UNSIGNED_BYTE, pixels);
    }
  }
}

function texture(gl, format, size, layers, levels) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D_ARRAY, made);
  gl.texStorage3D(gl.TEXTURE_2D_ARRAY, levels, format, size, size, layers);
  gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  return made;
}

function link(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost()) {
      throw new Error(gl.getShaderInfoLog(shader));
    }
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  return program;
}
