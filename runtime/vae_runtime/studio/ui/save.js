/** Save the image as PNG, the latents as JSON, the morph as GIF, the state as a link or a program. */

import { GIFEncoder, applyPalette, quantize } from "../assets/gifenc.js";
import { toBytes, toPNG } from "../engine/pictures.js";
import { button, choice, download, field, h, panel } from "./dom.js";
import { toHash } from "./link.js";
import { pathOf } from "./morph.js";
import { LANGUAGES, snippet } from "./snippets.js";
import { imageOf } from "./store.js";

const MIN_SCALE = 8; // of a PNG
const MIN_SIDE = 512; // pixels of its longer side
const FRAMES = 25; // of the GIF in one direction
const GREYS = Array.from({ length: 256 }, (_, level) => [level, level, level]);

export function savePanel(app) {
  const { model, store, showStatus } = app;
  const listing = h("pre", { tabindex: 0, id: "listing", "aria-label": "A program that makes this image" });
  store.on(["z", "label", "mix", "language"], (state) => { listing.textContent = snippet(state.language, model, state); });

  const copy = async (text, what, hint = "") => {
    try {
      await navigator.clipboard.writeText(text);
      showStatus(`${what} copied.${hint}`);
    } catch {
      window.getSelection().selectAllChildren(listing);
      showStatus(`This browser does not let the page copy. ${what === "Program" ? "The program is selected: press Ctrl+C." : "Copy the address above."}${hint}`);
    }
  };
  const copyLink = () => {
    history.replaceState(null, "", `#${toHash(store.get(), model)}`);
    const local = location.protocol === "file:" || ["localhost", "127.0.0.1"].includes(location.hostname);
    copy(location.href, "Link", local ? " It opens on this computer only: elsewhere, put its part from # on after the address of the page there." : "");
  };
  app.saveMorph = () => saveMorph(app);
  return panel(
    "save", "Save", null,
    h("div", { class: "row" },
      button("PNG", () => savePng(app), { id: "save-png" }),
      button("JSON", () => saveJson(app), { id: "save-json" }),
      button("Copy link", copyLink, { id: "copy-link" })),
    h("div", { class: "row" }, field("Program", choice(store, "language", LANGUAGES, { id: "language" })), button("Copy program", () => copy(listing.textContent, "Program"), { id: "copy-program" })),
    listing,
  );
}

/** Save the image enlarged, each of its pixels as a square of at least eight. */
async function savePng({ model, store }) {
  const scale = Math.max(MIN_SCALE, Math.ceil(MIN_SIDE / Math.max(model.image.height, model.image.width)));
  const png = await toPNG(await imageOf(model, store.get()), model.image, { scale });
  download(new Blob([png], { type: "image/png" }), "image.png");
}

function saveJson({ model, store }) {
  const { z, label, mix, origin } = store.get();
  const name = label === null ? null : model.classes[label];
  const record = { bundle: model.id, z: [...z], label, class: name, mix, origin };
  download(new Blob([JSON.stringify(record, null, 1)], { type: "application/json" }), "latents.json");
}

/** Save the morph from A to B and back. */
async function saveMorph({ model, store, showStatus }) {
  const path = pathOf(store.get(), FRAMES);
  if (!path) return;
  const { size } = model.image;
  const { a, b } = store.get();
  const images = await model.morph(path, a.label, b.label);
  const frames = Array.from({ length: 2 * FRAMES - 2 }, (_, i) => {
    const at = i < FRAMES ? i : 2 * FRAMES - 2 - i;
    return images.subarray(at * size, (at + 1) * size);
  });
  download(new Blob([encodeGif(frames, model.image)], { type: "image/gif" }), "morph.gif");
  showStatus(`morph.gif: ${frames.length} frames`);
}

/** Encode frames as a GIF about 224 pixels high; each colour frame gets the 256 colours that fit it best. */
export function encodeGif(frames, { channels, height, width }) {
  const scale = Math.max(1, Math.round(224 / height));
  const gif = GIFEncoder();
  for (const frame of frames) {
    let indices = toBytes(frame).subarray(0, (channels < 3 ? 1 : 3) * height * width); // a GIF has no partial alpha
    let palette = GREYS;
    if (channels >= 3) {
      const planes = indices;
      const rgba = new Uint8Array(4 * height * width).map((_, i) => planes[(i % 4) * height * width + (i >> 2)] ?? 255);
      palette = quantize(rgba, 256);
      indices = applyPalette(rgba, palette);
    }
    const large = Uint8Array.from({ length: indices.length * scale ** 2 }, (_, i) => {
      const [x, y] = [i % (width * scale), Math.floor(i / (width * scale))];
      return indices[Math.floor(y / scale) * width + Math.floor(x / scale)];
    });
    gif.writeFrame(large, width * scale, height * scale, { palette, delay: 60 });
  }
  gif.finish();
  return gif.bytes();
}
