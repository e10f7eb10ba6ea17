/** Style lock: one code under every label, live. A tile is also the choice of the label. */

import { card, h } from "./dom.js";
import { paintSheet, sheetCanvas } from "./pixels.js";

/** Null for a family without labels. */
export function labelsPanel({ model, store, frames }) {
  if (!model.classes.length) return null;
  const names = [...model.classes, "none"];
  const tiles = names.map((name, index) => {
    const value = index < model.classes.length ? index : null;
    const radio = h("input", { type: "radio", name: "label", value: String(index), onchange: () => store.set({ label: value }) });
    store.on(["label"], ({ label }) => { radio.checked = label === value; });
    const canvas = sheetCanvas(model.image, { "aria-hidden": "true" });
    return { canvas, node: h("label", { class: "tile" }, radio, canvas, h("span", {}, name)) };
  });
  const strip = h("div", { class: "tiles", role: "radiogroup", "aria-label": "Label" }, ...tiles.map((tile) => tile.node));
  const { size } = model.image;

  frames.add({
    element: strip,
    reads: ["z"],
    codes: ({ z }) => ({ z: repeat(z, model.classes.length), labels: Int32Array.from(model.classes.keys()) }),
    paint: (images) => tiles.slice(0, -1).forEach(({ canvas }, i) => {
      paintSheet(canvas, images.subarray(i * size, (i + 1) * size), model.image);
    }),
  });
  frames.add({ // without a label is another graph
    element: strip,
    reads: ["z"],
    codes: ({ z }) => ({ z, labels: null }),
    paint: (images) => paintSheet(tiles.at(-1).canvas, images, model.image),
  });
  return card("labels", "One code, every label", "The style stays, the label changes.", strip);
}

function repeat(z, n) {
  const codes = new Float32Array(n * z.length);
  for (let i = 0; i < n; i++) codes.set(z, i * z.length);
  return codes;
}
