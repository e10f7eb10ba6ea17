/** Interpolation between two pinned latents: a strip of images, a slider and a play button. */

import { button, choice, field, h, panel, pointerIn } from "./dom.js";
import { sheetCanvas } from "./pixels.js";
import { canRecord, saveGif, saveVideo } from "./recording.js";
import { labelsAt, pathOf } from "./store.js";

const TILES = 11;
const FINE = 256; // steps of the slider: a power of two, as in decimals 1 / 240 is inexact, and Firefox then stops short of 1
const LAP = 4000; // ms from A to B when playing

export function morphPanel(app) {
  const { model, store, frames } = app;
  const strip = sheetCanvas(model.image, { class: "strip", role: "img", "aria-label": "From A to B" }, [TILES, 1, 1]);
  const slider = h("input", {
    type: "range", min: 0, max: 1, step: 1 / FINE, id: "morph-t", "aria-label": "Position between A and B",
    oninput: () => moveTo(slider.valueAsNumber),
  });
  const play = button("Play", () => (player.timer ? player.stop() : player.start()), { id: "play", title: "Play (P)" });
  const saves = [
    button("GIF of the morph", () => saveGif(app), { id: "save-gif" }),
    button("WebM", () => saveVideo(app), { id: "save-webm", hidden: !canRecord, title: "Record the morph as a video" }),
  ];
  const how = choice(store, "how", [["linear", "linear"], ["spherical", "spherical"]], { id: "how" }, (value) => {
    store.set({ how: value });
    moveTo(store.get().t);
  });

  const moveTo = (t) => {
    const path = pathOf(store.get(), FINE + 1);
    if (!path) return;
    const at = Math.round(t * FINE);
    const { a, b, how } = store.get();
    store.set({
      t, origin: { by: "morphed", t, how, a: plain(a), b: plain(b) }, ...labelsAt(a, b, at / FINE),
      z: path.slice(at * model.latentDim, (at + 1) * model.latentDim),
    });
  };
  const player = playerOf(play, store, moveTo);
  app.signal.addEventListener("abort", player.stop);

  frames.add({
    canvas: strip,
    columns: TILES,
    gap: 1,
    reads: ["a", "b", "how"],
    latents: (state) => ({ z: pathOf(state, TILES), labels: state.a?.label, mix: mixOf(state) }),
  });
  strip.addEventListener("pointerdown", (event) => {
    moveTo(Math.min(1, Math.max(0, pointerIn(strip, event)[0] * TILES - 0.5) / (TILES - 1)));
  });
  store.on(["a", "b", "t"], ({ a, b, t }) => {
    const whole = Boolean(a && b);
    for (const control of [slider, play, ...saves]) control.disabled = !whole;
    strip.hidden = !whole;
    if (!whole) player.stop();
    slider.value = t;
  });
  return panel(
    "morph", "Morph", "Pin two images, also of two labels, then move from one to the other.",
    h("div", { class: "row" }, pin(app, "a"), pin(app, "b"), field("Path", how)),
    strip, slider, h("div", { class: "row" }, play, ...saves),
  );
}

/** A pin for JSON. */
function plain({ z, label }) {
  return { z: [...z], label };
}

/** How much of B's label the images of the strip have; null if both labels are the same. */
function mixOf({ a, b }) {
  if (!a || !b || a.label === b.label) return null;
  return { label: b.label, shares: Float32Array.from({ length: TILES }, (_, i) => i / (TILES - 1)) };
}

/** A button that pins the current latents with their label, and shows their image. */
function pin(app, key) {
  const { model, store, frames } = app;
  const name = key.toUpperCase();
  const canvas = sheetCanvas(model.image, { "aria-hidden": "true" });
  const caption = h("span", {});
  const take = () => {
    const { z, label } = store.get();
    store.set({ [key]: { z, label }, mix: null });
  };
  const node = h("button", { type: "button", class: `pin pin-${key}`, id: `pin-${key}`, title: `Pin the current latents and their label as ${name} (${name})`, onclick: take }, canvas, caption);
  store.on([key], (state) => {
    canvas.hidden = !state[key];
    const { label = null } = state[key] ?? {};
    caption.textContent = label === null ? `Pin ${name}` : `${name}: ${model.classes[label]}`;
  });
  frames.add({
    canvas,
    element: node,
    reads: [key],
    latents: (state) => state[key] && { z: state[key].z, labels: state[key].label },
  });
  return node;
}

/** Moves back and forth with the clock; in a few steps for people who prefer reduced motion. */
function playerOf(play, store, moveTo) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const player = {
    timer: 0,
    start() {
      const began = performance.now() - store.get().t * LAP;
      const tick = (now) => {
        const lap = ((now - began) / LAP) % 2;
        const t = lap < 1 ? lap : 2 - lap;
        moveTo(calm.matches ? Math.round(t * (TILES - 1)) / (TILES - 1) : t);
        player.timer = requestAnimationFrame(tick);
      };
      player.timer = requestAnimationFrame(tick);
      play.textContent = "Pause";
    },
    stop() {
      cancelAnimationFrame(player.timer);
      player.timer = 0;
      play.textContent = "Play";
    },
  };
  return player;
}
