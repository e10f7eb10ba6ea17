/** The two principal components of latents, for the map. */

const ROUNDS = 200; // of power iteration

/**
 * Compute the two principal components of latents, for the map.
 *
 * @param {Float32Array} z n × D, n ≥ 1 @param {number} dim D
 * @returns the components, and functions that map latents to their plane and back
 */
export function pca(z, dim) {
  const n = z.length / dim;
  const mean = new Float64Array(dim);
  z.forEach((value, i) => (mean[i % dim] += value / n));
  const covariance = Array.from({ length: dim }, () => new Float64Array(dim));
  for (let r = 0; r < n; r += 1) {
    for (let i = 0; i < dim; i += 1) {
      const own = (z[r * dim + i] - mean[i]) / n;
      for (let j = 0; j < dim; j += 1) covariance[i][j] += own * (z[r * dim + j] - mean[j]);
    }
  }
  /** @type {Float64Array[]} */
  const axes = [];
  const variance = [0, 1].map(() => {
    const [axis, value] = largest(covariance, axes);
    axes.push(axis);
    return value;
  });
  return {
    mean,
    axes,
    variance,
    /** Project latents m × D to the plane: m × 2. @param {Float32Array} latents */
    project(latents) {
      return Float32Array.from({ length: (latents.length / dim) * 2 }, (_, k) => {
        const at = (k >> 1) * dim;
        return axes[k & 1].reduce((sum, a, i) => sum + a * (latents[at + i] - mean[i]), 0);
      });
    },
    /** Return the latent vector at a point of the plane. @param {number} x @param {number} y */
    lift(x, y) {
      return Float32Array.from(mean, (m, i) => m + x * axes[0][i] + y * axes[1][i]);
    },
  };
}

/**
 * Find the largest eigenvector orthogonal to `others`, by power iteration from a fixed start.
 *
 * @param {Float64Array[]} matrix @param {Float64Array[]} others
 * @returns {[Float64Array, number]} the unit vector (zero if no variance remains) and its eigenvalue
 */
function largest(matrix, others) {
  let v = matrix[0].map((_, i) => Math.cos(i + 1 + others.length));
  let value = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const next = v.map((_, i) => matrix[i].reduce((sum, m, j) => sum + m * v[j], 0));
    for (const other of others) {
      const along = next.reduce((sum, x, i) => sum + x * other[i], 0);
      next.forEach((_, i) => (next[i] -= along * other[i]));
    }
    value = Math.hypot(...next);
    if (value < 1e-12) return [v.map(() => 0), 0];
    v = next.map((x) => x / value);
  }
  // Both signs are valid; making the largest number positive keeps the map reproducible.
  const top = v.reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best), 0);
  return [v.map((x) => x * Math.sign(top)), value];
}
