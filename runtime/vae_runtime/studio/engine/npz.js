/** Reading `.npz` bytes from strangers: each header must fit its bytes before an array is made. */

import { InputError, LimitError } from "./errors.js";
import { BadZip, readDirectory } from "./zip.js";

const MAX_BYTES = 2 ** 30;
const HEADER = /^\{'descr': '([<|][a-z]\d)', 'fortran_order': False, 'shape': \(((?:\d+, ?)*\d*)\), \}\s*$/;
/** @type {Record<string, any>} */
const KINDS = {
  "<f4": Float32Array,
  "<f8": Float64Array,
  "<i4": Int32Array,
  "<i8": BigInt64Array,
  "|u1": Uint8Array,
  "|b1": Uint8Array,
};

/**
 * @typedef {object} NpyArray
 * @property {Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array} data
 * @property {number[]} shape
 */

/**
 * Stored arrays of numbers by name, as `numpy.savez` writes them on a little-endian machine.
 *
 * @param {Uint8Array} raw @param {string} where begins every error message
 * @returns {Map<string, NpyArray>}
 * @throws {InputError} no `.npz`, or one that holds objects or sizes that its bytes do not fill
 */
export function readNpz(raw, where) {
  try {
    const { members } = readDirectory(raw);
    if (members.reduce((sum, member) => sum + member.size, 0) > MAX_BYTES) {
      throw new LimitError(`${where}: over ${MAX_BYTES / 2 ** 20} MB of arrays`);
    }
    return new Map(
      members.map(({ name, method, start, packed, size }) => {
        if (method !== 0 || packed !== size) throw new BadZip("compressed");
        return [name.replace(/\.npy$/, ""), readNpy(raw.slice(start, start + size))];
      }),
    );
  } catch (error) {
    if (!(error instanceof BadZip)) throw error;
    throw new InputError(`${where}: not a readable .npz of numbers`);
  }
}

/** @param {Uint8Array} raw of its own buffer @returns {NpyArray} */
function readNpy(raw) {
  const [magic, major] = [String.fromCharCode(...raw.subarray(1, 6)), raw[6]];
  const wide = major === 1 ? 2 : 4;
  if (raw.length < 16 || raw[0] !== 0x93 || magic !== "NUMPY" || (major !== 1 && major !== 2)) {
    throw new BadZip("no array");
  }
  const view = new DataView(raw.buffer);
  const begin = 8 + wide;
  const start = begin + (wide === 2 ? view.getUint16(8, true) : view.getUint32(8, true));
  const found = HEADER.exec(new TextDecoder("latin1").decode(raw.subarray(begin, start)));
  const Kind = found && KINDS[found[1]];
  if (!found || !Kind) throw new BadZip("no numbers, or of a kind that is not read");
  const shape = (found[2].match(/\d+/g) ?? []).map(Number);
  const count = shape.reduce((product, n) => product * n, 1);
  if (count * Kind.BYTES_PER_ELEMENT !== raw.length - start) throw new BadZip("a header that does not fit");
  return { data: new Kind(raw.slice(start).buffer), shape };
}
