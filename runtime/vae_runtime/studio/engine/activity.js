/** How much each latent dimension moves the image. */

const BASES = 4; // codes that each dimension is moved from
const MOST = 1024; // dimensions looked at; a page with more sliders is no use
const LEAST = 0.05; // of the largest effect: less is inactive

/**
 * Decode codes of the prior with each dimension set to its mean ± 2 standard deviations.
 *
 * @param {import("./model.js").Model} model @param {number | null} label
 * @returns {Promise<{order: Int32Array, effect: Float64Array, active: boolean[]}>} `effect`: mean
 *     absolute difference of the two images, a pixel; `order`: dimensions, most effect first
 */
export async function readActivity(model, label) {
  const d = model.latentDim;
  const { mean, std } = model.spread(label);
  const bases = model.sample({ n: BASES, seed: 0, label, temperature: 0.5 });
  const effect = new Float64Array(d);
  for (let dim = 0; dim < Math.min(d, MOST); dim += 1) {
    const codes = new Float32Array(2 * bases.length);
    [-2, 2].forEach((side, s) => {
      codes.set(bases, s * bases.length);
      for (let b = 0; b < BASES; b += 1) codes[s * bases.length + b * d + dim] = mean[dim] + side * std[dim];
    });
    const images = await model.decode(codes, label);
    const half = images.length / 2;
    for (let i = 0; i < half; i += 1) effect[dim] += Math.abs(images[i] - images[half + i]) / half;
  }
  const order = Int32Array.from(effect.keys()).sort((a, b) => effect[b] - effect[a]);
  const least = LEAST * effect[order[0]];
  return { order, effect, active: Array.from(effect, (value) => value > least) };
}
