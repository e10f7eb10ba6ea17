/**
 * Run a single decoder file under Node. The file contains everything needed: shapes, class names and the prior.
 *
 *     const decoder = await Decoder.open("conditional_decoder.onnx");
 *     const images = await decoder.sample({ n: 16, seed: 0, label: "3" }); // Python's images of seed 0
 *     const z = decoder.sampleLatents({ n: 16, seed: 0, label: "3" });     // the latents of these images
 *     const again = await decoder.decode(z, "3");                          // Float32Array 16·C·H·W in [0, 1]
 */
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { asLabels, countRows } from "./engine/arrays.js";
import { InputError, UsageError } from "./engine/errors.js";
import { Graph } from "./engine/graph.js";

/**
 * @typedef {number | string | null} Label a class index, a class name, or null for none
 * @typedef {Omit<import("./engine/prior.js").SampleOptions, "label"> & {label?: Label}} SampleOptions
 */

export class Decoder {
  /** @param {Graph} graph */
  constructor(graph) {
    this.graph = graph;
    this.spec = graph.spec;
  }

  /**
   * @param {string} path a `decoder.onnx` or `conditional_decoder.onnx`
   * @returns {Promise<Decoder>}
   * @throws {IntegrityError} the bytes differ from those that were exported
   * @throws {InputError} not the decoder of a bundle
   */
  static async open(path) {
    const raw = new Uint8Array(await readFile(path)); // not a Buffer, whose slice() does not copy
    const graph = await Graph.open(raw, { ort, providers: ["cpu"] }, path);
    if (!graph.role.endsWith("decoder")) throw new InputError(`${path}: the role of this graph is ${graph.role}`);
    return new Decoder(graph);
  }

  /**
   * @param {SampleOptions} [options]
   * @returns {Promise<Float32Array>} n·C·H·W; the same seed gives the same images as in Python
   */
  async sample(options = {}) {
    return this.decode(this.sampleLatents(options), options.label ?? null);
  }

  /**
   * @param {SampleOptions} [options]
   * @returns {Float32Array} n·D; the same seed gives the same latents as in Python
   */
  sampleLatents({ label = null, ...options } = {}) {
    return this.spec.prior.sample({ ...options, label: label === null ? null : Number(this.#labels(label, 1)[0]) });
  }

  /**
   * @param {Float32Array} z n·D @param {Label} [label] for all latents
   * @returns {Promise<Float32Array>} n·C·H·W in [0, 1]
   * @throws {InputError} latents of another length, or not finite
   */
  async decode(z, label = null) {
    const n = countRows(z, this.spec.latentDim, "latents");
    const labels = { data: this.#labels(label, n), shape: [n] };
    const inputs = { z: { data: z, shape: [n, ...this.spec.latentShape] }, ...(this.graph.takesLabel ? { label: labels } : {}) };
    return (await this.graph.run(inputs)).image;
  }

  /** @param {Label} label @param {number} n */
  #labels(label, n) {
    if (label !== null && !this.graph.takesLabel) throw new UsageError(`this ${this.spec.family} decoder takes no label`);
    return asLabels(label, n, this.spec);
  }
}
