// Puts the orbit viewer into the Portrait Viewer node, in the classic renderer and in Nodes 2.0.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { OrbitViewer } from "./orbit/viewer.js";

const NODE = "FreeStylePortraitViewer";
const RECORD = "freestyle_orbit"; // as in nodes/viewer.py
const STORE = "FreeStyle3D.PortraitViewer"; // the last run of every viewer, over reloads
const KEPT = 40; // viewers remembered
const SIZE = [420, 640]; // of a new node, pixels
const LEAST = 220; // height of the viewer, pixels

function memory() {
  try {
    return new Map(JSON.parse(localStorage.getItem(STORE) ?? "[]"));
  } catch {
    return new Map();
  }
}

function remember(node, change) {
  const all = memory();
  const key = keyOf(node);
  const entry = { ...all.get(key), ...change };
  all.delete(key); // the newest come last
  all.set(key, entry);
  try {
    localStorage.setItem(STORE, JSON.stringify([...all].slice(-KEPT)));
  } catch {
    // no room or not allowed: the views then do not survive a reload
  }
}

function keyOf(node) {
  const graph = node.graph ?? app.graph;
  return [graph?.rootGraph?.id ?? graph?.id, graph?.id, node.id].join(":");
}

function show(node, record) {
  if (!record?.file) return;
  const url = api.apiURL(`/view?${new URLSearchParams(record.file)}`);
  node.freestyleViewer?.show(record, url);
}

function restore(node) {
  const { record, pose } = memory().get(keyOf(node)) ?? {};
  if (!record) return;
  if (pose) node.freestyleViewer.pose = pose;
  show(node, record);
}

/** Gives the graph what is not for the viewer: the wheel, and the middle button that pans. */
function forward(event) {
  const { canvas } = app;
  if (event.type === "wheel") {
    event.preventDefault();
    event.stopPropagation();
    canvas.canvas.dispatchEvent(new WheelEvent("wheel", event));
  } else if (event.type === "pointerdown") canvas.processMouseDown(event);
  else if (event.type === "pointermove") canvas.processMouseMove(event);
  else canvas.processMouseUp(event);
}

function chain(node, name, after) {
  const before = node[name];
  node[name] = function (...values) {
    const result = before?.apply(this, values);
    after.apply(this, values);
    return result;
  };
}

function addViewer(node) {
  const viewer = new OrbitViewer({ forward });
  node.freestyleViewer = viewer;
  const widget = node.addDOMWidget("viewer", "FREESTYLE_ORBIT", viewer.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => LEAST,
    getValue: () => undefined,
    setValue: () => {},
  });
  widget.serialize = false;
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
  viewer.element.addEventListener("posed", () => remember(node, { pose: viewer.pose }));
  chain(node, "onExecuted", (output) => {
    const record = output?.[RECORD]?.[0];
    if (!record) return;
    remember(node, { record, pose: viewer.pose });
    show(node, record);
  });
  chain(node, "onResize", () => viewer.refresh());
  chain(node, "onRemoved", () => viewer.dispose());
}

app.registerExtension({
  name: "FreeStyle3DPortraits.PortraitViewer",
  nodeCreated(node) {
    if (node.comfyClass === NODE) addViewer(node);
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) restore(node);
  },
});
