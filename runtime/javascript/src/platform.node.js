/** onnxruntime and files for Node: onnxruntime-node if it is installed, else onnxruntime-web. */

import { readdir, readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { NotFound } from "./errors.js";
import * as browser from "./platform.js";

/**
 * @param {string | URL | ArrayBuffer} [wasm] as in a browser
 * @returns {Promise<{ort: any, providers: string[]}>}
 */
export async function onnxruntime(wasm) {
  process.env.ORT_DISABLE_TELEMETRY ??= "1"; // onnxruntime reads this while it is imported
  try {
    // @ts-ignore: an optional package
    const { default: ort } = await import("onnxruntime-node");
    return { ort, providers: ["cpu"] };
  } catch (error) {
    if (/** @type {any} */ (error).code !== "ERR_MODULE_NOT_FOUND") throw error;
    return browser.onnxruntime(wasm);
  }
}

/**
 * @param {string} address a path, or an address that begins with file:, http: or https:
 * @returns {Promise<Uint8Array | Record<string, Uint8Array>>} a file, or the files of a folder by name
 * @throws {NotFound} there is no such file
 */
export async function readPath(address) {
  if (/^https?:/.test(address)) return browser.readPath(address);
  const path = address.startsWith("file:") ? fileURLToPath(address) : address;
  try {
    if (!(await stat(path)).isDirectory()) return await bytes(path);
    const names = await readdir(path);
    return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await bytes(join(path, name))])));
  } catch (error) {
    const { code } = /** @type {any} */ (error);
    const place = resolve(path) === path ? "" : ` at ${resolve(path)}`;
    const seen = code === "ENOENT" ? `no such file or folder${place}` : `could not be read${place}: ${code}`;
    throw new NotFound(`${path}: ${seen}. Expected a .zip or .onnx file, or a folder that vae-export or vae-run unpack wrote.`);
  }
}

/** @param {string} path @returns {Promise<Uint8Array>} not a Buffer, whose slice() does not copy */
async function bytes(path) {
  return new Uint8Array(await readFile(path));
}
