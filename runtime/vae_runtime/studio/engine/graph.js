/** One `.onnx` file, run with the onnxruntime that the host provides. */

import { InputError, LimitError } from "./errors.js";
import { parseJson, take } from "./json.js";
import { readMetadata, SPEC_KEY, verifyChecksum } from "./onnx.js";
import { expectedTensors, readSpec } from "./spec.js";

/**
 * @typedef {object} Host
 * @property {any} ort onnxruntime-web or onnxruntime-node
 * @property {string[]} [providers] `wasm` by default; `cpu` for onnxruntime-node
 */

export class Graph {
  /**
   * @param {any} session @param {any} ort @param {string} where
   * @param {import("./spec.js").ModelSpec} spec @param {string} role @param {string} variant
   */
  constructor(session, ort, where, spec, role, variant) {
    this.session = session;
    this.ort = ort;
    this.where = where;
    this.spec = spec;
    this.role = role;
    this.variant = variant;
  }

  /**
   * Load a graph of an opened bundle.
   *
   * @param {Uint8Array} raw the same bytes whose sha256 was checked
   * @param {import("./spec.js").ModelSpec} spec @param {string} role @param {string} variant
   * @param {Host} host @param {string} where begins every error message
   * @returns {Promise<Graph>}
   * @throws {InputError} its tensors do not fit the spec, or onnxruntime refuses it
   */
  static async load(raw, spec, role, variant, { ort, providers = ["wasm"] }, where) {
    const options = { executionProviders: providers, logSeverityLevel: 4, intraOpNumThreads: 1 };
    const session = await ort.InferenceSession.create(raw, options).catch((/** @type {Error} */ error) => {
      throw new InputError(`${where}: onnxruntime refuses the graph: ${error.message ?? error}`);
    });
    checkTensors(session, spec, role, variant, where);
    return new Graph(session, ort, where, spec, role, variant);
  }

  /**
   * Open a single `.onnx` file after verifying its checksum and its spec.
   *
   * @param {Uint8Array} raw @param {Host} host @param {string} where begins every error message
   * @returns {Promise<Graph>}
   * @throws {InputError} not a graph of a bundle
   * @throws {IntegrityError} the bytes differ from those that were exported
   */
  static async open(raw, host, where) {
    const properties = readMetadata(raw, where);
    const text = properties.get(SPEC_KEY);
    if (text === undefined) {
      throw new InputError(`${where}: not a graph of a bundle: it carries no spec. Export it with vae-export.`);
    }
    await verifyChecksum(raw, properties, where);
    const data = parseJson(text, where);
    const [role, variant] = ["role", "variant"].map((key) => take(data, key, "string", where));
    return Graph.load(raw, readSpec(data, where), role, variant, host, where);
  }

  /** @returns {boolean} */
  get takesLabel() {
    return this.session.inputNames.includes("label");
  }

  /**
   * @param {Record<string, {data: any, shape: number[]}>} inputs by name
   * @returns {Promise<Record<string, any>>} values by name
   * @throws {InputError} onnxruntime cannot run the graph
   * @throws {LimitError} out of memory
   */
  async run(inputs) {
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, { data, shape }]) => {
        return [name, new this.ort.Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, shape)];
      }),
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

/**
 * @param {any} session @param {import("./spec.js").ModelSpec} spec
 * @param {string} role @param {string} variant @param {string} where
 */
function checkTensors(session, spec, role, variant, where) {
  const wanted = expectedTensors(spec, role, variant, session.inputNames.length > 1);
  [session.inputMetadata, session.outputMetadata].forEach((found, side) => {
    const plain = found.map((/** @type {any} */ { name, type, shape }) => [name, type, shape?.slice(1)]);
    const free = found.every((/** @type {any} */ { shape }) => shape?.length && typeof shape[0] !== "number");
    const expected = wanted[side].map(({ name, dtype, shape }) => [name, dtype, shape.slice(1)]);
    if (!free || JSON.stringify(plain) !== JSON.stringify(expected)) {
      throw new InputError(`${where}: its tensors ${JSON.stringify(plain)} do not fit its spec, which says ${JSON.stringify(expected)}`);
    }
  });
}
