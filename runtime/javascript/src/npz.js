/** Read untrusted `.npz` files: a header must match its bytes before an array is made. */

import { InputError, LimitError } from "./errors.js";
import { BadZip, readDirectory, unpack } from "./zip.js";

const MAX_BYTES = 2 ** 30;
const HEADER = /^\{'descr': '([<|][a-z]\d)', 'fortran_order': False, 'shape': \(((?:\d+, ?)*\d*)\), \}\s*$/;
/** @type {Record<string, any>} */
const KINDS = { "<f4": Float32Array, "<f8": Float64Array, "<i8": BigInt64Array, "|u1": Uint8Array };

/**
 * @typedef {object} NpyArray
 * @property {Float32Array | Float64Array | BigInt64Array | Uint8Array} data in C order
 * @property {number[]} shape
 */

/**
 * Read arrays by name, as `numpy.savez` and `numpy.savez_compressed` write them on a little-endian machine.
 *
 * @param {Uint8Array} raw @param {string} where begins every error message
 * @returns {Promise<Map<string, NpyArray>>}
 * @throws {InputError} not an `.npz`, another data type or order, or a header that does not match its bytes
 * @throws {LimitError} more than 1 GiB when unpacked
 */
export async function readNpz(raw, where) {
  try {
    const { members } = readDirectory(raw);
    if (members.reduce((sum, member) => sum + member.size, 0) > MAX_BYTES) {
      throw new LimitError(`${where}: over ${MAX_BYTES / 2 ** 20} MB of arrays`);
    }
    const arrays = new Map();
    for (const member of members) arrays.set(member.name.replace(/\.npy$/, ""), readNpy(await unpack(raw, member)));
    return arrays;
  } catch (error) {
    if (!(error instanceof BadZip)) throw error;
    throw new InputError(`${where}: not a readable .npz of numbers: ${error.message}`);
  }
}

/** @param {Uint8Array} raw all of its buffer @returns {NpyArray} @throws {BadZip} */
function readNpy(raw) {
  const [magic, major] = [String.fromCharCode(...raw.subarray(1, 6)), raw[6]];
  if (raw.length < 16 || raw[0] !== 0x93 || magic !== "NUMPY" || (major !== 1 && major !== 2)) {
    throw new BadZip("a file is not an array");
  }
  const view = new DataView(raw.buffer);
  const [begin, length] = major === 1 ? [10, view.getUint16(8, true)] : [12, view.getUint32(8, true)];
  const found = HEADER.exec(new TextDecoder("latin1").decode(raw.subarray(begin, begin + length)));
  const Kind = found && KINDS[found[1]];
  if (!found || !Kind) throw new BadZip("expected float32, float64, int64 or uint8 in C order");
  const shape = (found[2].match(/\d+/g) ?? []).map(Number);
  const count = shape.reduce((product, n) => product * n, 1);
  const bytes = raw.slice(begin + length).buffer;
  if (count * Kind.BYTES_PER_ELEMENT !== bytes.byteLength) throw new BadZip("a header does not match its bytes");
  return { data: new Kind(bytes), shape };
}
