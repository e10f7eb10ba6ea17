/** How well a model knows an image; the same as `vae_runtime/scoring.py`. */

import { kl, negativeLogLikelihood, posteriorDraws, squaredError } from "./latent.js";

/**
 * One number an image: mean squared error of the reconstruction a pixel; KL(q(z | image) ‖ N(0, I))
 * and negative ELBO in nats, z drawn from q; for an AE the negative log likelihood alone.
 *
 * @param {import("./model.js").Model} model
 * @param {Float32Array} images
 * @param {{labels?: import("./arrays.js").Labels, samples?: number, seed?: number | bigint | string}} options
 * @returns {Promise<{error: Float64Array, kl: Float64Array, negativeElbo: Float64Array}>}
 */
export async function score(model, images, { labels = null, samples = 1, seed = 0 }) {
  const { latentDim: d, likelihood, sigma } = model;
  const { size } = model.image;
  const { mu, logVar } = await model.encode(images, labels);
  const n = mu.length / d;
  const row = (/** @type {Float32Array} */ all, /** @type {number} */ i, w = size) => all.subarray(i * w, (i + 1) * w);
  const decoded = await model.decode(mu, labels);
  const error = new Float64Array(n).map((_, i) => squaredError(row(decoded, i), row(images, i)) / size);
  const divergence = new Float64Array(n).map((_, i) => (logVar ? kl(row(mu, i, d), row(logVar, i, d)) : 0));
  const negativeElbo = divergence.slice();
  const draws = logVar ? posteriorDraws(mu, logVar, d, samples, seed) : [null];
  for (const z of draws) {
    const drawn = z ? await model.decode(z, labels) : decoded;
    for (let i = 0; i < n; i += 1) {
      negativeElbo[i] += negativeLogLikelihood(row(drawn, i), row(images, i), likelihood, sigma) / draws.length;
    }
  }
  return { error, kl: divergence, negativeElbo };
}
