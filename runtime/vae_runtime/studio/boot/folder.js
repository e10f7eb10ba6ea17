/** Start a page from a folder: fetch its files, then run it. */

import { run } from "./run.js";

/** @param {string} path @returns {Promise<Response>} */
async function get(path) {
  const response = await fetch(path);
  if (!response.ok || !response.body) throw new Error(`${path}: the server answered ${response.status}`);
  return response;
}

/** Fetch onnxruntime-web's wasm and unpack it, unless the browser has done so because the server declared it as gzip. */
async function wasm() {
  const raw = await (await get("assets/ort-wasm.gz.bin")).arrayBuffer();
  const packed = new Uint8Array(raw)[0] === 0x1f;
  return packed ? new Response(new Response(raw).body?.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer() : raw;
}

run(async () => {
  const [engine, bundle, points, page] = await Promise.all([
    wasm(),
    get("bundle.zip").then((response) => response.arrayBuffer()),
    get("points.npz").then((response) => response.arrayBuffer()),
    get("page.json").then((response) => response.json()),
  ]);
  return { wasm: engine, bundle: new Uint8Array(bundle), points: new Uint8Array(points), name: page.name };
});
