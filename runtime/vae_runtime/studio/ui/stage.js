/** The current image, and the controls for sampling new latents: seed, temperature, prior. */

import { freshSeed } from "../engine/rng.js";
import { button, choice, field, h, panel } from "./dom.js";
import { sheetCanvas } from "./pixels.js";

export function stagePanel(app) {
  const { model, store, frames } = app;
  const canvas = sheetCanvas(model.image, { class: "image", role: "img", "aria-label": "The current image" });
  frames.add({
    canvas, rank: 0, reads: ["z", "label", "mix", "hero"],
    latents: ({ hero, ...state }) => { const { z, label, mix } = hero ?? state; return { z, labels: label, mix }; },
  });
  store.on(["label"], ({ label }) => {
    const what = label === null ? "" : `, label ${model.classes[label]}`;
    canvas.setAttribute("aria-label", `The current image${what}`);
  });
  return panel("stage", "Image", null, h("div", { class: "frame" }, canvas), sampling(app));
}

/** The controls for sampling. The same seed gives the same images as in Python. */
function sampling(app) {
  const { model, store } = app;
  const seed = h("input", {
    type: "number", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, class: "seed",
    oninput: () => seed.setCustomValidity(""),
    onchange: () => {
      const usable = Number.isSafeInteger(seed.valueAsNumber) && seed.valueAsNumber >= 0;
      seed.setCustomValidity(usable ? "" : `A whole number from 0 to ${Number.MAX_SAFE_INTEGER}`);
      if (usable) sample(app, { seed: seed.valueAsNumber });
      else seed.reportValidity();
    },
  });
  const warm = h("input", {
    type: "range", min: 0, max: 2, step: 0.05,
    oninput: () => sample(app, { temperature: warm.valueAsNumber }),
  });
  const degrees = h("output", {});
  const title = `Fitted: the bundle's own ${model.prior.kind.replace("_", " ")}`;
  const priors = [["fitted", "fitted"], ["normal", "normal, N(0, I)"]];
  const prior = choice(store, "prior", priors, { id: "prior", title }, (value) => sample(app, { prior: value }));
  store.on(["seed", "temperature"], (state) => {
    seed.value = state.seed;
    seed.setCustomValidity("");
    warm.value = state.temperature;
    degrees.value = state.temperature.toFixed(2);
  });
  return h(
    "div", { class: "sampling" },
    h("div", { class: "row" },
      button("Surprise me", () => sample(app, surprise(model)), { class: "primary", id: "surprise", title: model.classes.length ? "New latents and a new label (S)" : "New latents (S)" }),
      model.classes.length ? button("Another", () => sample(app, { seed: freshSeed() }), { id: "another", title: "New latents, the same label (N)" }) : null,
      button("Reset", () => store.set({ z: Float32Array.from(app.centre) }), { id: "reset", title: "Set every dimension to the prior's mean (R)" })),
    field("Seed", seed),
    field("Temperature", warm, degrees),
    field("Prior", prior),
  );
}

/** A new seed and, where there are labels, any of them. */
function surprise({ classes }) {
  return { seed: freshSeed(), ...(classes.length ? { label: Math.floor(Math.random() * classes.length) } : {}) };
}

/** Sample the same latents as `model.sample_latents(1, label, seed, …)` in Python. */
function sample({ model, store }, changes) {
  const { seed, temperature, prior, label } = { ...store.get(), ...changes };
  const options = { seed, label, temperature, prior };
  store.set({ ...changes, z: model.sampleLatents(options), origin: { by: "sampled", ...options } });
}

/** A bar at the top with a small copy of the image, shown while the large one is off screen. */
export function loupe({ model, frames, store }, stage) {
  const canvas = sheetCanvas(model.image, { class: "loupe", hidden: true });
  const caption = h("span", {});
  frames.add({ canvas, rank: 0 });
  store.on(["label"], ({ label }) => { caption.textContent = label === null ? "" : model.classes[label]; });
  new IntersectionObserver(([{ isIntersecting }]) => { canvas.hidden = isIntersecting; }).observe(stage.querySelector("canvas"));
  return h("div", { class: "bar", "aria-hidden": "true" }, canvas, caption);
}
