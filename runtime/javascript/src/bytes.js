/** Hash (with WebCrypto), sum, join and decode bytes. */

import { UsageError } from "./errors.js";

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  return crc;
});

/**
 * @param {Uint8Array} raw
 * @returns {Promise<string>} 64 hexadecimal digits
 * @throws {UsageError} on a page served over plain http, where browsers offer no WebCrypto
 */
export async function sha256(raw) {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) {
    throw new UsageError(
      "this page came over plain http, where browsers offer no WebCrypto, so no bundle can be checked. " +
        "Serve it over https or from localhost, or open it as a file.",
    );
  }
  const digest = new Uint8Array(await subtle.digest("SHA-256", /** @type {any} */ (raw)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Uint8Array[]} parts @returns {Uint8Array<ArrayBuffer>} */
export function concat(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} raw @returns {string} @throws {TypeError} not UTF-8 */
export function decodeUtf8(raw) {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
}

/** The checksum of zip and PNG files (CRC-32, ISO 3309). @param {Uint8Array} raw @returns {number} */
export function crc32(raw) {
  let crc = ~0;
  for (const byte of raw) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}
