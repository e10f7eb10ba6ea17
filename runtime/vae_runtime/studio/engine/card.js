/** The facts that all graphs of one bundle share. */

import { Prior } from "./prior.js";
import { need, take } from "./schema.js";

const FORMAT = "1.0";
const LARGEST_SIDE = 16384;
const MOST_DIMENSIONS = 65536;
const MOST_CLASSES = 1_000_000;

/**
 * @typedef {object} Card
 * @property {string} id graphs of two bundles never work together
 * @property {"ae" | "vae" | "cvae"} family
 * @property {{channels: number, height: number, width: number, size: number}} image size: C·H·W
 * @property {number} latentDim
 * @property {string[]} classes empty where the decoder takes no label
 * @property {"bernoulli" | "gaussian"} likelihood
 * @property {number | null} sigma standard deviation of a pixel in a `gaussian` likelihood, where it was learned
 * @property {Prior} prior
 */

/**
 * @param {any} data parsed JSON @param {string} where begins every error message
 * @returns {Card}
 * @throws {InputError} a value is missing, of another type, out of range, or does not fit another
 */
export function readCard(data, where) {
  const image = take(data, "image", "object", where);
  const [channels, height, width] = ["channels", "height", "width"].map((key) => take(image, key, "integer", where));
  const card = {
    id: take(data, "id", "string", where),
    family: take(data, "family", "string", where),
    image: { channels, height, width, size: channels * height * width },
    latentDim: take(data, "latent_dim", "integer", where),
    classes: take(data, "classes", "array", where),
    likelihood: take(data, "likelihood", "string", where),
    sigma: "sigma" in data ? take(data, "sigma", "number", where) : null,
    prior: new Prior(take(data, "prior", "object", where)),
  };
  check(card, take(image, "mode", "string", where), take(image, "range", "array", where), where);
  return card;
}

/** @param {Card} card @param {string} mode @param {any[]} range @param {string} where */
function check({ family, image, latentDim, classes, likelihood, sigma, prior }, mode, range, where) {
  const { channels: c, height: h, width: w } = image;
  const side = (/** @type {number} */ n) => n >= 1 && n <= LARGEST_SIDE;
  const shaped = mode === (c === 1 ? "L" : "RGB") && (c === 1 || c === 3) && side(h) && side(w);
  const named = classes.every((name) => typeof name === "string") && new Set(classes).size === classes.length;
  /** @type {[string, boolean][]} */
  const fits = [
    [`family '${family}'`, ["ae", "vae", "cvae"].includes(family)],
    [`likelihood '${likelihood}'`, ["bernoulli", "gaussian"].includes(likelihood)],
    [`sigma ${sigma}`, sigma === null || (likelihood === "gaussian" && sigma > 0 && sigma < Infinity)],
    [`image ${mode} ${c}×${h}×${w}`, shaped],
    [`image range ${range}`, range.length === 2 && range[0] === 0 && range[1] === 1],
    [`latent_dim ${latentDim}`, latentDim >= 1 && latentDim <= MOST_DIMENSIONS],
    [`prior of ${prior.latentDim} dimensions`, prior.latentDim === latentDim],
    [`prior of ${prior.rows} mixtures`, prior.kind !== "class_gmm" || prior.rows === classes.length + 1],
    [`${classes.length} classes`, named && classes.length <= MOST_CLASSES && (family === "cvae") === classes.length > 0],
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
