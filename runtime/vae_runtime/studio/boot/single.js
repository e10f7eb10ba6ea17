/**
 * Start a page that is a single file. `#wasm` and `#payload` hold everything, gzipped and encoded as text with seven
 * bits per character by `single_file.py`. This script is inline, so it cannot import modules.
 */

const RESERVED = [0x00, 0x0d, 0x3c]; // HTML would change these or end the element

/** Join the seven bits of each character. One above 127 stands for a reserved character and the seven bits after it. */
function bytesOf(/** @type {string} */ text, /** @type {number} */ size) {
  const bytes = new Uint8Array(size); // the padding at the end is lost: a typed array ignores writes past its end
  let [bits, held, at] = [0, 0, 0];
  const push = (/** @type {number} */ seven) => {
    bits = ((bits << 7) | seven) & 0x7fff;
    held += 7;
    if (held >= 8) {
      held -= 8;
      bytes[at] = bits >> held;
      at += 1;
    }
  };
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code > 127) push(RESERVED[(code >> 7) - 1]);
    push(code & 127);
  }
  return bytes;
}

/** Split the payload into files; the bundle's files come last, interleaved in blocks. */
function unpack(/** @type {Uint8Array} */ raw) {
  const end = raw.indexOf(10);
  const head = JSON.parse(new TextDecoder().decode(raw.subarray(0, end)));
  /** @type {Record<string, Uint8Array>} */
  const files = {};
  let at = end + 1;
  for (const [name, size] of head.files) {
    files[name] = raw.slice(at, at + size);
    at += size;
  }
  const bundle = Object.fromEntries(head.bundle.map((/** @type {any} */ [name, size]) => [name, new Uint8Array(size)]));
  for (let from = 0; at < raw.length; from += head.block) {
    for (const [name, size] of head.bundle) {
      const part = Math.max(0, Math.min(head.block, size - from));
      if (part) bundle[name].set(raw.subarray(at, at + part), from);
      at += part;
    }
  }
  return { files, bundle, modules: head.modules, name: head.name };
}

/** Give each module a blob URL. Modules come after the modules that they import. */
function modules(/** @type {Record<string, Uint8Array>} */ files, /** @type {string[]} */ order) {
  /** @type {Record<string, string>} */
  const urls = {};
  for (const path of order) {
    const text = new TextDecoder().decode(files[path]);
    const linked = text.replace(/"studio:([^"]+)"/g, (_, wanted) => JSON.stringify(urls[wanted]));
    urls[path] = URL.createObjectURL(new Blob([linked], { type: "text/javascript" }));
  }
  return urls;
}

/** Unpack an element and remove it, because its text takes megabytes. */
async function take(/** @type {string} */ id) {
  const element = /** @type {HTMLElement} */ (document.getElementById(id));
  const packed = new Response(bytesOf(element.textContent ?? "", Number(element.dataset.size))).body;
  element.remove();
  return new Response(packed?.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

(async () => {
  const { files, bundle, modules: order, name } = unpack(new Uint8Array(await take("payload")));
  const { run } = await import(modules(files, order)["boot/run.js"]);
  await run(async () => ({ wasm: await take("wasm"), bundle, points: files["points.npz"], name }));
})();
