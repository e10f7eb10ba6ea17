/** One `.onnx` file of a bundle, run by the onnxruntime that the host gives. */

import { InputError, LimitError } from "./errors.js";
import { checkGraph } from "./guard/model.js";
import { expectedTensors } from "./manifest.js";

const METADATA_KEY = "vae_onnx";

/**
 * @typedef {object} Host
 * @property {any} ort onnxruntime-web, or onnxruntime-node
 * @property {string[]} [providers] `wasm` by default; `cpu` for onnxruntime-node
 */

export class Graph {
  /** @param {any} session @param {any} ort @param {string} where */
  constructor(session, ort, where) {
    this.session = session;
    this.ort = ort;
    this.where = where;
  }

  /**
   * @param {Uint8Array} raw the very bytes whose sha256 was checked
   * @param {import("./manifest.js").GraphSpec} spec
   * @param {import("./card.js").Card} card
   * @param {Host} host @param {string} where
   * @returns {Promise<Graph>}
   * @throws {InputError} a graph of another bundle, or not what the manifest says it is
   */
  static async load(raw, spec, card, { ort, providers = ["wasm"] }, where) {
    checkCard(checkGraph(raw, where).get(METADATA_KEY), card, where);
    const options = { executionProviders: providers, logSeverityLevel: 4, intraOpNumThreads: 1 };
    const session = await ort.InferenceSession.create(raw, options).catch((/** @type {Error} */ error) => {
      throw new InputError(`${where}: onnxruntime refuses the graph: ${error.message ?? error}`);
    });
    checkTensors(session, spec, card, where);
    return new Graph(session, ort, where);
  }

  /** @returns {boolean} */
  get takesLabel() {
    return this.session.inputNames.includes("label");
  }

  /**
   * @param {Record<string, {data: any, shape: number[]}>} inputs by name
   * @returns {Promise<Record<string, any>>} values by name
   */
  async run(inputs) {
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, { data, shape }]) => [name, new this.ort.Tensor(kindOf(data), data, shape)]),
    );
    try {
      const found = await this.session.run(feeds);
      return Object.fromEntries(this.session.outputNames.map((/** @type {string} */ name) => [name, found[name].data]));
    } catch (error) {
      const text = String(/** @type {any} */ (error)?.message ?? error);
      if (/alloc|memory/i.test(text)) throw new LimitError("out of memory in onnxruntime. Run fewer items.");
      throw new InputError(`${this.where}: onnxruntime could not run the graph: ${text}`);
    }
  }

  async close() {
    await this.session.release();
  }
}

/** @param {any} data */
function kindOf(data) {
  return data instanceof BigInt64Array ? "int64" : "float32";
}

/** @param {string | undefined} text @param {import("./card.js").Card} card @param {string} where */
function checkCard(text, card, where) {
  if (text === undefined) {
    throw new InputError(`${where}: not a graph of a bundle: it carries no ${METADATA_KEY} metadata. Export it with vae-export.`);
  }
  let id;
  try {
    id = JSON.parse(text)?.id;
  } catch {
    throw new InputError(`${where}: its metadata is not JSON`);
  }
  if (id !== card.id) {
    throw new InputError(`${where}: belongs to bundle ${id}, expected ${card.id}. Export again.`);
  }
}

/**
 * @param {any} session @param {import("./manifest.js").GraphSpec} spec
 * @param {import("./card.js").Card} card @param {string} where
 */
function checkTensors(session, { role, variant, inputs }, card, where) {
  const wanted = expectedTensors(card, role, variant, inputs.length > 1);
  [session.inputMetadata, session.outputMetadata].forEach((found, side) => {
    const plain = found.map((/** @type {any} */ { name, type, shape }) => [name, type, shape?.slice(1)]);
    const free = found.every((/** @type {any} */ { shape }) => shape?.length && typeof shape[0] !== "number");
    const expected = wanted[side].map(({ name, dtype, shape }) => [name, dtype, shape.slice(1)]);
    if (!free || JSON.stringify(plain) !== JSON.stringify(expected)) {
      throw new InputError(`${where}: its tensors ${JSON.stringify(plain)} do not fit its card, which says ${JSON.stringify(expected)}`);
    }
  });
}
