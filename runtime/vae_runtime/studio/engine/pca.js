/** The two directions in which codes vary most, for a map of them. */

const ROUNDS = 200;

/**
 * @param {Float32Array} z n × D, n ≥ 1 @param {number} dim D
 * @returns principal axes, and the way to the plane and back
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
    /** Where codes m × D lie in the plane: m × 2. @param {Float32Array} codes */
    project(codes) {
      return Float32Array.from({ length: (codes.length / dim) * 2 }, (_, k) => {
        const at = (k >> 1) * dim;
        return axes[k & 1].reduce((sum, a, i) => sum + a * (codes[at + i] - mean[i]), 0);
      });
    },
    /** The code in the plane at a point. @param {number} x @param {number} y */
    lift(x, y) {
      return Float32Array.from(mean, (m, i) => m + x * axes[0][i] + y * axes[1][i]);
    },
  };
}

/**
 * The largest eigenvector that is orthogonal to `others`, by power iteration from a fixed start.
 *
 * @param {Float64Array[]} matrix @param {Float64Array[]} others
 * @returns {[Float64Array, number]} of length 1 (0 where nothing is left), and its eigenvalue
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
  // The sign is anyone's choice: the largest number is positive, so that a page looks the same again.
  const top = v.reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best), 0);
  return [v.map((x) => x * Math.sign(top)), value];
}
