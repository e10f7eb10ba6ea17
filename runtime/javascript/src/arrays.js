/** Check a caller's options, arrays and labels before they reach onnxruntime, as `vae_runtime/arrays.py` does. */

import { InputError, UsageError } from "./errors.js";

/**
 * @typedef {number | string | ArrayLike<number | string> | null} Label one class index or name for all items, one per
 *     item, or null for no label
 */

/**
 * Complete a caller's options. JavaScript itself would ignore a misspelt name, or a number in place of the options.
 *
 * @template {object} T
 * @param {T} given @param {Required<T>} defaults every option there is, with its value if it is not given
 * @returns {Required<T>}
 * @throws {UsageError} not an object of options, or an unknown option
 */
export function takeOptions(given, defaults) {
  const names = Object.keys(defaults).join(", ");
  if (Object.prototype.toString.call(given) !== "[object Object]") {
    throw new UsageError(`the options are ${quoted(given)}, expected an object with any of: ${names}`);
  }
  const unknown = Object.keys(given).find((name) => !Object.hasOwn(defaults, name));
  if (unknown !== undefined) throw new UsageError(`unknown option ${quoted(unknown)}, expected any of: ${names}`);
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(known) };
}

/**
 * @param {number} value @param {string} what @param {number} low @param {number} high
 * @throws {UsageError} not a whole number from low to high
 */
export function checkWhole(value, what, low, high) {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return;
  throw new UsageError(`${what} is ${quoted(value)}, expected a whole number from ${low} to ${high}`);
}

/** A value in an error message; text in quotes. @param {unknown} value */
export function quoted(value) {
  return typeof value === "string" ? `'${value}'` : String(value);
}

/**
 * @param {Float32Array} data rows of `width` numbers @param {number} width @param {string} what
 * @returns {number} the number of rows
 * @throws {InputError} another type of array, an incomplete row, or a number that is not finite
 */
export function countRows(data, width, what) {
  if (!(data instanceof Float32Array) || data.length % width) {
    throw new InputError(`${what}: ${data?.length} numbers, expected a Float32Array of rows of ${width}`);
  }
  if (!data.every(Number.isFinite)) throw new InputError(`${what}: expected finite numbers`);
  return data.length / width;
}

/**
 * @param {Float32Array} images n·C·H·W @param {{size: number}} image
 * @returns {number} n
 * @throws {InputError} another length, or numbers outside [0, 1]
 */
export function checkImages(images, { size }) {
  const n = countRows(images, size, "images");
  if (!images.every((x) => x >= 0 && x <= 1)) throw new InputError("images: expected numbers in [0, 1]");
  return n;
}

/**
 * Convert labels to n class indices; the index after the last class means "no label".
 *
 * @param {Label} label @param {number} n @param {import("./spec.js").ModelSpec} spec
 * @returns {BigInt64Array}
 * @throws {UsageError} an unknown class, or a label for a model that takes none
 * @throws {InputError} an index out of range, or another number of labels
 */
export function asLabels(label, n, { classes, family }) {
  if (label === null) return new BigInt64Array(n).fill(BigInt(classes.length));
  if (!classes.length) throw new UsageError(`this ${family} takes no label`);
  if (typeof label === "object" && !("length" in label)) {
    throw new UsageError("label is an object, expected a class index or name, one per item, or null for no label");
  }
  const all = typeof label === "object" ? Array.from(label) : Array.from({ length: n }, () => label);
  if (all.length !== n) throw new InputError(`label: ${all.length} labels for ${n} items`);
  return BigInt64Array.from(all, (one) => BigInt(classIndex(one, classes)));
}

/** @param {number | string} label @param {string[]} classes @returns {number} */
export function classIndex(label, classes) {
  const named = classes.indexOf(/** @type {string} */ (label));
  if (named >= 0) return named;
  const index = /^\d+$/.test(String(label)) ? Number(label) : NaN;
  if (typeof label === "string" && Number.isNaN(index)) {
    const known = classes.slice(0, 20).join(", ") + (classes.length > 20 ? ", …" : "");
    throw new UsageError(`label: unknown class '${label}', expected one of: ${known}`);
  }
  if (index < classes.length) return index;
  throw new InputError(`label: ${label} is out of range, expected 0 to ${classes.length - 1}`);
}
