/** A whole bundle as one object: sample, encode, decode, score. Runs in pages and under Node. */

import { readActivity } from "./activity.js";
import { asLabels, countRows } from "./arrays.js";
import { readBundle } from "./bundle.js";
import { InputError, UsageError } from "./errors.js";
import { compareGraph, readGolden, TOLERANCE } from "./golden.js";
import { Prior } from "./prior.js";
import { Runner } from "./runner.js";
import { score } from "./scoring.js";

/** @typedef {import("./arrays.js").Labels} Labels */

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
  #bundle;
  #card;
  #runner;

  /** @param {import("./bundle.js").Bundle} bundle @param {import("./graph.js").Host} host */
  constructor(bundle, host) {
    const { card, data, graphs } = bundle.manifest;
    this.#bundle = bundle;
    this.#card = card;
    this.#runner = new Runner(bundle, host);
    this.name = bundle.name;
    this.manifest = data;
    this.id = card.id;
    this.family = card.family;
    this.image = card.image;
    this.latentDim = card.latentDim;
    this.classes = card.classes;
    this.likelihood = card.likelihood;
    this.sigma = card.sigma;
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
    const n = countRows(z, this.latentDim, "latents");
    const label = asLabels(labels, n, this.#card);
    /** @type {Record<string, import("./runner.js").Rows>} */
    const inputs = { z: { data: z, row: [this.latentDim] } };
    if (labels !== null) inputs.label = { data: label, row: [] };
    const found = await this.#runner.run(labels === null ? "decoder" : "conditional_decoder", n, inputs);
    return found.image ?? new Float32Array();
  }

  /**
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Labels} [labels]
   * @returns {Promise<{mu: Float32Array, logVar: Float32Array | null}>} n·D each; an AE has no variance
   */
  async encode(images, labels = null) {
    const { channels, height, width, size } = this.image;
    const n = countRows(images, size, "images");
    if (!images.every((x) => x >= 0 && x <= 1)) throw new InputError("images: expected numbers in [0, 1]");
    const label = asLabels(labels, n, this.#card);
    /** @type {Record<string, import("./runner.js").Rows>} */
    const inputs = { image: { data: images, row: [channels, height, width] } };
    if (this.encoderTakesLabel) inputs.label = { data: label, row: [] };
    const found = await this.#runner.run("encoder", n, inputs);
    return { mu: found.mu ?? found.z ?? new Float32Array(), logVar: found.log_var ?? null };
  }

  /**
   * Codes that Python's `draw` gives with the same arguments.
   *
   * @param {import("./prior.js").Draw & {prior?: "fitted" | "normal"}} [draw]
   * @returns {Float32Array} n·D
   */
  sample({ prior = "fitted", label = null, n = 1, ...draw } = {}) {
    if (prior !== "fitted" && prior !== "normal") throw new UsageError(`prior is '${prior}', expected 'fitted' or 'normal'`);
    if (label !== null) asLabels(label, n, this.#card);
    return (prior === "fitted" ? this.prior : Prior.normal(this.latentDim)).sample({ label, n, ...draw });
  }

  /** Mean and standard deviation of the prior, by dimension. @param {number | null} [label] */
  spread(label = null) {
    return this.prior.spread(label);
  }

  /**
   * Reconstruction error, KL and negative ELBO of each image.
   *
   * @param {Float32Array} images
   * @param {{labels?: Labels, samples?: number, seed?: number | bigint | string}} [options]
   */
  score(images, options = {}) {
    return score(this, images, options);
  }

  /** Which dimensions move the image, most first. @param {number | null} [label] */
  activity(label = null) {
    return readActivity(this, label);
  }

  /**
   * Run graphs on the bundle's golden vectors, torch's own outputs.
   *
   * @param {{variants?: boolean}} [options] variants: also those that round
   * @returns {Promise<{maxAbsError: number, tolerance: number, ok: boolean, rows: number, graphs: import("./golden.js").Match[]}>}
   *     maxAbsError: of what is exported as float32; of a code relative to its size above 1
   */
  async golden({ variants = false } = {}) {
    const arrays = readGolden(this.#bundle);
    const graphs = [];
    for (const spec of this.#bundle.manifest.graphs) {
      if (spec.variant !== "fp32" && !variants) continue;
      const graph = await this.#runner.graph(spec.role, spec.variant);
      graphs.push(...(await this.#runner.turn(() => compareGraph(graph, spec, arrays))));
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
  close() {
    return this.#runner.close();
  }
}
