/** onnxruntime-web and files by address, for browsers; under Node `platform.node.js` takes the place of this module. */

import * as ort from "onnxruntime-web/wasm";
import { NotFound } from "./errors.js";

/**
 * @param {string | URL | ArrayBuffer} [wasm] address or content of `ort-wasm-simd-threaded.wasm`, by default beside
 *     the script; the first call decides
 * @returns {Promise<{ort: any, providers: string[]}>}
 */
export async function onnxruntime(wasm) {
  // Threads need headers that few hosts send, and one thread is fastest for models this small.
  ort.env.wasm.numThreads = 1;
  if (wasm instanceof ArrayBuffer) ort.env.wasm.wasmBinary = wasm;
  else if (wasm) ort.env.wasm.wasmPaths = { wasm: String(wasm) };
  return { ort, providers: ["wasm"] };
}

/** @param {string} address @returns {Promise<Uint8Array>} @throws {NotFound} the server has no such file */
export async function readPath(address) {
  const response = await fetch(address).catch((/** @type {Error} */ error) => {
    throw new NotFound(`${address}: could not be fetched: ${error.message}. Check the address and the network.`);
  });
  if (!response.ok) throw new NotFound(`${address}: the server answered ${response.status}. Check the address.`);
  return new Uint8Array(await response.arrayBuffer());
}
