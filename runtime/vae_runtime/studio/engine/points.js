/** Codes of a data set that a page was built with, for its map. */

import { InputError } from "./errors.js";
import { readNpz } from "./npz.js";

/**
 * @param {Uint8Array} raw an `.npz` of `z` f32[n, D] and, where the data has labels, `label` i64[n]
 * @returns {{z: Float32Array, labels: Int32Array | null, n: number}}
 * @throws {InputError} not such a file
 */
export function readPoints(raw) {
  const arrays = readNpz(raw, "points");
  const z = arrays.get("z");
  const label = arrays.get("label");
  if (!z || !(z.data instanceof Float32Array) || z.shape.length !== 2 || (label && label.data.length !== z.shape[0])) {
    throw new InputError("points: expected z float32[n, D], and n labels");
  }
  return { z: z.data, labels: label ? Int32Array.from(label.data, Number) : null, n: z.shape[0] };
}
