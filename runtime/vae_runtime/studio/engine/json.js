/**
 * Strict JSON. `JSON.parse` keeps the last of two equal keys and cannot tell `8.0` from `8`, which the bundle
 * format can: see docs/bundle-format.md.
 */

import { decodeUtf8 } from "./bytes.js";
import { InputError } from "./errors.js";

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
/** @type {[string, any][]} */
const WORDS = [["true", true], ["false", false], ["null", null]];

/**
 * Where a whole number was written with a fraction or an exponent, by the object or array that holds it.
 *
 * @type {WeakMap<object, Set<string | number>>}
 */
const writtenAsFloat = new WeakMap();

/**
 * @param {Uint8Array | string} source @param {string} where begins the error message
 * @returns {any} plain values
 * @throws {InputError} not UTF-8, not JSON, a key twice, nested more than 64 deep, a number outside the range of
 *     float64, half a surrogate pair
 */
export function parseJson(source, where) {
  try {
    return new Parser(typeof source === "string" ? source : decodeUtf8(source)).parse();
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    const reason = error instanceof Refusal ? error.message : "The file is damaged or was edited";
    throw new InputError(`${where}: not valid JSON. ${reason}.`);
  }
}

/** JSON that the format forbids; the message says why. */
class Refusal extends SyntaxError {}

class Parser {
  #text;
  #at = 0;
  #float = false; // whether the last number had a fraction or an exponent

  /** @param {string} text */
  constructor(text) {
    this.#text = text;
  }

  /** @returns {any} */
  parse() {
    const value = this.#value(0);
    if (this.#peek() !== undefined) throw new SyntaxError("text after the value");
    return value;
  }

  /** The next character that is not white space; undefined at the end. @returns {string | undefined} */
  #peek() {
    while (" \t\n\r".includes(this.#text[this.#at] ?? "end")) this.#at += 1;
    return this.#text[this.#at];
  }

  /** Step over `char` if it is next. @param {string} char */
  #skip(char) {
    const found = this.#peek() === char;
    if (found) this.#at += 1;
    return found;
  }

  /** @param {string} char */
  #expect(char) {
    if (!this.#skip(char)) throw new SyntaxError(`no ${char}`);
  }

  /** @param {number} depth objects and arrays around the value @returns {any} */
  #value(depth) {
    const char = this.#peek();
    if (char === '"') return this.#string();
    if (char === "{" || char === "[") {
      if (depth === MAX_DEPTH) throw new Refusal(`It is nested more than ${MAX_DEPTH} deep`);
      return char === "{" ? this.#object(depth + 1) : this.#array(depth + 1);
    }
    const word = WORDS.find(([name]) => this.#text.startsWith(name, this.#at));
    if (!word) return this.#number();
    this.#at += word[0].length;
    return word[1];
  }

  /** @param {number} depth */
  #object(depth) {
    /** @type {Record<string, any>} */
    const found = Object.create(null); // a key `__proto__` is a key like any other
    this.#expect("{");
    if (this.#skip("}")) return found;
    do {
      if (this.#peek() !== '"') throw new SyntaxError("no key");
      const key = this.#string();
      if (key in found) throw new Refusal(`The key '${key.slice(0, 80)}' is there twice`);
      this.#expect(":");
      this.#keep(found, key, depth);
    } while (this.#skip(","));
    this.#expect("}");
    return found;
  }

  /** @param {number} depth */
  #array(depth) {
    /** @type {any[]} */
    const found = [];
    this.#expect("[");
    if (this.#skip("]")) return found;
    do this.#keep(found, found.length, depth);
    while (this.#skip(","));
    this.#expect("]");
    return found;
  }

  /** Read a value into an object or array. @param {any} into @param {string | number} key @param {number} depth */
  #keep(into, key, depth) {
    this.#float = false;
    into[key] = this.#value(depth);
    if (!this.#float || !Number.isInteger(into[key])) return;
    if (!writtenAsFloat.has(into)) writtenAsFloat.set(into, new Set());
    writtenAsFloat.get(into)?.add(key);
  }

  #number() {
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.#text);
    if (!found) throw new SyntaxError("no value");
    this.#at = NUMBER.lastIndex;
    this.#float = Boolean(found[1] ?? found[2]);
    const value = Number(found[0]);
    if (!Number.isFinite(value)) throw new Refusal("A number is outside the range of float64");
    return value;
  }

  #string() {
    const text = this.#text;
    const start = this.#at;
    let end = start;
    let slashes;
    do {
      end = text.indexOf('"', end + 1);
      if (end < 0) throw new SyntaxError("a string without an end");
      for (slashes = 0; text[end - 1 - slashes] === "\\"; ) slashes += 1;
    } while (slashes % 2);
    this.#at = end + 1;
    const found = JSON.parse(text.slice(start, end + 1));
    if (/\p{Surrogate}/u.test(found)) throw new Refusal("A string holds half a surrogate pair");
    return found;
  }
}

/** Whether a value is a whole number, written without a fraction or an exponent. @param {any} data @param {string | number} key */
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
 * @throws {InputError} no object, the key is missing, or its value is of another type
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
