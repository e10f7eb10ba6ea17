/** The protobuf wire format, read in place: no copies, no recursion, every length checked. */

export const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5]; // wire types

/** Bytes that are no such message; the text says why, without the file's name. */
export class Malformed extends Error {}

/**
 * @typedef {{value: bigint, bytes: Uint8Array, wire: number}} Field `value` of a VARINT, else `bytes`
 * @typedef {Map<number, Field[]>} Message
 * @typedef {Record<number, {wires: number[], many: boolean}>} Schema by number of the field
 */

/** A field that stands at most once. @param {...number} wires */
export const one = (...wires) => ({ wires, many: false });

/** A repeated field. @param {...number} wires */
export const many = (...wires) => ({ wires, many: true });

/**
 * An unsigned number of at most 64 bits, and where it ended.
 *
 * @param {Uint8Array} data @param {number} at @returns {[bigint, number]}
 */
function varint(data, at) {
  if (data[at] < 128) return [BigInt(data[at]), at + 1];
  let value = 0n;
  for (let shift = 0n; at < data.length && shift < 70n; shift += 7n) {
    const byte = data[at];
    at += 1;
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) {
      if (value >> 64n) break;
      return [value, at];
    }
  }
  throw new Malformed("not ONNX: a number is cut off or too long");
}

/**
 * All fields of one message by number; only what `schema` knows, nothing single twice.
 *
 * @param {Uint8Array} data @param {Schema} schema @param {string} what
 * @returns {Message}
 */
export function message(data, schema, what) {
  /** @type {Message} */
  const found = new Map();
  for (let at = 0; at < data.length; ) {
    let tag;
    [tag, at] = varint(data, at);
    const [number, wire] = [Number(tag >> 3n), Number(tag & 7n)];
    let [value, size] = [0n, 0];
    if (wire === VARINT) [value, at] = varint(data, at);
    else if (wire === BYTES) {
      let length;
      [length, at] = varint(data, at);
      size = Number(length);
    } else if (wire === FIXED32 || wire === FIXED64) size = wire === FIXED32 ? 4 : 8;
    else throw new Malformed("not ONNX: an unknown kind of field");
    if (at + size > data.length) throw new Malformed("not ONNX: a field reaches beyond its end");
    keep(found, schema, what, number, { value, bytes: data.subarray(at, at + size), wire });
    at += size;
  }
  return found;
}

/** @param {Message} found @param {Schema} schema @param {string} what @param {number} number @param {Field} field */
function keep(found, schema, what, number, field) {
  const known = schema[number];
  if (!known) throw new Malformed(`${what} holds field ${number}, which is not allowed`);
  if (!known.wires.includes(field.wire)) throw new Malformed(`${what}: field ${number} is of the wrong kind`);
  const before = found.get(number);
  if (!before) found.set(number, [field]);
  else if (known.many) before.push(field);
  else throw new Malformed(`${what}: field ${number} stands there twice`);
}

/** The bytes of each field of a number. @param {Message} found @param {number} number */
export function parts(found, number) {
  return (found.get(number) ?? []).map((field) => field.bytes);
}

/** A single text field; empty where there is none. @param {Message} found @param {number} number */
export function text(found, number) {
  return new TextDecoder().decode(found.get(number)?.[0].bytes);
}

/** A single VARINT field, as a signed number. @param {Message} found @param {number} number */
export function integer(found, number, fallback = 0n) {
  return BigInt.asIntN(64, found.get(number)?.[0].value ?? fallback);
}

/**
 * A repeated VARINT field without or with packing: at most `most` signed numbers.
 *
 * @param {Message} found @param {number} number @param {number} most @returns {bigint[]}
 */
export function integers(found, number, most) {
  /** @type {bigint[]} */
  const values = [];
  for (const { value, bytes, wire } of found.get(number) ?? []) {
    if (wire === VARINT) values.push(BigInt.asIntN(64, value));
    for (let at = 0; wire === BYTES && at < bytes.length && values.length <= most; ) {
      let next;
      [next, at] = varint(bytes, at);
      values.push(BigInt.asIntN(64, next));
    }
    if (values.length > most) throw new Malformed(`a list of more than ${most} numbers`);
  }
  return values;
}
