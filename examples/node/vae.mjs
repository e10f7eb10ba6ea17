/**
 * A lone decoder file under Node: what it says about itself, its prior, its pixels.
 *
 *     const decoder = await Decoder.open("conditional_decoder.onnx");
 *     const z = decoder.sample({ n: 16, seed: 0, label: "3" }); // the codes of Python's seed=0
 *     const images = await decoder.decode(z, "3");              // Float32Array 16·C·H·W in [0, 1]
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { readCard } from "./engine/card.js";
import { InputError, IntegrityError, UsageError } from "./engine/errors.js";
import { Graph } from "./engine/graph.js";
import { checkGraph } from "./engine/guard/model.js";

const SEAL = 85; // bytes at the end of the file: the sha256 of all before them, as a text property

/** @typedef {number | string | null} Label a class index, a class name, or null for none */

export class Decoder {
  /** @param {Graph} graph @param {import("./engine/card.js").Card} card */
  constructor(graph, card) {
    this.graph = graph;
    this.card = card;
  }

  /**
   * @param {string} path of a `decoder.onnx` or `conditional_decoder.onnx`
   * @returns {Promise<Decoder>}
   * @throws {IntegrityError} bytes that are not those that were exported
   * @throws {InputError} no decoder of a bundle
   */
  static async open(path) {
    const raw = new Uint8Array(await readFile(path)); // plain: a Buffer slices without copying
    const properties = checkGraph(raw, path);
    const digest = createHash("sha256").update(raw.subarray(0, -SEAL)).digest("hex");
    const text = properties.get("vae_onnx");
    if (text === undefined) throw new InputError(`${path}: not a graph of a bundle. Export it with vae-export.`);
    if (properties.get("vae_onnx_sha256") !== digest) throw new IntegrityError(`${path}: damaged. Copy it again.`);
    const { role, variant, ...data } = JSON.parse(text);
    if (!/^(conditional_)?decoder$/.test(role)) throw new InputError(`${path}: the role of this graph is ${role}`);
    const card = readCard(data, path);
    const spec = /** @type {any} */ ({ role, variant, inputs: role === "decoder" ? ["z"] : ["z", "label"] });
    return new Decoder(await Graph.load(raw, spec, card, { ort, providers: ["cpu"] }, path), card);
  }

  /**
   * @param {Label} label
   * @returns {number} its index; the one behind the last class means "no label"
   * @throws {UsageError} an unknown class, or a label where the graph takes none
   */
  index(label) {
    const { classes, family } = this.card;
    if (label === null) return classes.length;
    if (!this.graph.takesLabel) throw new UsageError(`this ${family} decoder takes no label`);
    const index = typeof label === "string" ? classes.indexOf(label) : label;
    if (Number.isInteger(index) && index >= 0 && index < classes.length) return index;
    throw new UsageError(`label: unknown class '${label}', expected one of: ${classes.join(", ")}`);
  }

  /**
   * @param {Omit<import("./engine/prior.js").Draw, "label"> & {label?: Label}} [draw]
   * @returns {Float32Array} n·D, the codes that Python draws with the same seed
   */
  sample({ label = null, ...draw } = {}) {
    const index = this.index(label);
    return this.card.prior.sample({ ...draw, label: label === null ? null : index });
  }

  /**
   * @param {Float32Array} z n·D @param {Label} [label] one for all
   * @returns {Promise<Float32Array>} n·C·H·W in [0, 1]
   * @throws {InputError} codes of another length, or not finite
   */
  async decode(z, label = null) {
    const d = this.card.latentDim;
    const n = z.length / d;
    if (!Number.isInteger(n) || !z.every(Number.isFinite)) throw new InputError(`z: expected rows of ${d} finite numbers`);
    const labels = { data: new BigInt64Array(n).fill(BigInt(this.index(label))), shape: [n] };
    const inputs = { z: { data: z, shape: [n, d] }, ...(this.graph.takesLabel ? { label: labels } : {}) };
    return (await this.graph.run(inputs)).image;
  }
}
