/** The files of a bundle: out of one stored `.zip`, or as they were fetched one by one. */

import { joined, sha256, utf8 } from "./digest.js";
import { InputError, IntegrityError, LimitError } from "./errors.js";
import { BadZip, readDirectory } from "./zip.js";

const MAX_BYTES = 2 ** 30;
const MOST_FILES = 1000;
const MARK = "sha256:";

/** @typedef {Map<string, Uint8Array>} Files */

/**
 * @param {Uint8Array | Record<string, Uint8Array>} source a stored zip, or files by name
 * @param {string} where begins every error message
 * @returns {Promise<Files>}
 * @throws {InputError} no zip, or one with compressed, encrypted or doubly named files
 * @throws {IntegrityError} a zip that is cut off or damaged
 * @throws {LimitError} over a gigabyte
 */
export async function readFiles(source, where) {
  if (source instanceof Uint8Array) return readZip(source, where);
  // A leading dot: what file managers leave in folders.
  const files = Object.entries(source).filter(([name]) => !name.startsWith("."));
  checkSize(files.reduce((sum, [, raw]) => sum + raw.length, 0), where);
  return new Map(files);
}

/** @param {Uint8Array} raw @param {string} where @returns {Promise<Files>} */
async function readZip(raw, where) {
  checkSize(raw.length, where);
  const members = await framed(raw, where);
  if (members.length > MOST_FILES) {
    throw new InputError(`${where}: over ${MOST_FILES} files in the zip`);
  }
  const files = new Map();
  for (const { name, method, encrypted, start, packed, size } of members) {
    if (files.has(name)) throw new InputError(`${where}: two files of the same name in the zip`);
    if (method !== 0 || encrypted || packed !== size) {
      throw new InputError(`${where}: ${name} is compressed; a bundle's zip is stored`);
    }
    files.set(name, raw.subarray(start, start + size));
  }
  return files;
}

/**
 * The directory, once the bytes between the files' contents are found to be those that were
 * written: a bundle's zip has their sha256 in its comment.
 *
 * @param {Uint8Array} raw @param {string} where
 */
async function framed(raw, where) {
  try {
    const { members, comment } = readDirectory(raw);
    const parts = [];
    let at = 0;
    for (const { start, packed } of members) {
      if (start < at) throw new BadZip("files overlap");
      parts.push(raw.subarray(at, start));
      at = start + packed;
    }
    parts.push(raw.subarray(at, raw.length - 64));
    if (comment.length && utf8(comment) !== MARK + (await sha256(joined(parts)))) {
      throw new BadZip("the frame does not match its digest");
    }
    return members;
  } catch (error) {
    if (!(error instanceof BadZip || error instanceof TypeError)) throw error;
    if (raw.length > 3 && raw[0] === 0x50 && raw[1] === 0x4b && raw[2] === 3 && raw[3] === 4) {
      throw new IntegrityError(`${where}: cut off or damaged. Copy the file again.`);
    }
    throw new InputError(`${where}: not a zip and not a folder, so not a bundle`);
  }
}

/** @param {number} bytes @param {string} where */
function checkSize(bytes, where) {
  if (bytes > MAX_BYTES) throw new LimitError(`${where}: over ${MAX_BYTES / 2 ** 20} MB`);
}
