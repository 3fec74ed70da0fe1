// Puts the orbit viewer into the Portrait Viewer node, in the classic renderer and in Nodes 2.0.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { OrbitViewer } from "./orbit/viewer.js";

const NODE = "FreeStylePortraitViewer";
const RECORD = "freestyle_orbit"; // as in nodes/viewer.py
const STORE = "FreeStyle3D.PortraitViewer"; // the last run of every viewer, over reloads
const LOCALE = "Comfy.Locale"; // ComfyUI's setting
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

/** The node's own mark, saved with the workflow, and its id, which a pasted copy does not share. */
function keyOf(node) {
  return `${node.properties.viewer_id}:${node.id}`;
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

/** Returns the language the user chose; undefined where the frontend is too old to say. */
function localeNow() {
  return app.extensionManager?.setting?.get?.(LOCALE);
}

/** Keeps a viewer in the user's language; returns what stops it. */
function translate(viewer) {
  const { settings } = app.ui ?? {};
  const change = ({ detail }) => (viewer.locale = detail?.value);
  settings?.addEventListener?.(`${LOCALE}.change`, change);
  return () => settings?.removeEventListener?.(`${LOCALE}.change`, change);
}

/** Shows how far a run is, from ComfyUI's messages; returns what stops it. */
function follow(node, viewer) {
  const progress = ({ detail }) => {
    const id = String(detail.node).split(":").pop(); // inside a subgraph: "12:4"
    if (id === String(node.id)) viewer.progress = [detail.value, detail.max];
  };
  const end = () => (viewer.progress = null);
  const heard = { progress, executing: end, execution_error: end, execution_interrupted: end };
  for (const [name, what] of Object.entries(heard)) api.addEventListener(name, what);
  return () => {
    for (const [name, what] of Object.entries(heard)) api.removeEventListener(name, what);
  };
}

function addViewer(node) {
  const viewer = new OrbitViewer({ forward, locale: localeNow() });
  node.freestyleViewer = viewer;
  node.properties.viewer_id = Math.random().toString(36).slice(2, 12); // a saved one replaces it
  const unfollow = follow(node, viewer);
  const untranslate = translate(viewer);
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
  chain(node, "onRemoved", () => {
    unfollow();
    untranslate();
    viewer.dispose();
  });
}

app.registerExtension({
  name: "freestyle3dportraits.PortraitViewer",
  nodeCreated(node) {
    if (node.comfyClass === NODE) addViewer(node);
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) restore(node);
  },
});
