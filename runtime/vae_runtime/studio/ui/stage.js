/** The image itself, and how a new one is drawn: seed, temperature, prior. */

import { button, card, choice, field, h } from "./dom.js";
import { paintSheet, sheetCanvas } from "./pixels.js";

export function stagePanel(app) {
  const { model, store, frames } = app;
  const canvas = sheetCanvas(model.image, { class: "image", role: "img", "aria-label": "The image of the current code" });
  frames.add({
    element: canvas,
    rank: 0,
    reads: ["z", "label"],
    codes: ({ z, label }) => ({ z, labels: label }),
    paint: (images) => paintSheet(canvas, images, model.image),
  });
  store.on(["label"], ({ label }) => {
    const what = label === null ? "" : `, label ${model.classes[label]}`;
    canvas.setAttribute("aria-label", `The image of the current code${what}`);
  });
  return card("stage", "Image", null, h("div", { class: "frame" }, canvas), drawing(app));
}

/** Surprise me, and what shapes the draw. The same seed gives the digits that Python gives. */
function drawing(app) {
  const { model, store } = app;
  const seed = h("input", {
    type: "number", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, class: "seed",
    onchange: () => Number.isSafeInteger(seed.valueAsNumber) && seed.valueAsNumber >= 0 && draw(app, { seed: seed.valueAsNumber }),
  });
  const warm = h("input", {
    type: "range", min: 0, max: 2, step: 0.05,
    oninput: () => draw(app, { temperature: warm.valueAsNumber }),
  });
  const degrees = h("output", {});
  const prior = choice(
    [["fitted", "fitted"], ["normal", "normal, N(0, I)"]], "fitted", (value) => draw(app, { prior: value }),
    { id: "prior", title: `Fitted: the bundle's own ${model.prior.kind.replace("_", " ")}` },
  );
  store.on(["seed", "temperature", "prior"], (state) => {
    seed.value = state.seed;
    warm.value = state.temperature;
    degrees.value = state.temperature.toFixed(2);
    prior.value = state.prior;
  });
  return h(
    "div", { class: "drawing" },
    h("div", { class: "row" },
      button("Surprise me", () => draw(app, { seed: app.freshSeed() }), { class: "primary", id: "surprise", title: "Draw a new code (S)" }),
      button("Reset", () => reset(app), { id: "reset", title: "Every dimension to the prior's mean (R)" })),
    field("Seed", seed),
    field("Temperature", warm, degrees),
    field("Prior", prior),
  );
}

/** Draw the code that `model.draw(1, label, seed, …)` draws in Python. */
export function draw({ model, store }, changes) {
  const { seed, temperature, prior, label } = { ...store.get(), ...changes };
  store.set({ ...changes, z: model.sample({ n: 1, seed, label, temperature, prior }) });
}

export function reset({ store, centre }) {
  store.set({ z: Float32Array.from(centre) });
}

/** The image small in a corner while the large one is off the screen. */
export function loupe({ model, store, frames }, stage) {
  const canvas = sheetCanvas(model.image, { class: "loupe", "aria-hidden": "true" });
  frames.add({
    element: canvas,
    rank: 0,
    reads: ["z", "label"],
    codes: ({ z, label }) => ({ z, labels: label }),
    paint: (images) => paintSheet(canvas, images, model.image),
  });
  new IntersectionObserver(([{ isIntersecting }]) => { canvas.hidden = isIntersecting; }).observe(stage.querySelector("canvas"));
  return canvas;
}
