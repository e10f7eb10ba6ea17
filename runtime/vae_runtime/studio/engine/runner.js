/** The graphs of one bundle: each loaded when it is first needed, run one at a time, in chunks. */

import { InputError } from "./errors.js";
import { Graph } from "./graph.js";

const CHUNK = 256; // rows of one run; results do not depend on it

/** @typedef {{data: Float32Array | BigInt64Array, row: number[]}} Rows values, and one row's shape */

export class Runner {
  /** @type {Map<string, Promise<Graph>>} */
  #graphs = new Map();
  /** @type {Promise<unknown>} the wasm build has one thread, and may not be entered twice */
  #last = Promise.resolve();
  #bundle;
  #host;

  /** @param {import("./bundle.js").Bundle} bundle @param {import("./graph.js").Host} host */
  constructor(bundle, host) {
    this.#bundle = bundle;
    this.#host = host;
  }

  /**
   * Run `n` rows in chunks.
   *
   * @param {string} role @param {number} n
   * @param {Record<string, Rows>} inputs n rows each
   * @returns {Promise<Record<string, Float32Array>>} n rows of each output; nothing where n is 0
   */
  async run(role, n, inputs) {
    const graph = await this.graph(role);
    /** @type {Record<string, Float32Array>} */
    const whole = {};
    for (let start = 0; start < n; start += CHUNK) {
      const rows = Math.min(CHUNK, n - start);
      const part = Object.entries(inputs).map(([name, { data, row }]) => {
        const width = row.reduce((product, size) => product * size, 1);
        return [name, { data: data.slice(start * width, (start + rows) * width), shape: [rows, ...row] }];
      });
      const found = await this.turn(() => graph.run(Object.fromEntries(part)));
      for (const [name, values] of Object.entries(found)) {
        whole[name] ??= new Float32Array((values.length / rows) * n);
        whole[name].set(values, (values.length / rows) * start);
      }
    }
    return whole;
  }

  /** @param {string} role @param {string} [variant] @returns {Promise<Graph>} */
  graph(role, variant = "fp32") {
    const key = `${role} ${variant}`;
    const loading = this.#graphs.get(key) ?? this.turn(() => this.#load(role, variant));
    this.#graphs.set(key, loading);
    return loading;
  }

  /** Do some work after all that was asked before. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  turn(work) {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return mine;
  }

  /** Give all memory back. */
  async close() {
    await this.#last;
    for (const found of await Promise.allSettled(this.#graphs.values())) {
      if (found.status === "fulfilled") await found.value.close();
    }
    this.#graphs.clear();
  }

  /** @param {string} role @param {string} variant */
  async #load(role, variant) {
    const { manifest, files, name } = this.#bundle;
    const spec = manifest.graphs.find((graph) => graph.role === role && graph.variant === variant);
    if (!spec) throw new InputError(`${name}: has no ${role}`);
    const raw = /** @type {Uint8Array} */ (files.get(spec.file.file));
    return Graph.load(raw, spec, manifest.card, this.#host, `${name}/${spec.file.file}`);
  }
}
