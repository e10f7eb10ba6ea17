/** Reading JSON from strangers: each value is taken with the type it must have, or refused. */

import { InputError } from "./errors.js";

/** @type {Record<string, (value: any) => boolean>} */
const KINDS = {
  string: (value) => typeof value === "string",
  integer: (value) => Number.isInteger(value),
  number: (value) => typeof value === "number",
  array: (value) => Array.isArray(value),
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};

/**
 * @param {any} data @param {string} key
 * @param {"string" | "integer" | "number" | "array" | "object"} kind
 * @param {string} where begins the error message
 * @returns {any} `data[key]`
 * @throws {InputError} no object, the key is missing, or its value is of another type
 */
export function take(data, key, kind, where) {
  if (!KINDS.object(data)) throw new InputError(`${where}: expected a JSON object`);
  if (!Object.hasOwn(data, key)) throw new InputError(`${where}: '${key}' is missing`);
  if (!KINDS[kind](data[key])) throw new InputError(`${where}: '${key}' is no ${kind}`);
  return data[key];
}

/** @param {boolean} ok @param {string} message @returns {void} */
export function need(ok, message) {
  if (!ok) throw new InputError(message);
}
