/** A scatter plot of latents on two principal components or the grid's dimensions; hovering decodes. */

import { arrowOf, choice, field, h, panel, pointerIn } from "./dom.js";
import { pca } from "./pca.js";
import { paintEach, sheetCanvas } from "./pixels.js";
import { withDims } from "./store.js";

const NEAR = 12; // CSS pixels within which the pointer selects a point rather than a position
const MAX_LEGEND = 20;
const STEP = 8; // CSS pixels per arrow key

export function mapPanel(app, cloud) {
  const { model, store, frames, showStatus, signal } = app;
  const canvas = h("canvas", {});
  const ring = h("i", { class: "ring here" });
  const cursor = h("i", { class: "ring", hidden: true });
  const pins = { a: h("b", { class: "mark pin-a" }, "A"), b: h("b", { class: "mark pin-b" }, "B") };
  const peek = sheetCanvas(model.image);
  const bubble = h("div", { class: "bubble", hidden: true, "aria-hidden": "true" }, peek, h("span", {}));
  const plot = h("div", {
    class: "plot", id: "plot", tabindex: 0, role: "application",
    "aria-label": "Map of latents. Arrow keys move the cursor, Enter takes the latents under it.",
  }, canvas, pins.a, pins.b, ring, cursor, bubble);
  const view = { axes: null, scale: null };

  /** The position of latents on the plot, in CSS pixels. */
  const place = (z) => view.scale.to(...view.axes.project(z));

  function layout() {
    const { x, y, plane } = store.get();
    view.axes = axesOf(cloud, plane, [x, y], model);
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [plot.clientWidth || 1, plot.clientHeight || 1];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    view.scale = scaleOf(view.axes.points, width, height);
    view.dots = Array.from({ length: cloud.n }, (_, i) => view.scale.to(view.axes.points[2 * i], view.axes.points[2 * i + 1]));
    paint();
    mark();
  }

  /** Paint the points; the marks on them are elements, which move without another paint. */
  function paint() {
    if (!view.scale) return;
    const context = canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const style = getComputedStyle(plot);
    context.globalAlpha = 0.75;
    view.dots.forEach(([x, y], i) => {
      context.fillStyle = hue(cloud.labels?.[i], model.classes.length, style);
      context.beginPath();
      context.arc(x, y, 2.2, 0, 7);
      context.fill();
    });
  }

  function mark() {
    if (!view.scale) return;
    const { z, hover, ...state } = store.get();
    const put = (node, [x, y]) => { node.style.translate = `${x}px ${y}px`; };
    for (const [key, pin] of Object.entries(pins)) if (state[key]) put(pin, place(state[key].z));
    put(ring, place(z));
    if (hover) put(cursor, hover.at);
  }

  /** The latents at a position: those of the nearest point, or of the position itself in the plane. */
  function under(left, top) {
    let best = -1;
    let distance = NEAR;
    view.dots.forEach(([x, y], i) => {
      const d = Math.hypot(x - left, y - top);
      if (d < distance) [best, distance] = [i, d];
    });
    const { z, label } = store.get();
    if (best < 0) return { z: view.axes.lift(view.scale.from(left, top), z), label, at: [left, top] };
    const point = cloud.z.slice(best * model.latentDim, (best + 1) * model.latentDim);
    return { z: point, label: cloud.labels ? cloud.labels[best] : label, at: [...view.dots[best]] };
  }
  const take = () => {
    const { hover } = store.get();
    if (hover) store.set({ z: hover.z, label: hover.label, origin: { by: "map" } });
  };
  const hoverAt = (event) => {
    const [u, v] = pointerIn(plot, event);
    store.set({ hover: under(u * plot.clientWidth, v * plot.clientHeight) });
  };
  plot.addEventListener("pointermove", hoverAt);
  plot.addEventListener("pointerdown", (event) => { hoverAt(event); take(); });
  plot.addEventListener("pointerleave", () => store.set({ hover: null }));
  plot.addEventListener("blur", () => store.set({ hover: null }));
  plot.addEventListener("keydown", (event) => {
    const arrow = arrowOf(event);
    if (event.key === "Enter") take();
    if (event.key === "Escape") store.set({ hover: null });
    if (!arrow) return;
    const { hover, z } = store.get();
    const [x, y] = view.cursor && hover ? view.cursor : place(z);
    view.cursor = [x + STEP * arrow[0], y + STEP * arrow[1]];
    store.set({ hover: under(...view.cursor) });
    const { label } = store.get().hover;
    showStatus(label === null ? "no label" : `label ${model.classes[label]}`);
  });

  store.on(["hover"], ({ hover }) => {
    bubble.hidden = cursor.hidden = !hover;
    if (!hover) return;
    bubble.lastChild.textContent = hover.label === null ? "" : model.classes[hover.label];
    bubble.style.left = `${Math.min(hover.at[0] + 14, plot.clientWidth - 96)}px`;
    bubble.style.top = `${Math.max(hover.at[1] - 110, 4)}px`;
  });
  frames.add({
    canvas: peek,
    element: plot,
    reads: ["hover"],
    latents: ({ hover }) => hover && { z: hover.z, labels: hover.label },
  });
  store.on(["z", "a", "b", "hover"], mark);
  store.on(["plane"], layout);
  store.on(["x", "y"], ({ plane }) => plane === "grid" && layout());
  new ResizeObserver(layout).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint, { signal });
  app.repaintMap = paint;

  const planes = [["pca", "principal components"], ["grid", "the grid's dimensions"]];
  return panel("map", "Map", cloud.caption, field("Axes", choice(store, "plane", planes, { id: "plane" })), plot, legend(app, cloud));
}

/** The colour of each class, with the image at the centre of its points. */
function legend({ model, frames }, { z, labels, n }) {
  const { length: classes } = model.classes;
  if (!classes || !labels || classes > MAX_LEGEND) return null;
  const d = model.latentDim;
  const centres = new Float32Array(classes * d);
  const counts = new Float32Array(classes);
  for (let i = 0; i < n; i++) counts[labels[i]] += 1;
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) centres[labels[i] * d + j] += z[i * d + j] / counts[labels[i]];
  const items = model.classes.map((name, k) => {
    const canvas = sheetCanvas(model.image, { "aria-hidden": "true" });
    canvas.style.borderColor = hue(k, classes);
    return { canvas, node: h("li", { title: name }, canvas, h("span", {}, name)) };
  });
  const list = h("ul", { class: "legend", "aria-label": "Colours of the labels" }, ...items.map(({ node }) => node));
  list.style.setProperty("--longest", String(Math.max(...model.classes.map((name) => name.length))));
  frames.add({
    element: list, reads: [], latents: () => ({ z: centres, labels: Int32Array.from(model.classes.keys()) }),
    paint: (images) => paintEach(items.map(({ canvas }) => canvas), images, model.image),
  });
  return list;
}

/** One hue per class, evenly around the colour wheel; without classes, the accent colour. */
function hue(label, classes, style) {
  if (label === undefined || label === null || !classes) return style.getPropertyValue("--accent");
  return `oklch(0.66 0.15 ${(360 * label) / classes + 20})`;
}

/** Convert between plane coordinates and CSS pixels; the middle 99% of the points fill the plot. */
function scaleOf(points, width, height) {
  const ends = (offset) => {
    const values = points.filter((_, i) => i % 2 === offset).sort();
    const cut = Math.floor(values.length * 0.005);
    const [low, high] = [values[cut], values[values.length - 1 - cut]];
    const margin = 0.08 * (high - low) || 1;
    return [low - margin, high + margin];
  };
  const [[left, right], [bottom, top]] = [ends(0), ends(1)];
  return {
    to: (x, y) => [((x - left) / (right - left)) * width, (1 - (y - bottom) / (top - bottom)) * height],
    from: (x, y) => [left + (x / width) * (right - left), bottom + (1 - y / height) * (top - bottom)],
  };
}

/**
 * The map's plane through the latents, and functions that map latents to it and back.
 *
 * @param cloud  { z: Float32Array[n·D], n }
 * @param plane  "pca", or "grid" for the two dimensions `dims`
 * @returns  { points: Float32Array[n·2], project(z) → [x, y], lift([x, y], z) → latents at that position }.
 *   On the grid's plane, `lift` keeps the other coordinates of z; on principal components, it sets all of them.
 */
function axesOf(cloud, plane, dims, { prior, latentDim }) {
  const dim = prior.coordinates;
  const coordinates = (z) => Float32Array.from({ length: dim }, (_, i) => prior.coordinate(z, i));
  const rows = Array.from({ length: cloud.n }, (_, i) => cloud.z.subarray(i * latentDim, (i + 1) * latentDim));
  if (plane === "pca" && dim > 1) {
    const all = new Float32Array(cloud.n * dim);
    rows.forEach((z, i) => all.set(coordinates(z), i * dim));
    const fit = pca(all, dim);
    return {
      points: fit.project(all),
      project: (z) => [...fit.project(coordinates(z))],
      lift: ([x, y], z) => withDims(prior, z, ...fit.lift(x, y).entries()),
    };
  }
  const [across, up] = dims;
  const project = (z) => [prior.coordinate(z, across), prior.coordinate(z, up)];
  const points = Float32Array.from(rows.flatMap(project));
  return { points, project, lift: ([x, y], z) => withDims(prior, z, [up, y], [across, x]) };
}

/** The points of the map: the encoded test set if the page has one, else samples of the prior. */
export function cloudOf(model, points) {
  if (points) {
    return { ...points, caption: `${points.n.toLocaleString("en")} encoded test images. Hover to decode, click to select.` };
  }
  const count = model.classes.length ? Math.ceil(600 / model.classes.length) : 600;
  const groups = model.classes.length ? [...model.classes.keys()] : [null];
  const n = count * groups.length;
  const z = new Float32Array(n * model.latentDim);
  groups.forEach((label, i) => z.set(model.sampleLatents({ n: count, seed: 1 + i, label }), i * count * model.latentDim));
  const labels = model.classes.length ? Int32Array.from({ length: n }, (_, i) => Math.floor(i / count)) : null;
  return { z, labels, n, caption: `${n} samples of the prior, as this page has no test set. Hover to decode, click to select.` };
}
