/**
 * A page that is one file: all lies gzipped in `#wasm` and `#payload`, as text of seven bits a character.
 * See `single.py`, which writes it. No module can be imported from here: this text stands in the page.
 */

const BARRED = [0x00, 0x0d, 0x3c]; // what HTML would change, or read as the end

/** Seven bits of each character; one beyond ASCII is a barred one, and the seven bits behind it. */
function bytesOf(/** @type {string} */ text, /** @type {number} */ size) {
  const bytes = new Uint8Array(size); // the last bits are padding: writes behind the end are dropped
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
    if (code > 127) push(BARRED[(code >> 7) - 1]);
    push(code & 127);
  }
  return bytes;
}

/** Files one behind the other, then the bundle's, cut in blocks that take turns. */
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

/** Each module under a blob's URL, those that it imports before it. */
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

/** What lies in an element, which is then dropped: its text is megabytes. */
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
