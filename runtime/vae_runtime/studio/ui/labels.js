/** Shows the same latents with every label; clicking a tile chooses the label. */

import { h, panel } from "./dom.js";
import { paintEach, sheetCanvas } from "./pixels.js";
import { repeat } from "./store.js";

/** Returns null for a model without labels. */
export function labelsPanel({ model, store, frames }) {
  if (!model.classes.length) return null;
  const names = [...model.classes, "none"];
  const tiles = names.map((name, index) => {
    const value = index < model.classes.length ? index : null;
    const radio = h("input", { type: "radio", name: "label", value: String(index), onchange: () => store.set({ label: value }) });
    const canvas = sheetCanvas(model.image, { "aria-hidden": "true" });
    return { canvas, radio, value, node: h("label", { class: "tile", title: name }, radio, canvas, h("span", {}, name)) };
  });
  const strip = h("div", { class: "tiles", role: "radiogroup", "aria-label": "Label" }, ...tiles.map((tile) => tile.node));
  strip.style.setProperty("--longest", String(Math.max(...names.map((name) => name.length))));
  store.on(["label"], ({ label }) => {
    const { radio, node } = tiles.find(({ value }) => value === label);
    radio.checked = true;
    strip.scrollTo({ left: node.offsetLeft - strip.clientWidth / 2 }); // the row may be wider than a phone
  });

  frames.add({
    element: strip,
    reads: ["z"],
    latents: ({ z }) => ({ z: repeat(z, model.classes.length), labels: Int32Array.from(model.classes.keys()) }),
    paint: (images) => paintEach(tiles.slice(0, -1).map(({ canvas }) => canvas), images, model.image),
  });
  // Decoding without a label uses another graph.
  frames.add({ canvas: tiles.at(-1).canvas, reads: ["z"], latents: ({ z }) => ({ z, labels: null }) });
  return panel("labels", "Every label", "The same latents with each label.", strip);
}
