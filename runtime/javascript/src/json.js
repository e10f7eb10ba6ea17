/**
 * Parse strict JSON. `JSON.parse` accepts duplicate keys and cannot tell `8.0` from `8`; the bundle format does: see
 * docs/bundle-format.md.
 */

import { decodeUtf8 } from "./bytes.js";
import { InputError } from "./errors.js";

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
/** @type {[string, any][]} */
const WORDS = [["true", true], ["false", false], ["null", null]];

/**
 * The keys of whole numbers that were written with a fraction or an exponent, by the object or array that holds them.
 *
 * @type {WeakMap<object, Set<string | number>>}
 */
const writtenAsFloat = new WeakMap();

/** JSON that the format forbids; the message says why. */
class Refusal extends SyntaxError {}

/**
 * @param {Uint8Array | string} source @param {string} where begins the error message
 * @returns {any} plain values
 * @throws {InputError} not UTF-8, not JSON, a duplicate key, nested more than 64 deep, a number outside the range of
 *     float64, or half a surrogate pair
 */
export function parseJson(source, where) {
  try {
    return parse(typeof source === "string" ? source : decodeUtf8(source));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    const reason = error instanceof Refusal ? error.message : "The file is damaged or was edited";
    throw new InputError(`${where}: not valid JSON. ${reason}.`);
  }
}

/** @param {string} text @returns {any} @throws {SyntaxError} */
function parse(text) {
  let at = 0;
  let isFloat = false; // whether the last number had a fraction or an exponent

  /** Skip white space, then `char` if it comes next; return whether it did. @param {string} char */
  function skip(char) {
    while (/[ \t\n\r]/.test(text[at])) at += 1;
    if (text[at] !== char) return false;
    at += 1;
    return true;
  }

  /** @param {string} char */
  function expect(char) {
    if (!skip(char)) throw new SyntaxError(`expected ${char}`);
  }

  /** @param {number} depth objects and arrays around the value @returns {any} */
  function value(depth) {
    if (skip('"')) return string();
    const array = skip("[");
    if (array || skip("{")) {
      if (depth === MAX_DEPTH) throw new Refusal(`It is nested more than ${MAX_DEPTH} deep`);
      return array ? list(depth + 1) : object(depth + 1);
    }
    const word = WORDS.find(([name]) => text.startsWith(name, at));
    if (!word) return number();
    at += word[0].length;
    return word[1];
  }

  /** @param {number} depth */
  function object(depth) {
    const found = Object.create(null); // without a prototype, the key `__proto__` is like any other
    if (skip("}")) return found;
    do {
      expect('"');
      const key = string();
      if (key in found) throw new Refusal(`The key '${key.slice(0, 80)}' is there twice`);
      expect(":");
      store(found, key, value(depth));
    } while (skip(","));
    expect("}");
    return found;
  }

  /** @param {number} depth */
  function list(depth) {
    /** @type {any[]} */
    const found = [];
    if (skip("]")) return found;
    do store(found, found.length, value(depth));
    while (skip(","));
    expect("]");
    return found;
  }

  /** @param {any} into @param {string | number} key @param {any} item */
  function store(into, key, item) {
    into[key] = item;
    if (!isFloat || !Number.isInteger(item)) return;
    if (!writtenAsFloat.has(into)) writtenAsFloat.set(into, new Set());
    writtenAsFloat.get(into)?.add(key);
  }

  function number() {
    NUMBER.lastIndex = at;
    const found = NUMBER.exec(text);
    if (!found) throw new SyntaxError("expected a value");
    at = NUMBER.lastIndex;
    isFloat = Boolean(found[1] ?? found[2]);
    const result = Number(found[0]);
    if (!Number.isFinite(result)) throw new Refusal("A number is outside the range of float64");
    return result;
  }

  /** Read a string after its opening quote. */
  function string() {
    const start = at - 1;
    for (let end = text.indexOf('"', at); end >= 0; end = text.indexOf('"', end + 1)) {
      let escapes = 0;
      while (text[end - 1 - escapes] === "\\") escapes += 1;
      if (escapes % 2) continue;
      at = end + 1;
      const found = JSON.parse(text.slice(start, at));
      if (/\p{Surrogate}/u.test(found)) throw new Refusal("A string holds half a surrogate pair");
      return found;
    }
    throw new SyntaxError("a string without an end");
  }

  const whole = value(0);
  skip(" "); // trailing white space
  if (at < text.length) throw new SyntaxError("text after the value");
  return whole;
}

/** Whether a value is a whole number written without fraction or exponent. @param {any} data @param {string | number} key */
export function isInteger(data, key) {
  return Number.isInteger(data[key]) && !writtenAsFloat.get(data)?.has(key);
}

/** @type {Record<string, (data: any, key: string) => boolean>} */
const KINDS = {
  string: (data, key) => typeof data[key] === "string",
  integer: isInteger,
  number: (data, key) => typeof data[key] === "number",
  array: (data, key) => Array.isArray(data[key]),
  object: (data, key) => isObject(data[key]),
};

/**
 * @param {any} data @param {string} key
 * @param {"string" | "integer" | "number" | "array" | "object"} kind
 * @param {string} where begins the error message
 * @returns {any} `data[key]`
 * @throws {InputError} `data` is not an object, the key is missing, or its value has another type
 */
export function take(data, key, kind, where) {
  need(isObject(data), `${where}: expected a JSON object`);
  need(Object.hasOwn(data, key), `${where}: '${key}' is missing`);
  need(KINDS[kind](data, key), `${where}: '${key}' is of the wrong type, expected ${kind}`);
  return data[key];
}

/** @param {boolean} ok @param {string} message @returns {void} */
export function need(ok, message) {
  if (!ok) throw new InputError(message);
}

/** @param {any} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
