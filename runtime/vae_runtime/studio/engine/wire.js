/** The protobuf wire format, read in place: every length checked, no recursion. */

import { InputError } from "./errors.js";

const METADATA = 14; // ModelProto.metadata_props: entries of a key (1) and a value (2)

/**
 * The text properties of an `.onnx` file, which onnxruntime-web does not give.
 *
 * @param {Uint8Array} raw @param {string} where
 * @returns {Map<string, string>}
 * @throws {InputError} not the bytes of a graph
 */
export function readProperties(raw, where) {
  const found = new Map();
  for (const [number, entry] of fields(raw, where)) {
    if (number !== METADATA) continue;
    const [key, value] = [1, 2].map((wanted) => {
      const part = fields(entry, where).find(([n]) => n === wanted);
      return new TextDecoder().decode(part ? part[1] : new Uint8Array());
    });
    if (found.has(key)) throw new InputError(`${where}: refused: the metadata holds '${key.slice(0, 80)}' twice`);
    found.set(key, value);
  }
  return found;
}

/**
 * Number and bytes of each field that has a length; numbers are stepped over.
 *
 * @param {Uint8Array} raw @param {string} where
 * @returns {[number, Uint8Array][]}
 */
function fields(raw, where) {
  /** @type {[number, Uint8Array][]} */
  const found = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; at < raw.length && scale <= 2 ** 63; scale *= 128) {
      const byte = raw[at];
      at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new InputError(`${where}: refused: not ONNX: a number is cut off or too long`);
  };
  while (at < raw.length) {
    const tag = varint();
    const wire = tag % 8;
    if (wire === 0) varint();
    else {
      /** @type {Record<number, () => number>} */
      const sizes = { 1: () => 8, 2: varint, 5: () => 4 };
      const size = sizes[wire]?.();
      if (size === undefined || at + size > raw.length) {
        throw new InputError(`${where}: refused: not ONNX: a field of an unknown kind, or beyond the end`);
      }
      if (wire === 2) found.push([Math.floor(tag / 8), raw.subarray(at, at + size)]);
      at += size;
    }
  }
  return found;
}
