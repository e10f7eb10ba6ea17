/** Draw, drop or choose an image, and see its latents, reconstruction and scores. */

import { button, field, h, messageOf, panel, pointerIn } from "./dom.js";
import { newest } from "./frames.js";
import { centred, paintSheet, readPixels, sheetCanvas } from "./pixels.js";
import { posteriorChart } from "./posterior.js";
import { repeat } from "./store.js";

const PAPER = 280; // approximate canvas pixels of the longer side
const BRUSH = 0.085; // width relative to that side; at least 1.8 of the model's pixels

export function drawPanel(app) {
  const { model, store, showStatus, signal } = app;
  const paper = drawingArea(model.image, () => read());
  const grey = model.image.channels === 1;
  const centre = h("input", { type: "checkbox", checked: grey && model.image.height >= 16, onchange: () => read() });
  const invert = h("input", { type: "checkbox", onchange: () => read() });
  const seen = sheetCanvas(model.image, { role: "img", "aria-label": "What the model sees" });
  const back = sheetCanvas(model.image, { role: "img", "aria-label": "Its reconstruction" });
  const scores = h("dl", { class: "scores" });
  const guess = h("ol", { class: "guess", "aria-label": "Labels that fit best" });
  const chart = posteriorChart(app);
  const caption = `${model.family === "ae" ? "its latents" : "posterior, mean ± 2 σ"}, in the order of the sliders`;
  const result = h(
    "div", { class: "result", hidden: true },
    h("div", { class: "pair" }, figure(seen, "seen"), figure(back, "reconstruction")),
    scores, guess, figure(chart.node, caption),
  );

  function read() {
    let pixels = paper.pixels();
    if (invert.checked) pixels = pixels.map((value) => 1 - value);
    if (centre.checked) pixels = centred(pixels, model.image);
    infer(pixels);
  }

  const infer = newest(async (pixels) => {
    result.setAttribute("aria-busy", "true");
    try {
      const found = await understand(model, pixels);
      result.hidden = false;
      paintSheet(seen, pixels, model.image);
      paintSheet(back, found.reconstruction, model.image);
      scores.replaceChildren(...found.scores.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
      guess.replaceChildren(...found.guesses.map(([name, probability]) => bar(name, probability)));
      chart.show(found);
      store.set({ z: found.mu, label: found.label, origin: { by: "drawn" } });
    } catch (error) {
      showStatus(messageOf(error));
    }
    result.setAttribute("aria-busy", "false");
  });

  const open = async (file) => {
    try {
      paper.put(await createImageBitmap(file));
      read();
    } catch {
      showStatus(`${file.name}: not an image that this browser can read. Expected PNG, JPEG, WebP or BMP.`);
    }
  };
  const chooser = h("input", {
    type: "file", accept: "image/*", class: "away", tabindex: -1, "aria-label": "Choose an image",
    onchange: () => chooser.files[0] && open(chooser.files[0]),
  });
  window.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) open(file);
  }, { signal });
  app.openImage = open;

  let turn = 0;
  const example = async () => {
    const { images, n } = await model.examples();
    const { size } = model.image;
    const at = turn++ % n;
    const image = images.slice(at * size, (at + 1) * size);
    paintSheet(seen, image, model.image);
    paper.put(seen);
    infer(image);
  };
  return panel(
    "draw", "Draw or drop", "All panels follow the latents of your drawing.",
    paper.node, chooser,
    h("div", { class: "row" },
      button("Clear", () => { paper.clear(); result.hidden = true; }, { id: "clear" }),
      button("Choose", () => chooser.click(), { title: "Choose an image file" }), button("An example", example, { id: "example" })),
    h("div", { class: "row" }, grey ? field("Centre it", centre) : null, field("Invert", invert)), result,
  );
}

/** Score the image with every label, then encode it with the label of the lowest negative ELBO. */
async function understand(model, pixels) {
  const n = model.classes.length || 1;
  const labels = model.classes.length ? Int32Array.from(model.classes.keys()) : null;
  const score = await model.score(repeat(pixels, n), { label: labels });
  const best = score.negativeElbo.indexOf(Math.min(...score.negativeElbo));
  const label = labels ? best : null;
  const { mu, logVar } = await model.posterior(pixels, label);
  const weights = Array.from(score.negativeElbo, (value) => Math.exp(score.negativeElbo[best] - value));
  const total = weights.reduce((sum, weight) => sum + weight);
  const guesses = labels
    ? model.classes.map((name, i) => [name, weights[i] / total]).sort((a, b) => b[1] - a[1]).slice(0, 3)
    : [];
  const scores = [["error per pixel", score.error[best].toFixed(4)]];
  if (logVar) scores.push(["KL", `${score.kl[best].toFixed(1)} nats`]);
  scores.push([logVar ? "negative ELBO" : "misfit", `${score.negativeElbo[best].toFixed(1)}${model.likelihood === "bernoulli" ? " nats" : ""}`]);
  return { mu, logVar, label, guesses, scores, reconstruction: await model.decode(mu, label) };
}

function drawingArea(shape, changed) {
  const { channels, height, width } = shape;
  const scale = Math.max(1, Math.floor(PAPER / Math.max(height, width)));
  const canvas = h("canvas", {
    class: "paper", id: "paper", width: width * scale, height: height * scale, role: "img",
    "aria-label": "Drawing area; with a keyboard, choose an image or an example instead",
  });
  const colour = h("input", { type: "color", value: "#ffffff", "aria-label": "Colour of the brush" });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const lineWidth = scale * Math.max(BRUSH * Math.max(height, width), 1.8);
  const ghost = h("span", { class: "ghost", "aria-hidden": "true" }, "draw here");
  const clear = () => {
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
    ghost.hidden = false;
  };
  let from = null;
  const stroke = (event) => {
    const [u, v] = pointerIn(canvas, event);
    const to = [u * canvas.width, v * canvas.height];
    Object.assign(context, { strokeStyle: colour.value, lineWidth, lineCap: "round" });
    context.beginPath();
    context.moveTo(...(from ?? to));
    context.lineTo(...to);
    context.stroke();
    from = to;
    ghost.hidden = true;
    changed();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    from = null;
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && stroke(event));
  clear();
  return {
    canvas,
    clear,
    pixels: () => readPixels(context, shape, scale),
    node: h("div", { class: "easel" }, h("div", { class: "under" }, canvas, ghost), channels === 1 ? null : field("Brush", colour)),
    put(image) {
      clear();
      ghost.hidden = true;
      const fit = Math.min(canvas.width / image.width, canvas.height / image.height);
      const [w, tall] = [image.width * fit, image.height * fit];
      Object.assign(context, { imageSmoothingEnabled: fit < 1, imageSmoothingQuality: "high" });
      context.drawImage(image, (canvas.width - w) / 2, (canvas.height - tall) / 2, w, tall);
    },
  };
}

function figure(canvas, text) {
  return h("figure", {}, canvas, h("figcaption", {}, text));
}

function bar(name, probability) {
  const fill = h("i", {});
  fill.style.setProperty("--share", probability.toFixed(3));
  return h("li", {}, h("b", {}, name), fill, h("span", {}, `${Math.round(100 * probability)}%`));
}
