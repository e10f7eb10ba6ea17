/** From a caller's numbers to what graphs read; everything is checked before onnxruntime sees it. */

import { InputError, UsageError } from "./errors.js";

/** @typedef {number | ArrayLike<number> | null} Labels a class index for all, or one for each; null: none */

/**
 * @param {Float32Array} data rows of `width` numbers @param {number} width @param {string} what
 * @returns {number} how many rows
 * @throws {InputError} another kind of array, a row that is not whole, a number that is not finite
 */
export function countRows(data, width, what) {
  if (!(data instanceof Float32Array) || data.length % width) {
    throw new InputError(`${what}: ${data?.length} numbers, expected a Float32Array of rows of ${width}`);
  }
  if (!data.every(Number.isFinite)) throw new InputError(`${what}: expected finite numbers`);
  return data.length / width;
}

/**
 * n class indices; the index behind the last class means "no label".
 *
 * @param {Labels} labels @param {number} n @param {import("./card.js").Card} card
 * @returns {BigInt64Array}
 * @throws {UsageError} the model takes no label
 * @throws {InputError} an index out of range, or not n of them
 */
export function asLabels(labels, n, { classes, family }) {
  const most = classes.length;
  if (labels === null) return new BigInt64Array(n).fill(BigInt(most));
  if (!most) throw new UsageError(`this ${family} takes no label`);
  const all = typeof labels === "number" ? new Array(n).fill(labels) : Array.from(labels);
  if (all.length !== n) throw new InputError(`label: ${all.length} labels for ${n} items`);
  const wrong = all.find((label) => !(Number.isInteger(label) && label >= 0 && label < most));
  if (wrong !== undefined) throw new InputError(`label: ${wrong} is out of range, expected 0 to ${most - 1}`);
  return BigInt64Array.from(all, BigInt);
}
