/** Start the page from its content; a folder and a single file share this code. */

import { InputError } from "../engine/errors.js";
import { readNpz } from "../engine/npz.js";
import { start } from "../ui/main.js";

/**
 * @typedef {object} PageContent
 * @property {ArrayBuffer} wasm onnxruntime-web's WebAssembly
 * @property {Uint8Array | Record<string, Uint8Array>} bundle a stored zip, or files by name
 * @property {Uint8Array} points an `.npz` of latents; empty for a page without a data set
 * @property {string} name the name or path by which Python loads the bundle
 */

/** @param {() => Promise<PageContent>} load */
export async function run(load) {
  try {
    const { wasm, bundle, points, name } = await load();
    const found = await readPoints(points);
    await start({ wasm, name, bundle, points: found.n ? found : null });
  } catch (error) {
    const place = document.getElementById("notice") ?? document.body;
    place.textContent = `This page could not start: ${/** @type {Error} */ (error).message}`;
    throw error;
  }
}

/**
 * Read the latents of the data set that the page was built with, for its map.
 *
 * @param {Uint8Array} raw an `.npz` of `z` f32[n, D] and, if the data has labels, `label` i64[n]
 * @returns {Promise<{z: Float32Array, labels: Int32Array | null, n: number}>}
 */
async function readPoints(raw) {
  const arrays = await readNpz(raw, "points");
  const z = arrays.get("z");
  const label = arrays.get("label");
  if (!z || !(z.data instanceof Float32Array) || z.shape.length !== 2 || (label && label.data.length !== z.shape[0])) {
    throw new InputError("points: expected z float32[n, D], and n labels");
  }
  return { z: z.data, labels: label ? Int32Array.from(label.data, Number) : null, n: z.shape[0] };
}
