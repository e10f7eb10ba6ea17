/** Scores of images, as in `vae_runtime/metrics.py`, and the effect of each latent dimension. */

import { checkWhole, takeOptions } from "./arrays.js";
import { MAX_SAMPLES, Prior } from "./prior.js";

const BASES = 4; // latents in which each dimension is varied
const MAX_MOVED = 1024; // dimensions to measure; nobody needs more sliders
const MIN_EFFECT = 0.05; // relative to the largest effect; below it, a dimension is inactive

/**
 * Score images. Per image: the mean squared error per pixel of the reconstruction from the posterior mean;
 * KL(q(z | image) ‖ N(0, I)) and the negative ELBO in nats, with z sampled from q. For an AE, KL is 0 and the negative
 * ELBO is the negative log-likelihood.
 *
 * @param {import("./autoencoder.js").Autoencoder} model
 * @param {Float32Array} images
 * @param {{label?: import("./arrays.js").Label, samples?: number, seed?: number | bigint | string}} options
 * @returns {Promise<{error: Float64Array, kl: Float64Array, negativeElbo: Float64Array}>}
 */
export async function score(model, images, options) {
  const { label, samples, seed } = takeOptions(options, { label: null, samples: 1, seed: 0 });
  checkWhole(samples, "samples", 1, MAX_SAMPLES);
  const { latentDim: d, likelihood, sigma } = model;
  const { size } = model.image;
  const { mu, logVar } = await model.posterior(images, label);
  const n = mu.length / d;
  const row = (/** @type {Float32Array} */ all, /** @type {number} */ i, w = size) => all.subarray(i * w, (i + 1) * w);
  const decoded = await model.decode(mu, label);
  const error = new Float64Array(n).map((_, i) => squaredError(row(decoded, i), row(images, i)) / size);
  const divergence = new Float64Array(n).map((_, i) => (logVar ? kl(row(mu, i, d), row(logVar, i, d)) : 0));
  const negativeElbo = divergence.slice();
  const latents = logVar ? samplePosterior(mu, logVar, d, samples, seed) : [null];
  for (const z of latents) {
    const again = z ? await model.decode(z, label) : decoded;
    for (let i = 0; i < n; i += 1) {
      negativeElbo[i] += negativeLogLikelihood(row(again, i), row(images, i), likelihood, sigma) / latents.length;
    }
  }
  return { error, kl: divergence, negativeElbo };
}

/**
 * Measure how much each coordinate of the latents changes the image: samples of the prior are decoded with it set to
 * its mean ± 2 standard deviations.
 *
 * @param {import("./autoencoder.js").Autoencoder} model @param {number | null} label
 * @returns {Promise<{order: Int32Array, effect: Float64Array, active: boolean[]}>} `effect`: mean absolute
 *     difference of the two images, per pixel; `order`: coordinates, the largest effect first
 */
export async function activity(model, label) {
  const { latentDim: d, prior } = model;
  const { mean, std } = prior.spread(label);
  const bases = model.sampleLatents({ n: BASES, seed: 0, label, temperature: 0.5 });
  const effect = new Float64Array(prior.coordinates);
  for (let dim = 0; dim < Math.min(effect.length, MAX_MOVED); dim += 1) {
    const latents = new Float32Array(2 * bases.length);
    [-2, 2].forEach((side, s) => {
      for (let b = 0; b < BASES; b += 1) {
        const moved = prior.move(bases.subarray(b * d, (b + 1) * d), dim, mean[dim] + side * std[dim]);
        latents.set(moved, s * bases.length + b * d);
      }
    });
    const images = await model.decode(latents, label);
    const half = images.length / 2;
    for (let i = 0; i < half; i += 1) effect[dim] += Math.abs(images[i] - images[half + i]) / half;
  }
  const order = Int32Array.from(effect.keys()).sort((a, b) => effect[b] - effect[a]);
  const least = MIN_EFFECT * effect[order[0]];
  return { order, effect, active: Array.from(effect, (value) => value > least) };
}

/**
 * Sample z ~ N(mu, exp(log_var)) `samples` times per image; sample k of image i has index i · samples + k.
 *
 * @param {Float32Array} mu @param {Float32Array} logVar both n × D @param {number} dim
 * @param {number} samples @param {number | bigint | string} seed @returns {Float32Array[]} n × D each
 */
function samplePosterior(mu, logVar, dim, samples, seed) {
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
 * @param {Float32Array} mu @param {Float32Array} logVar of one image @returns {number}
 */
function kl(mu, logVar) {
  return 0.5 * mu.reduce((sum, m, i) => sum + m * m + Math.exp(logVar[i]) - 1 - logVar[i], 0);
}

/**
 * The negative log-likelihood in nats, summed over pixels. `bernoulli`: cross-entropy, with pixels as probabilities.
 * `gaussian`: with the standard deviation `sigma`; without one, the squared error, which is the likelihood for
 * variance 1/2 up to a constant.
 *
 * @param {Float32Array} decoded @param {Float32Array} image
 * @param {"bernoulli" | "gaussian"} likelihood @param {number | null} sigma @returns {number}
 */
function negativeLogLikelihood(decoded, image, likelihood, sigma = null) {
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
function squaredError(a, b) {
  return a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);
}
