/** Until the visitor does something, the large image moves on its own from class to class. */

import { labelsAt } from "./store.js";

const LEG = 2600; // ms from one image to the next, of which it stands still for a part
const PAUSE = 0.3;
const ACTIONS = ["pointerdown", "keydown", "input", "dragenter", "hashchange"];

export function playHero({ model, store, signal }) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const { length: classes } = model.classes;
  const stopAt = (k) => {
    if (k === 0) return store.get();
    const label = classes ? (store.get().label + k) % classes : null;
    return { z: model.sampleLatents({ seed: k, label }), label };
  };
  const began = performance.now();
  let leg = { number: 0, from: stopAt(0), to: stopAt(1) };
  let timer = 0;
  const tick = (now) => {
    const number = Math.max(0, Math.floor((now - began) / LEG));
    if (number !== leg.number) leg = { number, from: leg.to, to: stopAt(number + 1) };
    const share = Math.max(0, (((now - began) / LEG) % 1) - PAUSE) / (1 - PAUSE);
    if (share) store.set({ hero: between(leg.from, leg.to, share * share * (3 - 2 * share)) });
    timer = requestAnimationFrame(tick);
  };
  const stop = () => {
    cancelAnimationFrame(timer);
    store.set({ hero: null });
    for (const action of ACTIONS) window.removeEventListener(action, stop, { capture: true });
  };
  for (const action of ACTIONS) window.addEventListener(action, stop, { capture: true, signal });
  signal.addEventListener("abort", () => cancelAnimationFrame(timer));
  timer = requestAnimationFrame(tick);
}

/** The image a part of the way from one { z, label } to another; between classes, images are blended. */
function between(a, b, t) {
  return { z: a.z.map((value, i) => value + t * (b.z[i] - value)), ...labelsAt(a, b, t) };
}
