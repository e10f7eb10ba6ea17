/** What is normal for a model, and how far images are from it, as in `vae_runtime/detection/normality.py`. */

import { countRows } from "./arrays.js";
import { InputError, UsageError } from "./errors.js";
import { need } from "./json.js";
import { readNpz } from "./npz.js";

const LEVELS = 16; // of a reconstructed pixel, each with an expected error
const MAX_SCORES = 2000;
const SMOOTHING = 1 / 30; // standard deviation of the blur, relative to the longer side
const FLOOR = 1e-6;
const MAX_DIRECTIONS = 32;

/**
 * @typedef {object} Normality
 * @property {Float64Array} center D, the mean of the latents
 * @property {Float64Array} whitening D·K; latents minus the center times it have the covariance 1
 * @property {Float64Array} expected the mean squared error of a pixel by the level of its reconstruction
 * @property {Float64Array} parts of excess, peak and distance: the median, and how far the 99% quantile is from it
 * @property {Float64Array} scores of held-out normal images, ascending; quantiles where there were many
 * @property {number} heldOut the number of held-out images
 *
 * @typedef {object} Detection
 * @property {Float64Array} scores about 0 for normal images, higher for others
 * @property {Float64Array} rarity the fraction of held-out normal images with a lower score
 * @property {boolean[]} anomalous whether the score is above the threshold
 * @property {number} threshold
 * @property {number} falseAlarms the rate of false alarms that gives the threshold
 * @property {Float32Array} maps n·H·W, the error of each pixel over the expected one; 1 is as expected
 */

/**
 * @param {import("./bundle.js").Bundle} bundle
 * @returns {Promise<Normality>}
 * @throws {InputError} the bundle does not say what is normal, or its arrays are wrong
 */
export async function readNormality({ name, manifest, files }) {
  if (!manifest.normality) throw new InputError(`${name}: does not say what is normal. vae-train records it.`);
  const { latentDim: d } = manifest.spec;
  const where = `${name}/${manifest.normality.file}`;
  const arrays = await readNpz(/** @type {Uint8Array} */ (files.get(manifest.normality.file)), where);
  const count = arrays.get("held_out")?.data;
  const heldOut = count instanceof BigInt64Array && count.length === 1 ? Number(count[0]) : 0;
  const k = arrays.get("whitening")?.shape[1] ?? 0;
  const q = arrays.get("scores")?.shape[0] ?? 0;
  const shapes = { center: [d], whitening: [d, k], expected: [LEVELS], parts: [3, 2], scores: [q] };
  /** @type {Record<string, Float64Array>} */
  const found = {};
  for (const [key, shape] of Object.entries(shapes)) {
    const { data, shape: given } = arrays.get(key) ?? { data: null, shape: [] };
    const fits = data instanceof Float64Array && given.join() === shape.join() && data.every(Number.isFinite);
    need(fits, `${where}: ${key} is missing, or has the wrong dtype, shape or values`);
    found[key] = /** @type {Float64Array} */ (data);
  }
  const { expected, parts, scores } = found;
  const fits =
    k <= MAX_DIRECTIONS && q >= 1 && q <= Math.min(MAX_SCORES, heldOut) && expected.every((value) => value >= 0) &&
    [1, 3, 5].every((i) => parts[i] > 0) && scores.every((value, i) => i === 0 || scores[i - 1] <= value);
  need(fits, `${where}: a value is out of range`);
  return /** @type {any} */ ({ ...found, heldOut });
}

/**
 * Score images and decide which of them are anomalous.
 *
 * @param {Normality} known
 * @param {import("./spec.js").ModelSpec["image"]} image the shape of the images
 * @param {Float32Array} images n·C·H·W in [0, 1]
 * @param {Float32Array} latents n·D, of the images
 * @param {Float32Array} reconstructions of the images
 * @param {number | null} rate of false alarms; by default 1%, or the lowest that the held-out images can tell from 0
 * @returns {Detection}
 * @throws {UsageError} a rate that is no fraction, or lower than that
 */
export function detect(known, image, images, latents, reconstructions, rate) {
  const falseAlarms = rate ?? Math.max(0.01, 1 / (known.heldOut + 1));
  const threshold = thresholdOf(known, falseAlarms);
  const { size, height, width } = image;
  const n = countRows(images, size, "images");
  const maps = new Float32Array(n * height * width);
  const scores = new Float64Array(n).map((_, i) => {
    const x = images.subarray(i * size, (i + 1) * size);
    const y = reconstructions.subarray(i * size, (i + 1) * size);
    const map = maps.subarray(i * height * width, (i + 1) * height * width);
    const d = known.center.length;
    const { excess, peak } = errorsOf(known, image, x, y, map);
    const far = distance(known, latents.subarray(i * d, (i + 1) * d));
    const scaled = [excess, peak, far].map((value, k) => (value - known.parts[2 * k]) / known.parts[2 * k + 1]);
    return Math.max((scaled[0] + scaled[2]) / Math.SQRT2, scaled[1]);
  });
  const rarity = scores.map((score) => lowerThan(known.scores, score) / known.scores.length);
  const anomalous = Array.from(scores, (score) => score > threshold);
  return { scores, rarity, anomalous, threshold, falseAlarms, maps };
}

/** How far latents are from those of normal images. @param {Normality} known @param {Float32Array} z D */
function distance({ center, whitening }, z) {
  const k = whitening.length / center.length;
  let sum = 0;
  for (let j = 0; j < k; j += 1) {
    sum += z.reduce((total, value, i) => total + (value - center[i]) * whitening[i * k + j], 0) ** 2;
  }
  return Math.sqrt(sum);
}

/** Excess and peak of an image; fills its map. @param {Normality} known @param {import("./spec.js").ModelSpec["image"]} image
 * @param {Float32Array} x @param {Float32Array} y @param {Float32Array} map */
function errorsOf({ expected }, image, x, y, map) {
  const { channels, height, width } = image;
  const [squared, usual] = [new Float32Array(map.length), new Float32Array(map.length)];
  let excess = 0;
  for (let i = 0; i < x.length; i += 1) {
    const error = Math.fround(y[i] - x[i]) ** 2;
    const level = Math.max(0, Math.min(LEVELS - 1, Math.trunc(y[i] * LEVELS)));
    excess += error - expected[level];
    squared[i % map.length] += error / channels;
    usual[i % map.length] += expected[level] / channels;
  }
  const blur = Math.max(height, width) * SMOOTHING;
  const [above, below] = [smooth(squared, height, width, blur), smooth(usual, height, width, blur)];
  map.set(above.map((value, i) => value / (below[i] + FLOOR)));
  const peak = Math.log(map.reduce((a, b) => Math.max(a, b)) + FLOOR);
  return { excess, peak };
}

/** @param {Normality} known @param {number} falseAlarms */
function thresholdOf({ scores, heldOut: n }, falseAlarms) {
  if (!(falseAlarms > 0 && falseAlarms < 1)) {
    throw new UsageError(`falseAlarms is ${falseAlarms}, expected between 0 and 1`);
  }
  const rank = Math.ceil((n + 1) * (1 - falseAlarms) - 1e-9);
  if (rank > n) {
    throw new UsageError(
      `falseAlarms is ${falseAlarms}, expected ${(1 / (n + 1)).toPrecision(2)} or more: only ${n} held-out normal ` +
        "images are known",
    );
  }
  const position = ((rank - 1) / Math.max(n - 1, 1)) * (scores.length - 1);
  return scores[Math.ceil(position - 1e-9)];
}

/** Count the values below `score`. @param {Float64Array} ascending @param {number} score */
function lowerThan(ascending, score) {
  const found = ascending.findIndex((value) => value >= score);
  return found < 0 ? ascending.length : found;
}

/** Blur an image H·W with a Gaussian; beyond the border, it continues as its outermost pixels.
 * @param {Float32Array} pixels @param {number} height @param {number} width @param {number} sigma */
function smooth(pixels, height, width, sigma) {
  const radius = Math.ceil(3 * sigma);
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-0.5 * ((i - radius) / sigma) ** 2));
  const sum = kernel.reduce((a, b) => a + b);
  const along = (/** @type {Float32Array} */ from, /** @type {number} */ step, /** @type {number} */ length) =>
    from.map((_, at) => {
      const place = Math.floor(at / step) % length;
      return kernel.reduce((total, weight, k) => {
        const moved = Math.max(0, Math.min(length - 1, place + k - radius));
        return total + (weight / sum) * from[at + (moved - place) * step];
      }, 0);
    });
  return along(along(pixels, width, height), 1, width);
}
