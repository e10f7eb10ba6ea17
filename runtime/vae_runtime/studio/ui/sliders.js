/** One slider per coordinate of the prior (its dimensions or principal directions), the largest effect first; inactive dimensions are folded away. */

import { h, panel } from "./dom.js";
import { sheetCanvas } from "./pixels.js";
import { repeat, withDims } from "./store.js";

const SPAN = 3; // standard deviations of the prior in each direction
const TILES = 9; // images below a slider

export function slidersPanel(app) {
  const { activity } = app;
  const rows = Array.from(activity.order, (dim) => [dim, row(app, dim)]);
  const active = rows.filter(([dim]) => activity.active[dim]).map(([, node]) => node);
  const folded = rows.filter(([dim]) => !activity.active[dim]).map(([, node]) => node);
  const more = folded.length
    ? h("details", { class: "folded" }, h("summary", {}, `${folded.length} inactive: they change almost nothing`), ...folded)
    : null;
  return panel(
    "sliders", "Dimensions", "The largest effect comes first. Double-click or press Delete to reset one.",
    h("div", { class: "rows" }, ...active), more,
  );
}

function row(app, dim) {
  const { model: { prior }, store, range, activity } = app;
  const { low, high, step } = range(dim);
  const name = `z${dim}`;
  const value = h("output", {});
  const slider = h("input", {
    type: "range", min: low, max: high, step, id: name, "aria-label": `Dimension ${dim}`,
    oninput: () => store.set({ z: withDims(prior, store.get().z, [dim, slider.valueAsNumber]) }),
    ondblclick: () => back(),
    onkeydown: (event) => {
      if (event.key !== "Delete" && event.key !== "Backspace") return;
      event.preventDefault();
      back();
    },
  });
  const back = () => store.set({ z: withDims(prior, store.get().z, [dim, app.centre[dim]]) });
  let shown = NaN;
  store.on(["z"], ({ z }) => {
    const now = prior.coordinate(z, dim);
    if (now === shown) return;
    shown = now;
    slider.value = shown;
    value.value = number(shown);
    slider.setAttribute("aria-valuetext", number(shown));
  });
  const share = activity.effect[dim] / (activity.effect[activity.order[0]] || 1);
  const bar = h("i", { class: "effect", title: `moves each pixel by ${activity.effect[dim].toFixed(3)} on average` });
  bar.style.setProperty("--share", share.toFixed(3));
  return h("div", { class: "row slider" }, h("label", { htmlFor: name }, name, bar), h("div", { class: "track" }, slider, film(app, dim)), value);
}

/** The image at nine positions of the slider. It is decoded last, when nothing else is waiting. */
function film({ model, frames, range }, dim) {
  const canvas = sheetCanvas(model.image, { class: "film", "aria-hidden": "true" }, [TILES, 1, 1]);
  const { low, high } = range(dim);
  frames.add({
    canvas,
    columns: TILES,
    gap: 1,
    rank: 2,
    latents: ({ z, label }) => ({
      z: repeat(z, TILES, (row, i) => withDims(model.prior, row, [dim, low + ((high - low) * i) / (TILES - 1)])),
      labels: label,
    }),
  });
  return canvas;
}

/** The ends and step of each slider, in round numbers: mean ± 3 standard deviations of the prior. */
export function rangeOf({ mean, std }) {
  return (dim) => {
    const spread = Math.max(std[dim], 1e-3);
    const step = 10 ** Math.floor(Math.log10(spread / 20));
    const round = (value) => Number((Math.round(value / step) * step).toPrecision(12));
    return { low: round(mean[dim] - SPAN * spread), high: round(mean[dim] + SPAN * spread), step };
  };
}

function number(value) {
  const text = value.toFixed(Math.abs(value) < 100 ? 2 : 0);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}
