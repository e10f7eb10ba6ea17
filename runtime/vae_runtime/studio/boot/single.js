/**
 * A page that is one file: everything is in `#wasm` and `#payload`, gzipped, as text of seven bits per character.
 * `single_file.py` writes it. This script is part of the page, so it can import no module.
 */

const RESERVED = [0x00, 0x0d, 0x3c]; // HTML would change these, or end the element

/** Join the seven bits of each character; one beyond ASCII is a reserved character and the seven bits after it. */
function bytesOf(/** @type {string} */ text, /** @type {number} */ size) {
  const bytes = new Uint8Array(size); // the last bits are padding; an array ignores writes after its end
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

/** Split the payload: files one after another, then those of the bundle, in blocks that take turns. */
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

/** Give each module the URL of a blob; the modules that it imports come before it. */
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

/** Unpack an element, and remove it: its text is megabytes. */
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
