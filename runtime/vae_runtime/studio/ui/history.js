/** Undo and redo: every state that stood still for a moment can be returned to. */

import { button, h } from "./dom.js";

const KEYS = ["z", "label", "mix", "origin", "seed", "temperature", "prior", "x", "y", "a", "b", "how", "t"];
const STILL = 300; // ms without a change, so that a drag is one step
const MOST = 200;

export function createHistory(store, signal) {
  const pick = (state) => Object.fromEntries(KEYS.map((key) => [key, state[key]]));
  const [past, future] = [[], []];
  let now = pick(store.get());
  let timer = 0;
  const undoButton = button("↶", () => travel(past, future), { id: "undo", title: "Undo (Ctrl+Z)", "aria-label": "Undo" });
  const redoButton = button("↷", () => travel(future, past), { id: "redo", title: "Redo (Ctrl+Shift+Z)", "aria-label": "Redo" });

  const show = () => {
    undoButton.disabled = !past.length;
    redoButton.disabled = !future.length;
  };
  const commit = () => {
    clearTimeout(timer);
    const next = pick(store.get());
    if (KEYS.every((key) => next[key] === now[key])) return;
    past.push(now);
    if (past.length > MOST) past.shift();
    future.length = 0;
    now = next;
    show();
  };
  const travel = (from, to) => {
    commit();
    if (!from.length) return;
    to.push(now);
    now = from.pop();
    store.set(now);
    show();
  };
  store.on(KEYS, () => {
    clearTimeout(timer);
    timer = setTimeout(commit, STILL);
  });
  window.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    if (event.target instanceof HTMLElement && event.target.matches("input[type=number], textarea")) return;
    const key = event.key.toLowerCase();
    const redo = key === "y" || (key === "z" && event.shiftKey);
    if (!redo && key !== "z") return;
    event.preventDefault();
    travel(...(redo ? [future, past] : [past, future]));
  }, { signal });
  show();
  return h("span", { class: "row" }, undoButton, redoButton);
}
