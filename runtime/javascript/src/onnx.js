/**
 * Read the metadata of an `.onnx` file, which onnxruntime-web does not expose, and verify the checksum at its end.
 * The graph itself is not checked: WebAssembly is its sandbox.
 */

import { decodeUtf8, sha256 } from "./bytes.js";
import { InputError, IntegrityError } from "./errors.js";

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5]; // protobuf's wire types
const METADATA_PROPS = 14; // field of ModelProto; each entry has a key (field 1) and a value (field 2)
export const SPEC_KEY = "vae_onnx";
const CHECKSUM_KEY = "vae_onnx_sha256";
const CHECKSUM_SIZE = 85; // bytes of the last entry, which is the sha256 of all bytes before it

/**
 * @param {Uint8Array} raw @param {string} where begins the error message
 * @returns {Map<string, string>}
 * @throws {InputError} not ONNX, or a duplicate key
 */
export function readMetadata(raw, where) {
  try {
    const properties = new Map();
    for (const entry of fields(raw, METADATA_PROPS)) {
      const [key, value] = [1, 2].map((number) => decodeUtf8(fields(entry, number)[0] ?? new Uint8Array()));
      if (properties.has(key)) throw new TypeError(`duplicate key '${key}'`);
      properties.set(key, value);
    }
    return properties;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new InputError(`${where}: not an ONNX file that vae-export wrote`);
  }
}

/**
 * Verify the checksum of a single graph, which has no manifest.
 *
 * @param {Uint8Array} raw @param {Map<string, string>} properties its metadata @param {string} where
 * @throws {IntegrityError} the checksum is missing or does not match the bytes
 */
export async function verifyChecksum(raw, properties, where) {
  if (properties.get(CHECKSUM_KEY) !== (await sha256(raw.subarray(0, -CHECKSUM_SIZE)))) {
    throw new IntegrityError(`${where}: damaged: its bytes do not match its sha256. Copy or export it again.`);
  }
}

/**
 * Get the contents of every field with the number `wanted` in a protobuf message.
 *
 * @param {Uint8Array} raw @param {number} wanted @returns {Uint8Array[]} @throws {TypeError}
 */
function fields(raw, wanted) {
  const found = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; at < raw.length && scale < 2 ** 64; scale *= 128) {
      const byte = raw[at];
      at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new TypeError("a number is cut off or too long");
  };
  while (at < raw.length) {
    const tag = varint();
    const wire = tag % 8;
    let size = 0;
    if (wire === VARINT) varint();
    else if (wire === BYTES) size = varint();
    else if (wire === FIXED64) size = 8;
    else if (wire === FIXED32) size = 4;
    else throw new TypeError("an unknown wire type");
    if (at + size > raw.length) throw new TypeError("a field reaches beyond its end");
    if (Math.floor(tag / 8) === wanted && wire === BYTES) found.push(raw.subarray(at, at + size));
    at += size;
  }
  return found;
}
