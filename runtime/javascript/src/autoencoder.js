/** `Autoencoder`: a whole bundle as one object that samples, encodes, decodes and scores. */

import { checkImages, classIndex, countRows, takeOptions } from "./arrays.js";
import { InputError, StateError, UsageError } from "./errors.js";
import { compareGraph, readGolden } from "./golden.js";
import { Decoder, Encoder, Sampler } from "./graph.js";
import { interpolation, sampleLatents, traversal } from "./latents.js";
import { NAME } from "./manifest.js";
import { activity, score } from "./metrics.js";
import { detect, readNormality } from "./normality.js";
import { writeZip } from "./zip.js";

/**
 * @typedef {import("./arrays.js").Label} Label
 * @typedef {number | string | null} OneLabel a class index or name, or null for no label
 * @typedef {import("./latents.js").SampleOptions} SampleOptions
 */

/** @type {Record<string, typeof Encoder | typeof Decoder | typeof Sampler>} */
const GRAPHS = { encoder: Encoder, decoder: Decoder, conditional_decoder: Decoder, sampler: Sampler };

/** Images are Float32Array n·C·H·W in [0, 1], latents Float32Array n·D. */
export class Autoencoder {
  /** @type {Map<string, Promise<any>>} */
  #graphs = new Map();
  /** @type {Promise<import("./normality.js").Normality> | null} */
  #normality = null;
  /** @type {import("./bundle.js").Bundle | null} */
  #bundle;
  #host;

  /** @param {import("./bundle.js").Bundle} bundle @param {import("./graph.js").Host} host */
  constructor(bundle, host) {
    const { spec, data, graphs } = bundle.manifest;
    this.#bundle = bundle;
    this.#host = host;
    this.spec = spec;
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
  sampleLatents(options = {}) {
    this.#opened();
    return sampleLatents(this.spec, options);
  }

  /**
   * @param {Float32Array} z n·D @param {Label} [label] null for no label
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async decode(z, label = null) {
    if (label !== null && !this.classes.length) throw new UsageError(`this ${this.family} takes no label`);
    return (await this.#graph(label === null ? "decoder" : "conditional_decoder")).decode(z, label);
  }

  /**
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Label} [label]
   * @returns {Promise<Float32Array>} n·D: an AE's latents, or the posterior means
   */
  async encode(images, label = null) {
    return (await this.posterior(images, label)).mu;
  }

  /**
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Label} [label]
   * @returns {Promise<{mu: Float32Array, logVar: Float32Array | null}>} n·D each; an AE has no log-variance
   */
  async posterior(images, label = null) {
    return (await this.#graph("encoder")).posterior(images, label);
  }

  /**
   * Encode images and decode their posterior means.
   *
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Label} [label]
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async reconstruct(images, label = null) {
    return this.decode(await this.encode(images, label), label);
  }

  /**
   * Vary one latent dimension, or principal direction, and keep the others fixed.
   *
   * @param {number} dim 0 to D - 1; for a low-rank prior, the direction, 0 to K - 1
   * @param {{steps?: number, label?: OneLabel, seed?: SampleOptions["seed"], image?: Float32Array | null, span?: number}} [options]
   *     seed: of the latents to start from; image: start from its encoding instead; span: how far to go to either side,
   *     in standard deviations
   * @returns {Promise<Float32Array>} steps·C·H·W
   */
  async traverse(dim, options = {}) {
    const { steps, label, seed, image, span } = takeOptions(options, { steps: 11, label: null, seed: 0, image: null, span: 3 });
    const start = image ? await this.#encodeOne(image, label) : this.sampleLatents({ label, seed });
    const row = label === null ? null : classIndex(label, this.classes);
    return this.decode(traversal(this.prior, start, dim, steps, span, row), label);
  }

  /**
   * Interpolate in latent space between two images or two latents.
   *
   * @param {Float32Array} a @param {Float32Array} b
   * @param {{steps?: number, label?: OneLabel | [OneLabel, OneLabel], how?: "linear" | "spherical"}} [options] label: the
   *     class, or the classes of both ends: `[1, 8]` morphs from a 1 to an 8 by blending the images that each class
   *     gives along the path
   * @returns {Promise<Float32Array>} steps·C·H·W
   */
  async interpolate(a, b, options = {}) {
    const { steps, label, how } = takeOptions(options, { steps: 9, label: null, how: "linear" });
    const [first, last] = Array.isArray(label) ? label : [label, label];
    const path = interpolation(await this.#latentsOf(a, first), await this.#latentsOf(b, last), steps, how);
    return this.morph(path, first, last);
  }

  /**
   * Decode latents and fade from the images of one class to those of another, in equal steps.
   *
   * @param {Float32Array} z n·D, n ≥ 2 unless the classes are the same @param {OneLabel} first @param {OneLabel} last
   * @param {(row: number, n: number) => number} [share] of the last class in the image of a row
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async morph(z, first, last, share = (row, n) => row / (n - 1)) {
    const images = await this.decode(z, first);
    if (first === last) return images;
    const others = await this.decode(z, last);
    const { size } = this.image;
    return images.map((value, i) => {
      const t = Math.fround(share(Math.floor(i / size), images.length / size));
      return (1 - t) * value + t * others[i];
    });
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

  /**
   * Find the images that are unlike normal ones, and where they are; scores and decisions are those of Python.
   *
   * @param {Float32Array} images n·C·H·W in [0, 1]
   * @param {{falseAlarms?: number | null}} [options] the fraction of normal images that may be called anomalous; by default 1%
   * @returns {Promise<import("./normality.js").Detection>}
   * @throws {InputError} the bundle does not say what is normal
   */
  async detect(images, options = {}) {
    const { falseAlarms } = takeOptions(options, { falseAlarms: null });
    this.#normality ??= readNormality(this.#opened());
    const normality = await this.#normality;
    const z = await this.encode(images);
    return detect(normality, this.image, images, z, await this.decode(z), falseAlarms);
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
  async golden(options = {}) {
    const { variants } = takeOptions(options, { variants: false });
    const bundle = this.#opened();
    const arrays = await readGolden(bundle);
    const graphs = [];
    for (const spec of bundle.manifest.graphs) {
      if (spec.variant !== "fp32" && !variants) continue;
      graphs.push(...(await compareGraph(await this.#graph(spec.role, spec.variant), spec, arrays)));
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
    const arrays = await readGolden(this.#opened());
    const images = /** @type {Float32Array} */ (arrays.get("encoder.in.image")?.data ?? new Float32Array());
    const labels = arrays.get("encoder.in.label")?.data;
    return { images, labels: labels ? Int32Array.from(labels, Number) : null, n: images.length / this.image.size };
  }

  /** Free all memory after the runs that are under way; the model cannot be used afterwards. */
  async close() {
    this.#bundle = null;
    for (const found of await Promise.allSettled(this.#graphs.values())) {
      if (found.status === "fulfilled") await found.value.close();
    }
    this.#graphs.clear();
  }

  /** @throws {StateError} */
  #opened() {
    if (!this.#bundle) throw new StateError("this model was closed. Load it again.");
    return this.#bundle;
  }

  /** @param {Float32Array} item latents or an image @param {OneLabel} label @returns {Promise<Float32Array>} D */
  async #latentsOf(item, label) {
    if (item?.length !== this.latentDim) return this.#encodeOne(item, label);
    countRows(item, this.latentDim, "latents");
    return item;
  }

  /** @param {Float32Array} image @param {OneLabel} label @returns {Promise<Float32Array>} D */
  async #encodeOne(image, label) {
    const n = checkImages(image, this.image);
    if (n !== 1) throw new InputError(`image: ${n} images, expected one`);
    return this.encode(image, label);
  }

  /**
   * The bundle as one `.zip`, with the bytes of `vae-export --zip`.
   *
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async toZip() {
    const { files } = this.#opened();
    return writeZip([...files].sort(([a], [b]) => Number(b === NAME) - Number(a === NAME)));
  }

  /** @param {string} role @param {string} [variant] @returns {Promise<any>} */
  async #graph(role, variant = "fp32") {
    const bundle = this.#opened();
    const key = `${role} ${variant}`;
    const loading = this.#graphs.get(key) ?? this.#load(bundle, role, variant);
    this.#graphs.set(key, loading);
    loading.catch(() => this.#graphs.delete(key)); // the next call tries again
    return loading;
  }

  /** @param {import("./bundle.js").Bundle} bundle @param {string} role @param {string} variant */
  async #load({ manifest, files, name }, role, variant) {
    const found = manifest.graphs.find((graph) => graph.role === role && graph.variant === variant);
    if (!found) throw new InputError(`${name}: has no ${role}`);
    const { file } = found.file;
    const raw = /** @type {Uint8Array} */ (files.get(file));
    return GRAPHS[role].open(raw, this.spec, role, variant, this.#host, `${name}/${file}`);
  }
}
