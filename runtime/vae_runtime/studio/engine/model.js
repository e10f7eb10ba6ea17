/** A whole bundle as one object that samples, encodes, decodes and scores. Runs in browsers and under Node. */

import { asLabels, countRows } from "./arrays.js";
import { readBundle } from "./bundle.js";
import { InputError, UsageError } from "./errors.js";
import { compareGraph, readGolden } from "./golden.js";
import { Graph } from "./graph.js";
import { activity, score } from "./metrics.js";
import { Prior } from "./prior.js";

const BATCH = 256; // rows per run; results do not depend on it

/**
 * @typedef {import("./arrays.js").Label} Label
 * @typedef {import("./prior.js").SampleOptions & {prior?: "fitted" | "normal"}} SampleOptions
 * @typedef {{data: Float32Array | BigInt64Array, row: number[]}} Rows values and the shape of one row
 */

/**
 * @param {Uint8Array | Record<string, Uint8Array>} source a stored zip, or files by name
 * @param {import("./graph.js").Host & {name?: string}} host
 * @returns {Promise<Model>}
 * @throws {VaeError} the same class of error as in the Python runtime
 */
export async function openBundle(source, { name = "bundle", ...host }) {
  return new Model(await readBundle(source, name), host);
}

/** Latents are Float32Array n·D, images Float32Array n·C·H·W in [0, 1]. Graphs are loaded when first needed. */
export class Model {
  /** @type {Map<string, Promise<Graph>>} */
  #graphs = new Map();
  /** @type {Promise<unknown>} the last work queued: the wasm build has one thread and must not be re-entered */
  #last = Promise.resolve();
  #bundle;
  #host;
  #spec;

  /** @param {import("./bundle.js").Bundle} bundle @param {import("./graph.js").Host} host */
  constructor(bundle, host) {
    const { spec, data, graphs } = bundle.manifest;
    this.#bundle = bundle;
    this.#host = host;
    this.#spec = spec;
    this.name = bundle.name;
    this.manifest = data;
    this.id = spec.id;
    this.family = spec.family;
    this.image = spec.image;
    this.latentShape = spec.latentShape;
    this.latentDim = spec.latentDim;
    this.classes = spec.classes;
    this.likelihood = spec.likelihood;
    this.sigma = spec.sigma;
    this.prior = spec.prior;
    this.encoderTakesLabel = graphs.some(({ role, inputs }) => role === "encoder" && inputs.length > 1);
  }

  /**
   * Sample images; the same arguments give the same images as in Python.
   *
   * @param {SampleOptions} [options]
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async sample(options = {}) {
    return this.decode(this.sampleLatents(options), options.label ?? null);
  }

  /**
   * Sample latents; the same arguments give the same latents as in Python.
   *
   * @param {SampleOptions} [options]
   * @returns {Float32Array} n·D
   */
  sampleLatents({ prior = "fitted", label = null, n = 1, ...options } = {}) {
    if (prior !== "fitted" && prior !== "normal") throw new UsageError(`prior is '${prior}', expected 'fitted' or 'normal'`);
    const index = label === null ? null : Array.from(asLabels(label, n, this.#spec), Number);
    return (prior === "fitted" ? this.prior : Prior.normal(this.latentDim)).sample({ label: index, n, ...options });
  }

  /**
   * @param {Float32Array} z n·D @param {Label} [label] null for no label
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async decode(z, label = null) {
    const n = countRows(z, this.latentDim, "latents");
    /** @type {Record<string, Rows>} */
    const inputs = { z: { data: z, row: this.latentShape } };
    if (label !== null) inputs.label = { data: asLabels(label, n, this.#spec), row: [] };
    const found = await this.#run(label === null ? "decoder" : "conditional_decoder", n, inputs);
    return found.image ?? new Float32Array();
  }

  /**
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Label} [label]
   * @returns {Promise<{mu: Float32Array, logVar: Float32Array | null}>} n·D each; an AE has no log-variance
   */
  async encode(images, label = null) {
    const { channels, height, width, size } = this.image;
    const n = countRows(images, size, "images");
    if (!images.every((x) => x >= 0 && x <= 1)) throw new InputError("images: expected numbers in [0, 1]");
    const labels = asLabels(label, n, this.#spec);
    /** @type {Record<string, Rows>} */
    const inputs = { image: { data: images, row: [channels, height, width] } };
    if (this.encoderTakesLabel) inputs.label = { data: labels, row: [] };
    const found = await this.#run("encoder", n, inputs);
    return { mu: found.mu ?? found.z ?? new Float32Array(), logVar: found.log_var ?? null };
  }

  /**
   * Compute the reconstruction error, KL and negative ELBO of each image.
   *
   * @param {Float32Array} images
   * @param {{label?: Label, samples?: number, seed?: number | bigint | string}} [options]
   */
  score(images, options = {}) {
    return score(this, images, options);
  }

  /** Measure how much each dimension changes the image. @param {number | null} [label] */
  activity(label = null) {
    return activity(this, label);
  }

  /**
   * Run graphs on the bundle's golden vectors and compare them with torch's outputs.
   *
   * @param {{variants?: boolean}} [options] variants: also run the variants that round
   * @returns {Promise<{maxAbsError: number, tolerance: number, ok: boolean, rows: number, graphs: import("./golden.js").Match[]}>}
   *     maxAbsError: the largest error of the float32 graphs; the error of a latent above 1 is relative
   */
  async golden({ variants = false } = {}) {
    const arrays = await readGolden(this.#bundle);
    const graphs = [];
    for (const spec of this.#bundle.manifest.graphs) {
      if (spec.variant !== "fp32" && !variants) continue;
      const graph = await this.#graph(spec.role, spec.variant);
      graphs.push(...(await this.#takeTurn(() => compareGraph(graph, spec, arrays))));
    }
    const exact = graphs.filter((match) => match.exact);
    return {
      maxAbsError: Math.max(...exact.map((match) => match.maxError)),
      tolerance: Math.max(...exact.map((match) => match.tolerance)),
      ok: graphs.every((match) => match.maxError <= match.tolerance),
      rows: Math.max(...graphs.map((match) => match.rows)),
      graphs,
    };
  }

  /**
   * Get the images in the encoder's golden vectors.
   *
   * @returns {Promise<{images: Float32Array, labels: Int32Array | null, n: number}>} labels if the encoder takes them
   */
  async examples() {
    const arrays = await readGolden(this.#bundle);
    const images = /** @type {Float32Array} */ (arrays.get("encoder.in.image")?.data ?? new Float32Array());
    const labels = arrays.get("encoder.in.label")?.data;
    return { images, labels: labels ? Int32Array.from(labels, Number) : null, n: images.length / this.image.size };
  }

  /** Free all memory; the model cannot be used afterwards. */
  async close() {
    await this.#last;
    for (const found of await Promise.allSettled(this.#graphs.values())) {
      if (found.status === "fulfilled") await found.value.close();
    }
    this.#graphs.clear();
  }

  /**
   * Run n rows in batches.
   *
   * @param {string} role @param {number} n @param {Record<string, Rows>} inputs n rows each
   * @returns {Promise<Record<string, Float32Array>>} n rows of each output; empty if n is 0
   */
  async #run(role, n, inputs) {
    const graph = await this.#graph(role);
    /** @type {Record<string, Float32Array>} */
    const whole = {};
    for (let start = 0; start < n; start += BATCH) {
      const rows = Math.min(BATCH, n - start);
      const batch = Object.entries(inputs).map(([name, { data, row }]) => {
        const width = row.reduce((product, size) => product * size, 1);
        return [name, { data: data.slice(start * width, (start + rows) * width), shape: [rows, ...row] }];
      });
      const found = await this.#takeTurn(() => graph.run(Object.fromEntries(batch)));
      for (const [name, values] of Object.entries(found)) {
        whole[name] ??= new Float32Array((values.length / rows) * n);
        whole[name].set(values, (values.length / rows) * start);
      }
    }
    return whole;
  }

  /** @param {string} role @param {string} [variant] @returns {Promise<Graph>} */
  #graph(role, variant = "fp32") {
    const key = `${role} ${variant}`;
    const loading = this.#graphs.get(key) ?? this.#takeTurn(() => this.#load(role, variant));
    this.#graphs.set(key, loading);
    return loading;
  }

  /** @param {string} role @param {string} variant */
  #load(role, variant) {
    const { manifest, files, name } = this.#bundle;
    const found = manifest.graphs.find((graph) => graph.role === role && graph.variant === variant);
    if (!found) throw new InputError(`${name}: has no ${role}`);
    const { file } = found.file;
    const raw = /** @type {Uint8Array} */ (files.get(file));
    return Graph.load(raw, this.#spec, role, variant, this.#host, `${name}/${file}`);
  }

  /** Run `work` after all work queued before it. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #takeTurn(work) {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return mine;
  }
}
