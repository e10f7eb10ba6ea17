/** Take the image along: PNG, GIF, JSON, a link, a program. */

import { button, card, choice, download, field, h } from "./dom.js";
import { encodeGif } from "./gif.js";
import { toHash } from "./link.js";
import { pathOf } from "./morph.js";
import { paintSheet } from "./pixels.js";
import { LANGUAGES, snippet } from "./snippets.js";

const FRAMES = 25; // of the GIF, one way

export function sharePanel(app) {
  const { model, store, say } = app;
  const listing = h("pre", { tabindex: 0, id: "listing", "aria-label": "A program that makes this image" });
  const language = choice(LANGUAGES, "python", () => write(), { id: "language" });
  const write = () => { listing.textContent = snippet(language.value, model, store.get()); };
  store.on(["z", "label"], write);

  const copy = async (text, what) => {
    try {
      await navigator.clipboard.writeText(text);
      say(`${what} copied`);
    } catch {
      window.getSelection().selectAllChildren(listing);
      say(`This browser does not let the page copy: ${what === "Program" ? "the program is marked, press Ctrl+C" : "copy the address above"}`);
    }
  };
  const link = () => {
    const hash = `#${toHash(store.get(), model)}`;
    history.replaceState(null, "", hash);
    copy(location.href, "Link");
  };
  app.saveMorph = () => saveMorph(app);
  return card(
    "share", "Take it along", null,
    h("div", { class: "row" },
      button("PNG", () => savePng(app), { id: "save-png" }),
      button("JSON", () => saveJson(app), { id: "save-json" }),
      button("Copy link", link, { id: "copy-link" })),
    h("div", { class: "row" }, field("Program", language), button("Copy program", () => copy(listing.textContent, "Program"), { id: "copy-program" })),
    listing,
  );
}

/** The model's own pixels, one to one: what `vae-run decode` writes. */
async function savePng({ model, store }) {
  const { z, label } = store.get();
  const canvas = h("canvas");
  paintSheet(canvas, await model.decode(z, label), model.image);
  canvas.toBlob((blob) => download(blob, "image.png"));
}

function saveJson({ model, store }) {
  const { z, label, seed, temperature, prior } = store.get();
  const name = label === null ? null : model.classes[label];
  const record = { bundle: model.id, z: [...z], label, class: name, drawn: { seed, temperature, prior } };
  download(new Blob([JSON.stringify(record, null, 1)], { type: "application/json" }), "code.json");
}

/** There and back again. */
async function saveMorph({ model, store, say }) {
  const path = pathOf(store.get(), FRAMES);
  if (!path) return;
  const there = await model.decode(path, store.get().label);
  const { size } = model.image;
  const both = new Float32Array((2 * FRAMES - 2) * size);
  both.set(there);
  for (let i = 1; i < FRAMES - 1; i++) both.set(there.subarray(i * size, (i + 1) * size), (2 * FRAMES - 2 - i) * size);
  const scale = Math.max(1, Math.round(224 / model.image.height));
  const bytes = encodeGif(both, model.image, scale);
  download(new Blob([bytes], { type: "image/gif" }), "morph.gif");
  say(`morph.gif: ${2 * FRAMES - 2} frames`);
}
