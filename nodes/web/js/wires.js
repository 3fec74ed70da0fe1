// Gives each type of this pack a colour for its wires and sockets, in the classic renderer and in
// Nodes 2.0. A colour that the user's own palette has for one of them stays.

import { app } from "../../../scripts/app.js";

export const COLOURS = {
  FREESTYLE_EG3D: "#9c7bff", // violet
  FREESTYLE_I2T: "#f06bb8", // pink
  FREESTYLE_EDITOR: "#1fbfa6", // teal
  FREESTYLE_PORTRAIT: "#ff8552", // orange
  FREESTYLE_CAMERAS: "#d3ae35", // ochre
  FREESTYLE_STYLE: "#86c440", // green
};

/** Puts in what is missing. A new palette empties the entries of types it does not know. */
function paint(style) {
  const { canvas } = app;
  const classic = [canvas.default_connection_color_byType, canvas.constructor.link_type_colors];
  let painted = false;
  for (const [type, colour] of Object.entries(COLOURS)) {
    const property = `--color-datatype-${type}`; // what Nodes 2.0 looks up
    if (!style.getPropertyValue(property)) style.setProperty(property, colour);
    for (const known of classic.filter((known) => !known[type])) {
      Object.assign(known, { [type]: colour });
      painted = true;
    }
  }
  if (painted) canvas.setDirty(true, true);
}

app.registerExtension({
  name: "freestyle3dportraits.Wires",
  setup() {
    const root = document.documentElement;
    paint(root.style);
    // Loading a palette writes into this element's style, and there is no event for its end.
    new MutationObserver(() => paint(root.style)).observe(root, { attributeFilter: ["style"] });
  },
});
