/** A whole bundle as one object: sample, encode, decode, score. Runs in pages and under Node. */

import { readActivity } from "./activity.js";
import { readBundle } from "./bundle.js";
import { InputError, UsageError } from "./errors.js";
import { compareGraph, readGolden, TOLERANCE } from "./golden.js";
import { Graph } from "./graph.js";
import { kl, negativeLogLikelihood, posteriorDraw, squaredError } from "./latent.js";
import { Prior } from "./prior.js";

const CHUNK = 256; // rows of one run

/** @typedef {number | ArrayLike<number> | null} Labels a class index for all, or one for each */

/**
 * @param {Uint8Array | Record<string, Uint8Array>} source a stored zip, or files by name
 * @param {import("./graph.js").Host & {name?: string}} host
 * @returns {Promise<Model>}
 * @throws {VaeError} what the Python runtime refuses, with the same kind of error
 */
export async function openBundle(source, { name = "bundle", ...host }) {
  return new Model(await readBundle(source, name), host);
}

/** Codes are Float32Array n·D, images Float32Array n·C·H·W in [0, 1]. Graphs load when first needed. */
export class Model {
  /** @type {Map<string, Promise<Graph>>} */
  #graphs = new Map();
  /** @type {Promise<unknown>} one run at a time: the wasm build has one thread */
  #last = Promise.resolve();
  #bundle;
  #host;

  /** @param {import("./bundle.js").Bundle} bundle @param {import("./graph.js").Host} host */
  constructor(bundle, host) {
    const { card, data, graphs } = bundle.manifest;
    this.#bundle = bundle;
    this.#host = host;
    this.name = bundle.name;
    this.manifest = data;
    this.id = card.id;
    this.family = card.family;
    this.image = card.image;
    this.latentDim = card.latentDim;
    this.classes = card.classes;
    this.likelihood = card.likelihood;
    this.prior = card.prior;
    const encoder = graphs.find((graph) => graph.role === "encoder");
    this.hasEncoder = encoder !== undefined;
    this.encoderTakesLabel = (encoder?.inputs.length ?? 0) > 1;
  }

  /**
   * @param {Float32Array} z n·D @param {Labels} [labels] null decodes without a label
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async decode(z, labels = null) {
    const n = this.#count(z, this.latentDim, "codes");
    const classes = this.#labels(labels, n);
    const role = labels === null ? "decoder" : "conditional_decoder";
    const inputs = labels === null ? {} : { label: classes };
    const found = await this.#run(role, n, { z: this.#tensor(z, [this.latentDim]), ...inputs });
    return found.image;
  }

  /**
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Labels} [labels]
   * @returns {Promise<{mu: Float32Array, logVar: Float32Array | null}>} n·D each; an AE has no variance
   */
  async encode(images, labels = null) {
    const { channels, height, width, size } = this.image;
    const n = this.#count(images, size, "images");
    if (!images.every((x) => x >= 0 && x <= 1)) throw new InputError("images: expected numbers in [0, 1]");
    const classes = this.#labels(labels, n);
    const inputs = this.encoderTakesLabel ? { label: classes } : {};
    const found = await this.#run("encoder", n, { image: this.#tensor(images, [channels, height, width]), ...inputs });
    return { mu: found.mu ?? found.z, logVar: found.log_var ?? null };
  }

  /**
   * Codes that Python's `draw` gives with the same arguments.
   *
   * @param {import("./prior.js").Draw & {prior?: "fitted" | "normal"}} [draw]
   * @returns {Float32Array} n·D
   */
  sample({ prior = "fitted", label = null, n = 1, ...draw } = {}) {
    if (prior !== "fitted" && prior !== "normal") throw new UsageError(`prior is '${prior}', expected 'fitted' or 'normal'`);
    if (label !== null) this.#labels(label, n);
    return (prior === "fitted" ? this.prior : Prior.normal(this.latentDim)).sample({ label, n, ...draw });
  }

  /** Mean and standard deviation of the prior, by dimension. @param {number | null} [label] */
  spread(label = null) {
    return this.prior.spread(label);
  }

  /**
   * One number an image, as Python's `score`: mean squared error of the reconstruction a pixel;
   * KL(q(z | image) ‖ N(0, I)) and negative ELBO in nats, z drawn from q.
   *
   * @param {Float32Array} images
   * @param {{labels?: Labels, samples?: number, seed?: number | bigint | string}} [options]
   * @returns {Promise<{error: Float64Array, kl: Float64Array, negativeElbo: Float64Array}>}
   */
  async score(images, { labels = null, samples = 1, seed = 0 } = {}) {
    const { latentDim: d, likelihood } = this;
    const size = this.image.size;
    const { mu, logVar } = await this.encode(images, labels);
    const n = mu.length / d;
    const row = (/** @type {Float32Array} */ a, /** @type {number} */ i, w = size) => a.subarray(i * w, (i + 1) * w);
    const decoded = await this.decode(mu, labels);
    const error = new Float64Array(n).map((_, i) => squaredError(row(decoded, i), row(images, i)) / size);
    const divergence = new Float64Array(n).map((_, i) => (logVar ? kl(row(mu, i, d), row(logVar, i, d)) : 0));
    const negativeElbo = divergence.slice();
    const draws = logVar ? samples : 1;
    for (let k = 0; k < draws; k += 1) {
      const drawn = logVar ? await this.decode(posteriorDraw(mu, logVar, d, seed, k * n), labels) : decoded;
      for (let i = 0; i < n; i += 1) {
        negativeElbo[i] += negativeLogLikelihood(row(drawn, i), row(images, i), likelihood) / draws;
      }
    }
    return { error, kl: divergence, negativeElbo };
  }

  /**
   * Which dimensions move the image, most first.
   *
   * @param {number | null} [label]
   * @returns {Promise<{order: Int32Array, effect: Float64Array, active: boolean[]}>}
   */
  activity(label = null) {
    return readActivity(this, label);
  }

  /**
   * Run graphs on the bundle's golden vectors, torch's own outputs.
   *
   * @param {{variants?: boolean}} [options] variants: also those that round
   * @returns {Promise<{maxAbsError: number, tolerance: number, ok: boolean, rows: number, graphs: import("./golden.js").Match[]}>}
   */
  async golden({ variants = false } = {}) {
    const arrays = readGolden(this.#bundle);
    const graphs = [];
    for (const spec of this.#bundle.manifest.graphs) {
      if (spec.variant !== "fp32" && !variants) continue;
      const graph = await this.#graph(spec.role, spec.variant);
      graphs.push(...(await this.#turn(() => compareGraph(graph, spec, arrays))));
    }
    const plain = graphs.filter((match) => match.tolerance === TOLERANCE);
    return {
      maxAbsError: Math.max(...plain.map((match) => match.maxError)),
      tolerance: TOLERANCE,
      ok: graphs.every((match) => match.maxError <= match.tolerance),
      rows: Math.max(...graphs.map((match) => match.rows)),
      graphs,
    };
  }

  /**
   * The images that the bundle's encoder was checked with.
   *
   * @returns {{images: Float32Array, labels: Int32Array | null, n: number}} labels where the encoder takes them
   */
  examples() {
    const arrays = readGolden(this.#bundle);
    const images = /** @type {Float32Array} */ (arrays.get("encoder.in.image")?.data ?? new Float32Array());
    const labels = arrays.get("encoder.in.label")?.data;
    return { images, labels: labels ? Int32Array.from(labels, Number) : null, n: images.length / this.image.size };
  }

  /** Give all memory back; the model cannot be used afterwards. */
  async close() {
    await this.#last;
    for (const found of await Promise.allSettled(this.#graphs.values())) {
      if (found.status === "fulfilled") await found.value.close();
    }
    this.#graphs.clear();
  }

  /** @param {string} role @param {string} variant @returns {Promise<Graph>} */
  #graph(role, variant = "fp32") {
    const key = `${role} ${variant}`;
    const loading = this.#graphs.get(key) ?? this.#turn(() => this.#load(role, variant));
    this.#graphs.set(key, loading);
    return loading;
  }

  /** @param {string} role @param {string} variant */
  async #load(role, variant) {
    const { manifest, files, name } = this.#bundle;
    const spec = manifest.graphs.find((graph) => graph.role === role && graph.variant === variant);
    if (!spec) throw new InputError(`${name}: has no ${role}`);
    const raw = /** @type {Uint8Array} */ (files.get(spec.file.file));
    return Graph.load(raw, spec, manifest.card, this.#host, `${name}/${spec.file.file}`);
  }

  /** After all that was asked before. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #turn(work) {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return mine;
  }

  /**
   * @param {string} role @param {number} n
   * @param {Record<string, {data: any, row: number[]}>} inputs n rows each
   * @returns {Promise<Record<string, Float32Array>>}
   */
  async #run(role, n, inputs) {
    const graph = await this.#graph(role);
    /** @type {Record<string, Float32Array>} */
    const whole = {};
    for (let start = 0; start < n; start += CHUNK) {
      const rows = Math.min(CHUNK, n - start);
      const part = Object.entries(inputs).map(([name, { data, row }]) => {
        const width = row.reduce((product, size) => product * size, 1);
        return [name, { data: data.slice(start * width, (start + rows) * width), shape: [rows, ...row] }];
      });
      const found = await this.#turn(() => graph.run(Object.fromEntries(part)));
      for (const [name, values] of Object.entries(found)) {
        whole[name] ??= new Float32Array((values.length / rows) * n);
        whole[name].set(values, (values.length / rows) * start);
      }
    }
    return n ? whole : { image: new Float32Array(), mu: new Float32Array() };
  }

  /** @param {Float32Array} data @param {number[]} row */
  #tensor(data, row) {
    return { data, row };
  }

  /** @param {Float32Array} data @param {number} width @param {string} what @returns {number} rows */
  #count(data, width, what) {
    if (!(data instanceof Float32Array) || data.length % width) {
      throw new InputError(`${what}: ${data?.length} numbers, expected a Float32Array of rows of ${width}`);
    }
    if (!data.every(Number.isFinite)) throw new InputError(`${what}: expected finite numbers`);
    return data.length / width;
  }

  /** n class indices as a graph reads them; the index behind the last means "no label". */
  /** @param {Labels} labels @param {number} n */
  #labels(labels, n) {
    const most = this.classes.length;
    if (labels !== null && !most) throw new UsageError(`this ${this.family} takes no label`);
    const one = labels === null ? most : labels;
    const all = typeof one === "number" ? new Array(n).fill(one) : Array.from(one);
    if (all.length !== n) throw new InputError(`label: ${all.length} labels for ${n} items`);
    if (labels !== null) {
      const wrong = all.find((label) => !(Number.isInteger(label) && label >= 0 && label < most));
      if (wrong !== undefined) throw new InputError(`label: ${wrong} is out of range, expected 0 to ${most - 1}`);
    }
    return { data: BigInt64Array.from(all, BigInt), row: [] };
  }
}
