/** The page's state: one frozen object that is replaced as a whole. Listeners learn which keys changed. */

import { interpolation } from "../engine/latents.js";

/**
 * State:
 *   z            Float32Array[D], the latents that all panels show
 *   label        class index, or null for none
 *   seed, temperature, prior    how the latents were last sampled
 *   x, y         the two coordinates of the grid
 *   mix          { label, share } of a morph between classes: the share of another label's image; else null
 *   origin       how the latents came about: { by: "sampled", … }, "edited", "drawn", "map", "morphed" or "link"
 *   a, b         pinned { z, label }, or null
 *   how, t       the morph: "linear" or "spherical", and the position, 0 to 1
 *   language     language of the program shown
 *   plane        the map's axes: "pca" or "grid"
 *   hero         { z, label, mix } that the large image shows until the visitor does something, or null
 *   hover        { z, label, at } under the pointer on the map, or null
 */
export function createStore(initial) {
  let state = Object.freeze({ ...initial });
  const listeners = [];
  return {
    get: () => state,

    /** Replace some keys. New latents or another label end a mix; latents are edited unless `given` says otherwise. Listeners get (state, Set of the keys that changed). */
    set(given) {
      const edited = "z" in given ? { mix: null, origin: { by: "edited" } } : "label" in given ? { mix: null } : {};
      const patch = { ...edited, ...given };
      const changed = new Set(Object.keys(patch).filter((key) => patch[key] !== state[key]));
      if (!changed.size) return;
      state = Object.freeze({ ...state, ...patch });
      for (const listener of listeners) listener(state, changed);
    },

    /** Call `listener` now and whenever one of `keys` changes. */
    on(keys, listener) {
      listeners.push((next, changed) => {
        if (keys.some((key) => changed.has(key))) listener(next, changed);
      });
      listener(state, new Set(keys));
    },
  };
}

/** Whose image is shown a part of the way from `a` to `b`: the nearer label, and how much of the other is mixed in. */
export function labelsAt(a, b, t) {
  const [near, far, share] = t < 0.5 ? [a, b, t] : [b, a, 1 - t];
  return { label: near.label, mix: share && near.label !== far.label ? { label: far.label, share } : null };
}

/** Latents from A to B, Float32Array[steps·D], or null while a pin is missing. */
export function pathOf({ a, b, how }, steps) {
  return a && b ? interpolation(a.z, b.z, steps, how) : null;
}

/** The current image of a state { z, label, mix }: Float32Array[C·H·W]. */
export function imageOf(model, { z, label, mix }) {
  return mix ? model.morph(z, label, mix.label, () => mix.share) : model.decode(z, label);
}

/** z with some coordinates of the prior set: [[coordinate, value], …]. */
export function withDims(prior, z, ...pairs) {
  return pairs.reduce((moved, [dim, value]) => prior.move(moved, dim, value), z);
}

/** n copies of z in one array; `change(z, i)` may return other latents for copy i. */
export function repeat(z, n, change = (row) => row) {
  const all = new Float32Array(n * z.length);
  for (let i = 0; i < n; i++) all.set(change(z, i), i * z.length);
  return all;
}
