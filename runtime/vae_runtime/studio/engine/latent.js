/** Arithmetic on codes and likelihoods; the same as `vae_runtime/latent.py`. */

import { UsageError } from "./errors.js";
import { Prior } from "./prior.js";

const MOST_STEPS = 10_000;

/**
 * Copies of a code whose dimension `dim` runs over mean ± span·std.
 *
 * @param {Float32Array} z @param {number} dim @param {number} steps @param {number} span
 * @param {{mean: Float64Array, std: Float64Array}} spread
 * @returns {Float32Array} steps × D
 */
export function traverse(z, dim, steps, span, { mean, std }) {
  checkSteps(steps);
  if (!(dim >= 0 && dim < z.length)) throw new UsageError(`dim is ${dim}, expected 0 to ${z.length - 1}`);
  const path = new Float32Array(steps * z.length);
  for (let i = 0; i < steps; i += 1) {
    path.set(z, i * z.length);
    path[i * z.length + dim] = mean[dim] + span * std[dim] * ((2 * i) / (steps - 1) - 1);
  }
  return path;
}

/**
 * From code a to code b, both included. `spherical` turns the direction at a constant rate and
 * scales the length linearly (White 2016, arXiv 1609.04468).
 *
 * @param {Float32Array} a @param {Float32Array} b @param {number} steps
 * @param {"linear" | "spherical"} how
 * @returns {Float32Array} steps × D
 */
export function interpolate(a, b, steps, how = "linear") {
  checkSteps(steps);
  if (how !== "linear" && how !== "spherical") throw new UsageError(`how is '${how}', expected 'linear' or 'spherical'`);
  const lengths = [Math.hypot(...a), Math.hypot(...b)];
  const dot = a.reduce((sum, value, i) => sum + value * b[i], 0);
  const angle = Math.acos(Math.min(1, Math.max(-1, dot / Math.max(lengths[0] * lengths[1], 1e-12))));
  // Codes on one ray or opposite each other span no plane to turn in.
  const turns = how === "spherical" && Math.sin(angle) > 1e-6;
  const path = new Float32Array(steps * a.length);
  for (let i = 0; i < steps; i += 1) {
    const t = i / (steps - 1);
    const length = (1 - t) * lengths[0] + t * lengths[1];
    const [p, q] = turns
      ? [Math.sin((1 - t) * angle) / lengths[0], Math.sin(t * angle) / lengths[1]].map((w) => (w * length) / Math.sin(angle))
      : [1 - t, t];
    a.forEach((value, k) => {
      path[i * a.length + k] = p * value + q * b[k];
    });
  }
  return path;
}

/**
 * `samples` draws z ~ N(mu, exp(log_var)) of each code: draw k of code i is number i · samples + k
 * of the seed.
 *
 * @param {Float32Array} mu @param {Float32Array} logVar both n × D @param {number} dim
 * @param {number} samples @param {number | bigint | string} seed @returns {Float32Array[]} n × D each
 */
export function posteriorDraws(mu, logVar, dim, samples, seed) {
  const eps = Prior.normal(dim).sample({ n: (mu.length / dim) * samples, seed });
  const noise = (/** @type {number} */ i, /** @type {number} */ k) =>
    eps[(Math.floor(i / dim) * samples + k) * dim + (i % dim)];
  return Array.from({ length: samples }, (_, k) =>
    mu.map((m, i) => m + Math.fround(Math.fround(Math.exp(0.5 * logVar[i])) * noise(i, k))),
  );
}

/**
 * KL(N(mu, exp(log_var)) ‖ N(0, I)) in nats; Kingma & Welling 2014, appendix B.
 *
 * @param {Float32Array} mu @param {Float32Array} logVar one code each @returns {number}
 */
export function kl(mu, logVar) {
  return 0.5 * mu.reduce((sum, m, i) => sum + m * m + Math.exp(logVar[i]) - 1 - logVar[i], 0);
}

/**
 * Summed over pixels. `bernoulli`: cross-entropy in nats, pixels read as probabilities. `gaussian`:
 * in nats with the standard deviation `sigma`; without one the squared error, which is the Gaussian
 * one with variance 1/2 up to a constant.
 *
 * @param {Float32Array} decoded @param {Float32Array} image
 * @param {"bernoulli" | "gaussian"} likelihood @param {number | null} sigma @returns {number}
 */
export function negativeLogLikelihood(decoded, image, likelihood, sigma = null) {
  if (likelihood === "gaussian") {
    const error = squaredError(decoded, image);
    if (sigma === null) return error;
    return error / (2 * sigma ** 2) + 0.5 * decoded.length * Math.log(2 * Math.PI * sigma ** 2);
  }
  return decoded.reduce((sum, value, i) => {
    const p = Math.min(1 - 1e-7, Math.max(1e-7, value));
    return sum - (image[i] * Math.log(p) + (1 - image[i]) * Math.log1p(-p));
  }, 0);
}

/** @param {Float32Array} a @param {Float32Array} b @returns {number} summed over pixels */
export function squaredError(a, b) {
  return a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);
}

/** @param {number} steps */
function checkSteps(steps) {
  if (!(steps >= 2 && steps <= MOST_STEPS)) throw new UsageError(`steps is ${steps}, expected 2 to ${MOST_STEPS}`);
}
