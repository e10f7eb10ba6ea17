/** Read the spec that all graphs of a bundle share, and derive the tensors that each graph must have. */

import { need, take } from "./json.js";
import { Prior } from "./prior.js";

const FORMAT = "1.0";
/** Pillow's names of modes, by number of channels. */
const MODES = ["", "L", "LA", "RGB", "RGBA"];
const MAX_AXES = 8;
const MAX_SIDE = 16384;
const MAX_CLASSES = 1_000_000;

/**
 * @typedef {{name: string, dtype: string, shape: (number | string)[]}} TensorSpec
 * @typedef {object} ModelSpec
 * @property {string} id identifies the bundle; graphs of different bundles are never combined
 * @property {"ae" | "vae" | "cvae"} family
 * @property {{channels: number, height: number, width: number, size: number}} image size: C·H·W
 * @property {number[]} latentShape
 * @property {number} latentDim the product of latentShape
 * @property {string[]} classes empty where the decoder takes no label
 * @property {"bernoulli" | "gaussian"} likelihood
 * @property {number | null} sigma standard deviation of the pixels in a `gaussian` likelihood; null if not learned
 * @property {Prior} prior
 */

/**
 * @param {any} data parsed JSON @param {string} where begins every error message
 * @returns {ModelSpec}
 * @throws {InputError} a value is missing, has the wrong type, is out of range, or contradicts another
 */
export function readSpec(data, where) {
  checkFormat(take(data, "format", "string", where), where);
  const image = take(data, "image", "object", where);
  const [channels, height, width] = ["channels", "height", "width"].map((key) => take(image, key, "integer", where));
  /** @type {number[]} */
  const latentShape = take(data, "latent_shape", "array", where);
  const spec = {
    id: take(data, "id", "string", where),
    family: take(data, "family", "string", where),
    image: { channels, height, width, size: channels * height * width },
    latentShape,
    latentDim: latentShape.reduce((product, size) => product * size, 1),
    classes: take(data, "classes", "array", where),
    likelihood: take(data, "likelihood", "string", where),
    sigma: "sigma" in data ? take(data, "sigma", "number", where) : null,
    prior: new Prior(take(data, "prior", "object", where)),
  };
  check(spec, take(image, "mode", "string", where), take(image, "range", "array", where), where);
  return spec;
}

/** @param {ModelSpec} spec @param {string} mode @param {any[]} range @param {string} where */
function check({ family, image, latentShape, latentDim, classes, likelihood, sigma, prior }, mode, range, where) {
  const { channels: c, height: h, width: w } = image;
  const side = (/** @type {number} */ n) => n >= 1 && n <= MAX_SIDE;
  const shaped = c >= 1 && mode === MODES[c] && side(h) && side(w);
  const axes = latentShape.length >= 1 && latentShape.length <= MAX_AXES && latentShape.every((n) => Number.isInteger(n) && n >= 1);
  const named = classes.every((name) => typeof name === "string") && new Set(classes).size === classes.length;
  /** @type {[string, boolean][]} */
  const fits = [
    [`family '${family}'`, ["ae", "vae", "cvae"].includes(family)],
    [`likelihood '${likelihood}'`, ["bernoulli", "gaussian"].includes(likelihood)],
    [`sigma ${sigma}`, sigma === null || (likelihood === "gaussian" && sigma > 0 && sigma < Infinity)],
    [`image ${mode} ${c}×${h}×${w}`, shaped],
    [`image range ${range}`, range.join() === "0,1" && range.every(Number.isFinite)],
    [`latent_shape ${latentShape}`, axes && latentDim === prior.latentDim],
    [`prior of ${prior.rows} mixtures`, prior.kind !== "class_gmm" || prior.rows === classes.length + 1],
    [`${classes.length} classes`, named && classes.length <= MAX_CLASSES && (family === "cvae") === classes.length > 0],
  ];
  for (const [what, ok] of fits) need(ok, `${where}: ${what} does not fit the rest. The file is not valid.`);
}

/**
 * Refuse a bundle whose major format version this engine does not know.
 *
 * @param {string} version @param {string} where
 */
export function checkFormat(version, where) {
  need(
    version.split(".")[0] === FORMAT.split(".")[0],
    `${where}: bundle format ${version}, this page reads ${FORMAT}. Make it again with a newer vae-onnx.`,
  );
}

/**
 * The inputs and outputs that a graph of a model must have, in order.
 *
 * @param {ModelSpec} spec
 * @param {string} role encoder, decoder, conditional_decoder or sampler
 * @param {string} variant fp32, fp16, int8 or uint8
 * @param {boolean} labelled whether an encoder takes labels
 * @returns {[TensorSpec[], TensorSpec[]]}
 */
export function expectedTensors(spec, role, variant, labelled) {
  const encodes = role === "encoder";
  const { channels, height, width } = spec.image;
  const dtype = variant === "uint8" && !encodes ? "uint8" : "float32";
  const image = { name: "image", dtype, shape: ["batch", channels, height, width] };
  const names = encodes && spec.family !== "ae" ? ["mu", "log_var"] : ["z"];
  const latents = names.map((name) => ({ name, dtype: "float32", shape: ["batch", ...spec.latentShape] }));
  const conditional = role === "conditional_decoder" || role === "sampler" || (encodes && labelled);
  const takesLabel = conditional && spec.classes.length > 0;
  const label = takesLabel ? [{ name: "label", dtype: "int64", shape: ["batch"] }] : [];
  if (role === "sampler") {
    const noise = { name: "noise", dtype: "float32", shape: ["batch", spec.latentDim + 1] };
    return [[noise, ...label], [image, ...latents]];
  }
  return encodes ? [[image, ...label], latents] : [[...latents, ...label], [image]];
}
