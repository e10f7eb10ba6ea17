/** A sheet of 10×10 images that vary in two dimensions; dragging on it sets both. */

import { toPNG } from "../engine/pictures.js";
import { arrowOf, button, choice, download, field, h, panel, pointerIn } from "./dom.js";
import { sheetCanvas } from "./pixels.js";
import { repeat, withDims } from "./store.js";

const SIDE = 10;
const MIN_WIDTH = 1200; // of the PNG, in pixels

export function gridPanel(app) {
  const { model, store, frames, range, showStatus } = app;
  const { prior } = model;
  const canvas = sheetCanvas(model.image, {}, [SIDE, SIDE, gap(model.image)]);
  const ring = h("i", { class: "ring", "aria-hidden": "true" });
  const pad = h("div", {
    class: "pad", tabindex: 0, role: "application", id: "pad",
    "aria-label": "Traversal grid. Arrow keys move along its two dimensions.",
  }, canvas, ring);

  frames.add({
    canvas,
    element: pad,
    columns: SIDE,
    gap: gap(model.image),
    reads: ["z", "label", "x", "y"],
    latents: (state) => ({ z: sheet(prior, range, state), labels: state.label }),
  });

  /** Save the sheet, each pixel of an image as a square. */
  const save = async () => {
    const state = store.get();
    const images = await model.decode(sheet(prior, range, state), state.label);
    const scale = Math.ceil(MIN_WIDTH / (SIDE * model.image.width));
    const png = await toPNG(images, model.image, { columns: SIDE, gap: scale * gap(model.image), scale });
    download(new Blob([png], { type: "image/png" }), "traversal.png");
  };

  /** Go to a position on the pad (u right, v down; 0 to 1). Both ranges end at the centres of the outer tiles. */
  const go = (u, v) => {
    const { z, x, y } = store.get();
    const at = (share, { low, high }) => low + (high - low) * Math.min(1, Math.max(0, (share * SIDE - 0.5) / (SIDE - 1)));
    const [right, up] = [at(u, range(x)), at(1 - v, range(y))];
    store.set({ z: x === y ? withDims(prior, z, [x, right]) : withDims(prior, z, [x, right], [y, up]) });
  };
  const drag = (event) => {
    if (event.type === "pointerdown") pad.setPointerCapture(event.pointerId);
    else if (!pad.hasPointerCapture(event.pointerId)) return;
    go(...pointerIn(canvas, event));
  };
  pad.addEventListener("pointerdown", drag);
  pad.addEventListener("pointermove", drag);
  pad.addEventListener("keydown", (event) => {
    const arrow = arrowOf(event);
    if (!arrow) return;
    const { z, x, y } = store.get();
    const move = (dim, by) => {
      const { low, high } = range(dim);
      return [dim, Math.min(high, Math.max(low, prior.coordinate(z, dim) + (by * (high - low)) / (event.shiftKey ? 90 : 9)))];
    };
    store.set({ z: arrow[0] ? withDims(prior, z, move(x, arrow[0])) : withDims(prior, z, move(y, -arrow[1])) });
    const next = store.get().z;
    showStatus([x, y].map((dim) => `z${dim} ${prior.coordinate(next, dim).toFixed(2)}`).join(", "));
  });

  store.on(["z", "x", "y"], ({ z, x, y }) => {
    const share = (dim) => {
      const { low, high } = range(dim);
      return (0.5 + (SIDE - 1) * Math.min(1, Math.max(0, (prior.coordinate(z, dim) - low) / (high - low)))) / SIDE;
    };
    ring.style.left = `${100 * share(x)}%`;
    ring.style.top = `${100 * (1 - share(y))}%`;
  });
  return panel(
    "grid", "Traversal", "Two dimensions across the prior. Drag, or use the arrow keys.",
    h("div", { class: "row" }, axis(app, "x", "Across"), axis(app, "y", "Up"), button("PNG of the sheet", save, { id: "save-sheet" })), pad,
  );
}

function axis({ store, activity }, key, text) {
  const pairs = Array.from(activity.order, (dim) => [dim, `z${dim}`]);
  return field(text, choice(store, key, pairs, { id: `axis-${key}` }, (value) => store.set({ [key]: Number(value) })));
}

/** The latents of the sheet, row by row from the top. */
function sheet(prior, range, { z, x, y }) {
  const [right, up] = [range(x), range(y)];
  const place = ({ low, high }, i) => low + ((high - low) * i) / (SIDE - 1);
  return repeat(z, SIDE * SIDE, (row, tile) =>
    withDims(prior, row, [y, place(up, SIDE - 1 - Math.floor(tile / SIDE))], [x, place(right, tile % SIDE)]),
  );
}

function gap({ width }) {
  return Math.max(1, Math.round(width / 14));
}
