/** From the parts of a page to the page: the same for a folder and for a single file. */

import * as ort from "../assets/ort.min.mjs";
import { readPoints } from "../engine/index.js";
import { start } from "../ui/main.js";

/**
 * @typedef {object} Parts
 * @property {ArrayBuffer} wasm of onnxruntime-web
 * @property {Uint8Array | Record<string, Uint8Array>} bundle a stored zip, or files by name
 * @property {Uint8Array} points an `.npz` of codes; of none where the page has no data set
 * @property {string} name what Python loads the bundle by
 */

/** @param {() => Promise<Parts>} load */
export async function run(load) {
  try {
    const { wasm, bundle, points, name } = await load();
    // Threads need headers that few hosts send; for models this small one is the fastest.
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = wasm;
    const found = readPoints(points);
    await start({ ort, name, bundle, points: found.n ? found : null });
  } catch (error) {
    const place = document.getElementById("notice") ?? document.body;
    place.textContent = `This page could not start: ${/** @type {Error} */ (error).message}`;
    throw error;
  }
}
