/** Latents: samples, and paths between them, as in `vae_runtime/latents.py`. */

import { asLabels, checkWhole, quoted, takeOptions } from "./arrays.js";
import { UsageError } from "./errors.js";
import { MAX_SAMPLES, Prior } from "./prior.js";
import { freshSeed } from "./rng.js";

const MAX_STEPS = 10_000;

/**
 * @typedef {object} SampleOptions
 * @property {number} [n] number of samples, 1 by default
 * @property {import("./arrays.js").Label} [label] one class for all samples, one per sample, or null for no label
 * @property {number | bigint | string | null} [seed] 0 to 2^64 - 1; by default a random one
 * @property {"fitted" | "normal"} [prior] `fitted` (stored in the bundle) or `normal`, N(0, I)
 * @property {number} [temperature] factor for the spread of the latents; 0 gives the most typical images
 * @property {number | null} [truncation] noise beyond ± this value is redrawn
 * @property {number} [start] index of the first sample in the seed's endless sequence
 */

/** @type {Required<SampleOptions>} */
export const SAMPLING = { n: 1, label: null, seed: null, prior: "fitted", temperature: 1, truncation: null, start: 0 };

/**
 * @param {import("./spec.js").ModelSpec} spec @param {SampleOptions} options
 * @returns {Float32Array} n × D
 * @throws {UsageError} an unknown option, or one out of range
 */
export function sampleLatents(spec, options) {
  const { n, label, seed, prior, ...others } = takeOptions(options, SAMPLING);
  checkWhole(n, "n", 0, MAX_SAMPLES);
  if (prior !== "fitted" && prior !== "normal") throw new UsageError(`prior is '${prior}', expected 'fitted' or 'normal'`);
  const index = label === null ? null : Array.from(asLabels(label, n, spec), Number);
  const chosen = prior === "fitted" ? spec.prior : Prior.normal(spec.latentDim);
  return chosen.sample({ ...others, label: index, n, seed: seed ?? freshSeed() });
}

/**
 * Interpolate from latent vector a to b, including both. `spherical` turns the direction at a constant rate and
 * scales the length linearly (White 2016, arXiv 1609.04468).
 *
 * @param {Float32Array} a @param {Float32Array} b @param {number} steps
 * @param {"linear" | "spherical"} how
 * @returns {Float32Array} steps × D
 */
export function interpolation(a, b, steps, how = "linear") {
  checkWhole(steps, "steps", 2, MAX_STEPS);
  if (how !== "linear" && how !== "spherical") throw new UsageError(`how is '${how}', expected 'linear' or 'spherical'`);
  const lengths = [Math.hypot(...a), Math.hypot(...b)];
  const dot = a.reduce((sum, value, i) => sum + value * b[i], 0);
  const angle = Math.acos(Math.min(1, Math.max(-1, dot / Math.max(lengths[0] * lengths[1], 1e-12))));
  // Parallel or opposite vectors span no plane to turn in.
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
 * Vary one coordinate of latents z from its mean - span·std to its mean + span·std.
 *
 * @param {Prior} prior @param {Float32Array} z @param {number} dim the coordinate
 * @param {number} steps @param {number} span @param {number | null} label the class whose mean and std count
 * @returns {Float32Array} steps × D
 */
export function traversal(prior, z, dim, steps, span, label) {
  checkWhole(dim, "dim", 0, prior.coordinates - 1);
  checkWhole(steps, "steps", 2, MAX_STEPS);
  if (!Number.isFinite(span)) throw new UsageError(`span is ${quoted(span)}, expected a finite number`);
  const { mean, std } = prior.spread(label);
  const path = new Float32Array(steps * z.length);
  for (let i = 0; i < steps; i += 1) {
    path.set(prior.move(z, dim, mean[dim] + span * std[dim] * ((2 * i) / (steps - 1) - 1)), i * z.length);
  }
  return path;
}
