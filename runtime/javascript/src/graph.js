/** `Encoder`, `Decoder` and `Sampler`: one graph, from a bundle or from a single `.onnx` file. */

import { onnxruntime } from "#platform";
import { asLabels, checkImages, countRows, takeOptions } from "./arrays.js";
import { InputError, LimitError, StateError, UsageError } from "./errors.js";
import { parseJson, take } from "./json.js";
import { SAMPLING, sampleLatents } from "./latents.js";
import { readMetadata, SPEC_KEY, verifyChecksum } from "./onnx.js";
import { freshSeed } from "./rng.js";
import { readSource } from "./source.js";
import { expectedTensors, readSpec } from "./spec.js";

const BATCH = 256; // rows per run; results do not depend on it
/** @type {Required<LoadOptions>} */
const LOADING = { name: null, wasm: null, ort: null, providers: null };

/**
 * @typedef {import("./arrays.js").Label} Label
 * @typedef {import("./latents.js").SampleOptions} SampleOptions
 * @typedef {object} LoadOptions
 * @property {string | null} [name] begins every error message
 * @property {string | URL | ArrayBuffer | null} [wasm] address or content of `ort-wasm-simd-threaded.wasm`, by default beside
 *     the script
 * @property {any} [ort] another onnxruntime, such as `onnxruntime-web/webgpu`
 * @property {string[] | null} [providers] its execution providers
 * @typedef {{ort: any, providers: string[]}} Host an onnxruntime, with the execution providers that run a graph
 * @typedef {{data: Float32Array | BigInt64Array, row: readonly number[]}} Rows values and the shape of one row
 */

/** onnxruntime-web has one thread and must not be re-entered: its work queues up here. @type {Promise<unknown>} */
let last = Promise.resolve();

/** Run `work` after all work queued before it. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
function takeTurn(work) {
  const mine = last.then(work);
  last = mine.catch(() => {});
  return mine;
}

/** @param {LoadOptions} options @returns {Promise<Host>} @throws {UsageError} an unknown option */
export async function hostOf(options) {
  const { ort, providers, wasm } = takeOptions(options, LOADING);
  const found = ort ? { ort, providers: ["wasm"] } : await onnxruntime(wasm ?? undefined);
  return { ort: found.ort, providers: providers ?? found.providers };
}

/** A graph with its spec. Images are Float32Array n·C·H·W in [0, 1], latents Float32Array n·D. */
export class Graph {
  /** @type {readonly string[]} */
  static roles = ["encoder", "decoder", "conditional_decoder", "sampler"];
  #session;
  #host;

  /**
   * @param {any} session @param {Host} host
   * @param {import("./spec.js").ModelSpec} spec @param {string} role @param {string} variant @param {string} where
   */
  constructor(session, host, spec, role, variant, where) {
    this.#session = session;
    this.#host = host;
    this.spec = spec;
    this.role = role;
    this.variant = variant;
    this.where = where;
    /** @type {boolean} */
    this.takesLabel = session.inputNames.includes("label");
  }

  /**
   * Load a single `.onnx` file after verifying its checksum and its spec.
   *
   * @template {typeof Graph} T
   * @this {T}
   * @param {import("./source.js").Source} source
   * @param {LoadOptions} [options]
   * @returns {Promise<InstanceType<T>>}
   * @throws {InputError} not such a graph of a bundle
   * @throws {IntegrityError} the bytes differ from those that were exported
   */
  static async load(source, options = {}) {
    const host = await hostOf(options);
    const { data: raw, name: where } = await readSource(source, options.name);
    if (!(raw instanceof Uint8Array)) throw new UsageError(`${where}: a folder, expected one .onnx file`);
    const properties = readMetadata(raw, where);
    const text = properties.get(SPEC_KEY);
    if (text === undefined) {
      throw new InputError(`${where}: not a graph of a bundle: it carries no spec. Export it with vae-export.`);
    }
    await verifyChecksum(raw, properties, where);
    const data = parseJson(text, where);
    const [role, variant] = ["role", "variant"].map((key) => take(data, key, "string", where));
    if (!this.roles.includes(role)) {
      throw new InputError(`${where}: the role of this graph is ${role}, expected ${this.roles.join(" or ")}`);
    }
    return this.open(raw, readSpec(data, where), role, variant, host, where);
  }

  /**
   * Load bytes whose sha256 was verified.
   *
   * @template {typeof Graph} T
   * @this {T}
   * @param {Uint8Array} raw @param {import("./spec.js").ModelSpec} spec @param {string} role @param {string} variant
   * @param {Host} host @param {string} where begins every error message
   * @returns {Promise<InstanceType<T>>}
   * @throws {InputError} its tensors do not fit the spec, or onnxruntime refuses it
   */
  static async open(raw, spec, role, variant, host, where) {
    const options = { executionProviders: host.providers, logSeverityLevel: 4, intraOpNumThreads: 1 };
    const session = await takeTurn(() => host.ort.InferenceSession.create(raw, options)).catch((error) => {
      throw new InputError(`${where}: onnxruntime refuses the graph: ${error.message ?? error}`);
    });
    checkTensors(session, spec, role, variant, where);
    return /** @type {InstanceType<T>} */ (new this(session, host, spec, role, variant, where));
  }

  /**
   * Run n rows in batches.
   *
   * @param {number} n @param {Record<string, Rows>} inputs n rows each
   * @returns {Promise<Record<string, Float32Array>>} n rows of each output; no outputs if n is 0
   * @throws {InputError} onnxruntime cannot run the graph
   * @throws {LimitError} out of memory
   * @throws {StateError} the graph was closed
   */
  async run(n, inputs) {
    /** @type {Record<string, Float32Array>} */
    const whole = {};
    for (let start = 0; start < n; start += BATCH) {
      const rows = Math.min(BATCH, n - start);
      const feeds = Object.entries(inputs).map(([name, { data, row }]) => {
        const width = row.reduce((product, size) => product * size, 1);
        const type = data instanceof BigInt64Array ? "int64" : "float32";
        const part = data.slice(start * width, (start + rows) * width);
        return [name, new (this.#host.ort.Tensor)(type, part, [rows, ...row])];
      });
      const found = await takeTurn(() => this.#run(Object.fromEntries(feeds)));
      for (const [name, { data: values }] of Object.entries(found)) {
        whole[name] ??= new Float32Array((values.length / rows) * n);
        whole[name].set(values instanceof Uint8Array ? Float32Array.from(values, (byte) => byte / 255) : values, (values.length / rows) * start);
      }
    }
    return whole;
  }

  /** @param {Record<string, any>} feeds */
  async #run(feeds) {
    this.checkOpen();
    try {
      return await this.#session.run(feeds);
    } catch (error) {
      const text = String(/** @type {any} */ (error)?.message ?? error);
      if (/alloc|memory/i.test(text)) throw new LimitError("out of memory in onnxruntime. Run fewer items.");
      throw new InputError(`${this.where}: onnxruntime could not run the graph: ${text}`);
    }
  }

  /** @protected @throws {StateError} */
  checkOpen() {
    if (!this.#session) throw new StateError(`${this.where}: this graph was closed. Load it again.`);
  }

  /** Free its memory after the runs that are under way; the graph cannot be used afterwards. */
  async close() {
    const session = this.#session;
    this.#session = null;
    await takeTurn(async () => session?.release());
  }

  /**
   * @protected
   * @param {Label} label @param {number} n
   * @returns {Record<string, Rows>} the graph's input `label`, if it has one
   * @throws {UsageError} a label for a graph that takes none
   */
  labels(label, n) {
    const data = asLabels(label, n, this.spec);
    return this.takesLabel ? { label: { data, row: [] } } : {};
  }
}

/** A graph from latents to images; a conditional decoder also takes a label. */
export class Decoder extends Graph {
  static roles = ["decoder", "conditional_decoder"];

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
    this.checkOpen();
    return sampleLatents(this.spec, options);
  }

  /**
   * @param {Float32Array} z n·D @param {Label} [label] null for no label
   * @returns {Promise<Float32Array>} n·C·H·W
   * @throws {InputError} latents of another length, or not finite
   * @throws {UsageError} the graph takes no label, or a class is unknown
   */
  async decode(z, label = null) {
    const n = countRows(z, this.spec.latentDim, "latents");
    if (label !== null && this.spec.classes.length && !this.takesLabel) {
      throw new UsageError(`this ${this.spec.family} ${this.role} takes no label`);
    }
    const found = await this.run(n, { z: { data: z, row: this.spec.latentShape }, ...this.labels(label, n) });
    return found.image ?? new Float32Array();
  }
}

/** A graph from images to latents. */
export class Encoder extends Graph {
  static roles = ["encoder"];

  /**
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Label} [label]
   * @returns {Promise<Float32Array>} n·D: an AE's latents, or the posterior means
   */
  async encode(images, label = null) {
    return (await this.posterior(images, label)).mu;
  }

  /**
   * @param {Float32Array} images n·C·H·W in [0, 1] @param {Label} [label] not used if the encoder has no label input
   * @returns {Promise<{mu: Float32Array, logVar: Float32Array | null}>} n·D each; an AE has no log-variance
   */
  async posterior(images, label = null) {
    const { channels, height, width } = this.spec.image;
    const n = checkImages(images, this.spec.image);
    const found = await this.run(n, { image: { data: images, row: [channels, height, width] }, ...this.labels(label, n) });
    return { mu: found.mu ?? found.z ?? new Float32Array(), logVar: found.log_var ?? null };
  }
}

/** A graph from standard normals to images: the prior and the decoder in one. */
export class Sampler extends Graph {
  static roles = ["sampler"];

  /**
   * Sample images; the same seed gives the same images as `Decoder.sample`.
   *
   * @param {Omit<SampleOptions, "prior">} [options]
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async sample(options = {}) {
    const { prior: _, ...defaults } = SAMPLING;
    const { label, seed, ...others } = takeOptions(options, defaults);
    return this.decode(this.spec.prior.noise({ ...others, seed: seed ?? freshSeed() }), label);
  }

  /**
   * @param {Float32Array} noise independent standard normals, n·(D + 1): the first number of a row picks the component
   *     of a mixture; scaling the others scales the spread
   * @param {Label} [label] null for no label
   * @returns {Promise<Float32Array>} n·C·H·W
   */
  async decode(noise, label = null) {
    const width = this.spec.latentDim + 1;
    const n = countRows(noise, width, "noise");
    const found = await this.run(n, { noise: { data: noise, row: [width] }, ...this.labels(label, n) });
    return found.image ?? new Float32Array();
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
