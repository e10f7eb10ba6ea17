/** Keyboard shortcuts, which are off while the user types in a field. */

import { button, h } from "./dom.js";

const KEYS = [
  ["S", "surprise me", "surprise"],
  ["N", "another of the same label", "another"],
  ["R", "reset every dimension", "reset"],
  ["A", "pin A", "pin-a"],
  ["B", "pin B", "pin-b"],
  ["P", "play or pause the morph", "play"],
  ["L", "copy a link to this state", "copy-link"],
];
const OTHERS = [
  ["Ctrl+Z", "undo; with Shift, redo"],
  ["0 … 9", "label"],
  ["Delete", "reset a slider"],
  ["arrows", "move a slider, the grid or the map"],
  ["Enter", "take the latents on the map"],
  ["?", "show these keys"],
];

export function keysDialog(app) {
  const { model, store, signal } = app;
  const pairs = [...KEYS, ...OTHERS].filter(([key]) => model.classes.length || !/^[0N]/.test(key));
  const list = h("dl", {}, ...pairs.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]));
  const dialog = h("dialog", { id: "keys", "aria-label": "Keyboard shortcuts" }, list, button("Close", () => dialog.close()));
  app.showKeys = () => dialog.showModal();
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || typing(event.target)) return;
    if (event.key === "?") app.showKeys();
    const shortcut = KEYS.find(([key]) => key.toLowerCase() === event.key.toLowerCase());
    if (shortcut) document.getElementById(shortcut[2])?.click();
    const label = /^\d$/.test(event.key) ? Number(event.key) : NaN;
    if (label < model.classes.length) store.set({ label });
  }, { signal });
  return dialog;
}

function typing(target) {
  return target instanceof HTMLElement && target.matches("input:not([type=range], [type=radio], [type=checkbox]), select, textarea");
}
