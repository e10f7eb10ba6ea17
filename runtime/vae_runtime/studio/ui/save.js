/** Save the image as PNG, the latents as JSON, the model, and the state as a link or a program. */

import { toPNG } from "../engine/pictures.js";
import { button, choice, download, field, h, panel } from "./dom.js";
import { toHash } from "./link.js";
import { LANGUAGES, snippet } from "./snippets.js";
import { imageOf } from "./store.js";

const MIN_SCALE = 8; // of a PNG
const MIN_SIDE = 512; // pixels of its longer side

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
  return panel(
    "save", "Save", null,
    h("div", { class: "row" },
      button("PNG", () => savePng(app), { id: "save-png" }),
      button("JSON", () => saveJson(app), { id: "save-json" }),
      button("Copy link", copyLink, { id: "copy-link" }),
      button("Model", () => saveModel(app), { id: "save-model", title: "Download this model as a bundle, for Python, JavaScript or another page" })),
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

async function saveModel({ model }) {
  const file = model.name.split(/[\\/]/).at(-1).replace(/\.zip$/, "") || "model";
  download(new Blob([await model.toZip()], { type: "application/zip" }), `${file}.zip`);
}
