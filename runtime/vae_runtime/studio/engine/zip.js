/** The directory of a zip, read in place without trusting a header. */

const END = 22; // bytes of a zip's last record without its comment
const ENTRY = 46;
const LOCAL = 30;

/** Bytes that are no zip, or a damaged one; the text says why, without the file's name. */
export class BadZip extends Error {}

/**
 * @typedef {object} Member
 * @property {string} name
 * @property {number} method 0 is stored, 8 deflated
 * @property {boolean} encrypted
 * @property {number} header where its local header begins
 * @property {number} start where its bytes begin
 * @property {number} packed how many they are
 * @property {number} size how many they become when unpacked
 */

/**
 * @param {Uint8Array} raw
 * @returns {{members: Member[], comment: Uint8Array}} members in the order of the directory
 * @throws {BadZip}
 */
export function readDirectory(raw) {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const end = findEnd(view);
  const count = view.getUint16(end + 10, true);
  const size = view.getUint32(end + 12, true);
  let at = view.getUint32(end + 16, true);
  if (view.getUint16(end + 8, true) !== count || at + size !== end) {
    throw new BadZip("its directory is not where it says");
  }
  const members = [];
  for (let i = 0; i < count; i += 1) {
    if (at + ENTRY > end || view.getUint32(at, true) !== 0x02014b50) {
      throw new BadZip("its directory is cut off");
    }
    const lengths = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const next = at + ENTRY + lengths[0] + lengths[1] + lengths[2];
    if (next > end) throw new BadZip("its directory is cut off");
    members.push(readMember(raw, view, at, lengths[0]));
    at = next;
  }
  if (at !== end) throw new BadZip("bytes behind the directory");
  return { members, comment: raw.subarray(end + END) };
}

/** Where the last record begins; nothing may stand behind it. @param {DataView} view */
function findEnd(view) {
  const last = view.byteLength - END;
  for (let at = last; at >= Math.max(0, last - 0xffff); at -= 1) {
    if (view.getUint32(at, true) === 0x06054b50 && view.getUint16(at + 20, true) === last - at) {
      return at;
    }
  }
  throw new BadZip("no zip");
}

/**
 * @param {Uint8Array} raw @param {DataView} view @param {number} at @param {number} length
 * @returns {Member}
 */
function readMember(raw, view, at, length) {
  const bytes = raw.subarray(at + ENTRY, at + ENTRY + length);
  const header = view.getUint32(at + 42, true);
  const packed = view.getUint32(at + 20, true);
  if (header + LOCAL > raw.length || view.getUint32(header, true) !== 0x04034b50) {
    throw new BadZip("a file is not where the directory says");
  }
  const named = view.getUint16(header + 26, true);
  const start = header + LOCAL + named + view.getUint16(header + 28, true);
  const own = raw.subarray(header + LOCAL, header + LOCAL + named);
  if (start + packed > raw.length || own.some((b, i) => b !== bytes[i]) || named !== length) {
    throw new BadZip("a file is not what the directory says");
  }
  return {
    name: new TextDecoder().decode(bytes),
    method: view.getUint16(at + 10, true),
    encrypted: (view.getUint16(at + 8, true) & 1) === 1,
    header,
    start,
    packed,
    size: view.getUint32(at + 24, true),
  };
}
