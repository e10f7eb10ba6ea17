/** What a caller may pass as a bundle or a graph, as bytes. */

import { readPath } from "#platform";
import { UsageError } from "./errors.js";

/**
 * @typedef {Uint8Array | ArrayBuffer | Blob} Bytes
 * @typedef {string | URL | Bytes | Iterable<File> | Record<string, Uint8Array>} Source an address, under Node also a
 *     path; the bytes of a file; the files of a folder, as a file input gives them; or files by name
 */

/**
 * @param {Source} source @param {string | null} [name] begins every error message; by default the address or the file's name
 * @returns {Promise<{data: Uint8Array | Record<string, Uint8Array>, name: string}>}
 * @throws {NotFound} nothing is at the address
 * @throws {UsageError} something else than a `Source`
 */
export async function readSource(source, name) {
  if (typeof source === "string" || source instanceof URL) {
    return { data: await readPath(String(source)), name: name ?? String(source) };
  }
  if (isBytes(source)) return { data: await bytesOf(source), name: name ?? nameOf(source) };
  if (typeof source !== "object" || source === null) {
    throw new UsageError(`the source is ${source}, expected an address, bytes or files`);
  }
  if (!(Symbol.iterator in source)) return { data: source, name: name ?? "bundle" };
  const files = [...source];
  if (files.length === 1 && /\.(zip|onnx)$/i.test(files[0].name)) return readSource(files[0], name);
  const read = files.map(async (file) => [file.name, await bytesOf(file)]);
  return { data: Object.fromEntries(await Promise.all(read)), name: name ?? "bundle" };
}

/** @param {unknown} source @returns {source is Bytes} */
function isBytes(source) {
  return source instanceof Uint8Array || source instanceof ArrayBuffer || source instanceof Blob;
}

/** @param {Bytes} source @returns {Promise<Uint8Array>} never a Buffer, whose slice() does not copy */
async function bytesOf(source) {
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
}

/** @param {Bytes} source @returns {string} */
function nameOf(source) {
  return source instanceof Blob && "name" in source ? String(source.name) : "bundle";
}
