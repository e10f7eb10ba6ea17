/** Codes as a scatter plot, by principal components or on the grid's two dimensions; hovering decodes. */

import { card, choice, field, h } from "./dom.js";
import { axesOf } from "./axes.js";
import { paintSheet, sheetCanvas } from "./pixels.js";

const NEAR = 12; // CSS pixels within which the pointer takes a point instead of a place

export function mapPanel(app, cloud) {
  const { model, store, frames, say, signal } = app;
  const canvas = h("canvas", {});
  const peek = sheetCanvas(model.image);
  const bubble = h("div", { class: "bubble", hidden: true, "aria-hidden": "true" }, peek, h("span", {}));
  const plot = h("div", { class: "plot", id: "plot", tabindex: 0, role: "application", "aria-label": "Map of codes. Arrow keys move the cursor, Enter takes the code under it." }, canvas, bubble);
  const view = { axes: null, scale: null };

  /** Place of a code on the plot, in CSS pixels. */
  const place = (z) => view.scale.to(...view.axes.project(z));

  function layout() {
    const { x, y, plane } = store.get();
    view.axes = axesOf(cloud, plane, [x, y], model.latentDim);
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [plot.clientWidth || 1, plot.clientHeight || 1];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    view.scale = scaleOf(view.axes.points, width, height);
    view.dots = Array.from({ length: cloud.n }, (_, i) => view.scale.to(view.axes.points[2 * i], view.axes.points[2 * i + 1]));
    paint();
  }

  function paint() {
    if (!view.scale) return;
    const context = canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const style = getComputedStyle(plot);
    const dot = (x, y, r, colour) => {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(x, y, r, 0, 7);
      context.fill();
    };
    context.globalAlpha = 0.75;
    view.dots.forEach(([x, y], i) => dot(x, y, 2.2, hue(cloud.labels?.[i], model.classes.length, style)));
    context.globalAlpha = 1;
    const { z, a, b, hover } = store.get();
    for (const [name, code] of [["A", a], ["B", b]]) {
      if (!code) continue;
      const [x, y] = place(code);
      dot(x, y, 8, style.getPropertyValue(`--pin-${name.toLowerCase()}`));
      Object.assign(context, { fillStyle: "white", font: "600 10px system-ui", textAlign: "center", textBaseline: "middle" });
      context.fillText(name, x, y + 0.5);
    }
    context.lineWidth = 2.5;
    for (const [code, colour] of [[z, style.color], [hover?.z, style.getPropertyValue("--accent")]]) {
      if (!code) continue;
      context.strokeStyle = colour;
      context.beginPath();
      context.arc(...(code === hover?.z ? hover.at : place(code)), 6, 0, 7);
      context.stroke();
    }
  }

  /** What lies at a place: the nearest point, or the plane's own code. */
  function under(left, top) {
    let best = -1;
    let distance = NEAR;
    view.dots.forEach(([x, y], i) => {
      const d = Math.hypot(x - left, y - top);
      if (d < distance) [best, distance] = [i, d];
    });
    const { z, label } = store.get();
    if (best < 0) return { z: view.axes.lift(view.scale.from(left, top), z), label, at: [left, top] };
    const code = cloud.z.slice(best * model.latentDim, (best + 1) * model.latentDim);
    return { z: code, label: cloud.labels ? cloud.labels[best] : label, at: [...view.dots[best]] };
  }
  const take = () => {
    const { hover } = store.get();
    if (hover) store.set({ z: hover.z, label: hover.label });
  };
  const hoverAt = (event) => {
    const box = plot.getBoundingClientRect();
    store.set({ hover: under(event.clientX - box.left, event.clientY - box.top) });
  };
  plot.addEventListener("pointermove", hoverAt);
  plot.addEventListener("pointerdown", (event) => { hoverAt(event); take(); });
  plot.addEventListener("pointerleave", () => store.set({ hover: null }));
  plot.addEventListener("blur", () => store.set({ hover: null }));
  plot.addEventListener("keydown", (event) => {
    const way = { ArrowRight: [8, 0], ArrowLeft: [-8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    if (event.key === "Enter") take();
    if (event.key === "Escape") store.set({ hover: null });
    if (!way) return;
    event.preventDefault();
    const { hover, z } = store.get();
    const [x, y] = view.cursor && hover ? view.cursor : place(z);
    view.cursor = [x + way[0], y + way[1]];
    store.set({ hover: under(...view.cursor) });
    const { label } = store.get().hover;
    say(label === null ? "a code without a label" : `label ${model.classes[label]}`);
  });

  store.on(["hover"], ({ hover }) => {
    bubble.hidden = !hover;
    if (!hover) return;
    bubble.lastChild.textContent = hover.label === null ? "" : model.classes[hover.label];
    bubble.style.left = `${Math.min(hover.at[0] + 14, plot.clientWidth - 96)}px`;
    bubble.style.top = `${Math.max(hover.at[1] - 110, 4)}px`;
  });
  frames.add({
    element: plot,
    reads: ["hover"],
    codes: ({ hover }) => hover && { z: hover.z, labels: hover.label },
    paint: (images) => paintSheet(peek, images, model.image),
  });
  store.on(["z", "a", "b", "hover"], paint);
  store.on(["plane"], layout);
  store.on(["x", "y"], ({ plane }) => plane === "grid" && layout());
  new ResizeObserver(layout).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint, { signal });
  app.repaintMap = paint;

  const plane = choice([["pca", "principal components"], ["grid", "the grid's dimensions"]], store.get().plane, (value) => store.set({ plane: value }), { id: "plane" });
  store.on(["plane"], (state) => { plane.value = state.plane; });
  return card("map", "Map", cloud.caption, field("Axes", plane), plot);
}

/** One hue a class, evenly around the wheel; without classes the accent. */
function hue(label, classes, style) {
  if (label === undefined || label === null || !classes) return style.getPropertyValue("--accent");
  return `oklch(0.66 0.15 ${(360 * label) / classes + 20})`;
}

/** Between plane coordinates and CSS pixels: the middle 99% of the points fill the plot. */
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
