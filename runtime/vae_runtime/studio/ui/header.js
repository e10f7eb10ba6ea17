/** The name of the model, and two measurements made in this page: parity with torch, and the time of one decode. */

import { button, h, messageOf } from "./dom.js";
import { createHistory } from "./history.js";

const FAMILIES = { ae: "autoencoder", vae: "VAE", cvae: "conditional VAE" };
const THEMES = ["auto", "light", "dark"];

export function header(app, openBundle) {
  const { model } = app;
  const { channels, height, width } = model.image;
  const parts = [
    FAMILIES[model.family], `${height}×${width} ${channels < 3 ? "grey" : "colour"}`,
    model.latentShape.length === 1 ? `${model.latentDim} dimensions` : `${model.latentShape.join("×")} latents`, model.classes.length ? `${model.classes.length} labels` : null,
  ];
  return h(
    "header", { class: "top" },
    h("div", {}, h("h1", {}, "Latent studio"),
      h("p", {}, h("b", {}, model.name), ` · ${parts.filter(Boolean).join(" · ")}`)),
    badge(app),
    h("div", { class: "row tools" }, createHistory(app.store, app.signal), opener(openBundle), theme(app),
      button("Keys", () => app.showKeys(), { id: "keys-button", title: "Keyboard shortcuts (?)" })),
  );
}

function badge({ model, frames, showStatus, signal }) {
  const parity = h("b", { id: "parity" }, "checking …");
  const speed = h("b", { id: "speed" }, "…");
  const node = h("p", { class: "badge", id: "badge", role: "status" }, "parity with torch ", parity, " · ", speed, " per decode");
  const check = async () => {
    try {
      const found = await model.golden();
      parity.textContent = `${found.ok ? "✓" : "✗"} ${found.maxAbsError.toExponential(1)}`;
      node.dataset.error = String(found.maxAbsError);
      node.classList.add(found.ok ? "good" : "bad");
      node.title = `Largest difference from torch's own outputs over ${found.rows} golden vectors, computed in this page; allowed: ${found.tolerance}`;
    } catch (error) {
      node.classList.add("bad");
      parity.textContent = "not checked";
      showStatus(messageOf(error));
    }
  };
  setTimeout(check, 300); // after the first images
  const timer = setInterval(() => {
    const { one } = frames.timing;
    if (one !== null) speed.textContent = `${one.toFixed(one < 10 ? 1 : 0)} ms`;
  }, 500);
  signal.addEventListener("abort", () => clearInterval(timer));
  return node;
}

/** A button that opens another bundle: a .zip, or the files of a bundle's folder. */
export function opener(openBundle) {
  const input = h("input", {
    type: "file", multiple: true, accept: ".zip,.json,.onnx,.npz", class: "away", tabindex: -1, id: "bundle-file",
    "aria-label": "Open a bundle", onchange: () => input.files.length && openBundle([...input.files]),
  });
  return h("span", {}, input, button("Open a bundle", () => input.click(), { title: "A .zip, or all files of a bundle's folder; nothing leaves this computer" }));
}

function theme(app) {
  const root = document.documentElement;
  const next = () => THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % 3];
  const node = button("", () => {
    root.dataset.theme = next();
    write();
    app.repaintMap();
  }, { id: "theme", title: "Light, dark, or the system's theme" });
  const write = () => { node.textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[root.dataset.theme ?? "auto"]; };
  write();
  return node;
}
