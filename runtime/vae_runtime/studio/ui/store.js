/** The page's state: one frozen object that is replaced as a whole. Listeners learn which keys changed. */

/**
 * State:
 *   z            Float32Array[D], the latents that all panels show
 *   label        class index, or null for none
 *   seed, temperature, prior    how the latents were last sampled
 *   x, y         the two dimensions of the grid
 *   a, b         pinned latents, or null
 *   how, t       the morph: "linear" or "spherical", and the position, 0 to 1
 *   language     language of the program shown
 *   plane        the map's axes: "pca" or "grid"
 *   hover        { z, label, at } under the pointer on the map, or null
 */
export function createStore(initial) {
  let state = Object.freeze({ ...initial });
  const listeners = [];
  return {
    get: () => state,

    /** Replace some keys. Listeners get (state, Set of the keys that changed). */
    set(patch) {
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

/** A copy of z with some numbers replaced: [[dimension, value], …]. */
export function withDims(z, ...pairs) {
  const next = Float32Array.from(z);
  for (const [dim, value] of pairs) next[dim] = value;
  return next;
}

/** n copies of z in one array; `change(row, i)` may modify copy i. */
export function repeat(z, n, change = () => {}) {
  const all = new Float32Array(n * z.length);
  for (let i = 0; i < n; i++) {
    const row = all.subarray(i * z.length, (i + 1) * z.length);
    row.set(z);
    change(row, i);
  }
  return all;
}
