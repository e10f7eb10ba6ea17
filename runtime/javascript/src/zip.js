/** Read untrusted zip files in place, and write those of bundles. */

import { concat, crc32, sha256 } from "./bytes.js";

const END = 22; // bytes of the end record without its comment
const ENTRY = 46;
const LOCAL = 30;
const DEFLATED = 8;

/** Not a zip, or a damaged one; the message gives the reason but not the file's name. */
export class BadZip extends Error {}

/**
 * @typedef {object} Member
 * @property {string} name
 * @property {boolean} stored neither compressed nor encrypted
 * @property {boolean} deflated compressed with deflate and not encrypted
 * @property {number} header offset of its local header
 * @property {number} start offset of its content
 * @property {number} packed bytes of its content
 * @property {number} size bytes of its unpacked content
 */

/**
 * @param {Uint8Array} raw
 * @returns {{members: Member[], start: number, comment: Uint8Array}} the members in the order of the directory, and
 *     the offset of the directory
 * @throws {BadZip}
 */
export function readDirectory(raw) {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const end = findEnd(view);
  const count = view.getUint16(end + 10, true);
  const start = view.getUint32(end + 16, true);
  const parts = view.getUint32(end + 4, true); // the numbers of this part and of the directory's
  if (parts || view.getUint16(end + 8, true) !== count || start + view.getUint32(end + 12, true) !== end) {
    throw new BadZip("its directory is not where it says");
  }
  const members = [];
  let at = start;
  for (let i = 0; i < count; i += 1) {
    if (at + ENTRY > end || view.getUint32(at, true) !== 0x02014b50) throw new BadZip("its directory is cut off");
    const [name, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const next = at + ENTRY + name + extra + comment;
    if (next > end) throw new BadZip("its directory is cut off");
    members.push(readEntry(raw, view, at, raw.subarray(at + ENTRY, at + ENTRY + name)));
    at = next;
  }
  if (at !== end) throw new BadZip("bytes after the directory");
  return { members, start, comment: raw.subarray(end + END) };
}

/** Find the end record, which must be the last thing in the file. @param {DataView} view */
function findEnd(view) {
  const last = view.byteLength - END;
  for (let at = last; at >= Math.max(0, last - 0xffff); at -= 1) {
    if (view.getUint32(at, true) === 0x06054b50 && view.getUint16(at + 20, true) === last - at) return at;
  }
  throw new BadZip("no end record");
}

/**
 * @param {Uint8Array} raw @param {DataView} view @param {number} at offset of the entry in the directory
 * @param {Uint8Array} name @returns {Member}
 */
function readEntry(raw, view, at, name) {
  const header = view.getUint32(at + 42, true);
  if (header + LOCAL > raw.length || view.getUint32(header, true) !== 0x04034b50) {
    throw new BadZip("a file is not where the directory says");
  }
  const length = view.getUint16(header + 26, true);
  const start = header + LOCAL + length + view.getUint16(header + 28, true);
  const own = raw.subarray(header + LOCAL, header + LOCAL + length);
  const [packed, size] = [20, 24].map((offset) => view.getUint32(at + offset, true));
  if (start + packed > raw.length || length !== name.length || own.some((byte, i) => byte !== name[i])) {
    throw new BadZip("a file is not what the directory says");
  }
  const method = view.getUint16(at + 10, true);
  const encrypted = Boolean(view.getUint16(at + 8, true) & 1);
  return {
    name: new TextDecoder().decode(name),
    stored: method === 0 && !encrypted && packed === size,
    deflated: method === DEFLATED && !encrypted,
    header,
    start,
    packed,
    size,
  };
}

/**
 * Unpack a member into its own buffer, with never more bytes than the directory says.
 *
 * @param {Uint8Array} raw @param {Member} member @returns {Promise<Uint8Array>} @throws {BadZip}
 */
export async function unpack(raw, { stored, deflated, start, packed, size }) {
  const content = raw.slice(start, start + packed);
  if (stored) return content;
  if (!deflated) throw new BadZip("encrypted, or compressed in another way");
  const whole = new Uint8Array(size);
  let at = 0;
  try {
    const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    for (const reader = stream.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      whole.set(value, at); // a RangeError if there are too many bytes
      at += value.length;
    }
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    at = -1;
  }
  if (at !== size) throw new BadZip("a file does not unpack to its size");
  return whole;
}

/**
 * Write the zip that Python writes of the same files: stored, dated 1980-01-01, and with a checksum of all bytes but
 * their contents as the comment.
 *
 * @param {Iterable<[string, Uint8Array]>} files names in ASCII, and contents
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function writeZip(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [file, raw] of files) {
    const name = new TextEncoder().encode(file);
    const common = [[20, 2], [0, 6], [0x21, 2], [crc32(raw), 4], [raw.length, 4], [raw.length, 4], [name.length, 2], [0, 2]];
    const header = concat([fields([0x04034b50, 4], ...common), name]);
    directory.push(fields([0x02014b50, 4], [0x0314, 2], ...common, [0, 6], [0x01800000, 4], [at, 4]), name);
    parts.push({ header, raw });
    at += header.length + raw.length;
  }
  const entries = concat(directory);
  const comment = new TextEncoder().encode("sha256:");
  const end = fields([0x06054b50, 4], [0, 4], [parts.length, 2], [parts.length, 2], [entries.length, 4], [at, 4], [comment.length + 64, 2]);
  const tail = concat([entries, end, comment]);
  const digest = await sha256(concat([...parts.map(({ header }) => header), tail]));
  return concat([...parts.flatMap(({ header, raw }) => [header, raw]), tail, new TextEncoder().encode(digest)]);
}

/** Little-endian numbers, each of which is [value, bytes]. @param {number[][]} pairs */
function fields(...pairs) {
  return Uint8Array.from(pairs.flatMap(([value, size]) => Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i) & 0xff)));
}
