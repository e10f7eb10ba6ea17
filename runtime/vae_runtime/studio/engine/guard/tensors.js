/** A constant of a graph: its sizes, and that its bytes are all there. */

import { ITEM_SIZES } from "./ops.js";
import { BYTES, FIXED32, FIXED64, integer, integers, Malformed, many, message, one, parts, text, VARINT } from "./wire.js";

const SCHEMA = {
  1: many(VARINT, BYTES), // dims
  2: one(VARINT), // data_type
  4: many(FIXED32, BYTES), // float_data
  5: many(VARINT, BYTES), // int32_data
  7: many(VARINT, BYTES), // int64_data
  8: one(BYTES), // name
  9: one(BYTES), // raw_data
  10: many(FIXED64, BYTES), // double_data
  11: many(VARINT, BYTES), // uint64_data
  12: one(BYTES), // doc_string
  13: many(BYTES), // external_data
  14: one(VARINT), // data_location
  16: many(BYTES), // metadata_props
};
/** @type {Record<number, number>} where a type's numbers are listed one by one */
const LISTS = { 1: 4, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 7, 9: 5, 10: 5, 11: 10, 12: 11, 13: 11, 16: 5 };
const MOST_DIMS = 16;
const MOST_LISTED = 1 << 16; // numbers outside raw_data: small tensors only
const MOST_READ = 64; // elements of a constant that says sizes
export const [FLOAT, INT32, INT64] = [1, 6, 7];

/**
 * @typedef {object} Tensor
 * @property {string} name
 * @property {number} kind number of its element type
 * @property {number[]} values its numbers if it is small and of a type that sizes have; else none
 */

/** @param {Uint8Array} data @returns {Tensor} @throws {Malformed} */
export function readTensor(data) {
  const found = message(data, SCHEMA, "a tensor");
  const name = text(found, 8);
  const shown = `the tensor '${name.slice(0, 80)}'`;
  if (found.has(13) || integer(found, 14)) throw new Malformed(`${shown} is stored outside the file`);
  const kind = Number(integer(found, 2));
  const item = ITEM_SIZES[kind];
  if (!item) throw new Malformed(`${shown} has the element type ${kind}`);
  let count = 1;
  for (const size of integers(found, 1, MOST_DIMS)) {
    count *= Number(size);
    if (size < 0n || count >= 2 ** 31) throw new Malformed(`${shown} has impossible sizes`);
  }
  const listed = [4, 5, 7, 10, 11].filter((number) => found.has(number));
  if (found.has(9)) {
    const [raw] = parts(found, 9);
    if (raw.length !== count * item || listed.length) {
      throw new Malformed(`${shown} has ${raw.length} bytes, its sizes say ${count * item}`);
    }
    return { name, kind, values: count <= MOST_READ ? numbers(raw, kind) : [] };
  }
  const [total, values] = list(found, LISTS[kind]);
  if (total !== count || listed.some((number) => number !== LISTS[kind])) {
    throw new Malformed(`${shown} lists ${total} numbers, its sizes say ${count}`);
  }
  return { name, kind, values };
}

/** @param {Uint8Array} raw @param {number} kind @returns {number[]} */
function numbers(raw, kind) {
  const own = raw.slice().buffer;
  if (kind === FLOAT) return Array.from(new Float32Array(own));
  if (kind === INT32) return Array.from(new Int32Array(own));
  return kind === INT64 ? Array.from(new BigInt64Array(own), Number) : [];
}

/**
 * How many numbers a typed list holds, and the whole ones among its values.
 *
 * @param {import("./wire.js").Message} found @param {number} number @returns {[number, number[]]}
 */
function list(found, number) {
  if (number !== 4 && number !== 10) {
    const values = integers(found, number, MOST_LISTED).map(Number);
    return [values.length, values];
  }
  const wide = number === 4 ? 4 : 8;
  const total = parts(found, number).reduce((sum, part) => sum + part.length, 0);
  if (total % wide) throw new Malformed("a list of numbers is cut off");
  return [total / wide, []];
}
