/** The distribution that `sample` draws codes from; the same codes as `vae_runtime/prior.py`. */

import { normals, unit, wordsOf } from "./counter.js";
import { UsageError } from "./errors.js";
import { need, take } from "./schema.js";

const MIXTURES = ["gaussian", "gmm", "class_gmm"];
const KINDS = ["normal", "uniform", ...MIXTURES];
const ARRAYS = ["low", "high", "weights", "mean", "cholesky"];
const MOST_DIMENSIONS = 65536;

/**
 * @typedef {object} Draw
 * @property {number} [n]
 * @property {number | bigint | string} [seed] 0 to 2^64 - 1
 * @property {number | ArrayLike<number> | null} [label] a class for all, or n of them; null: none
 * @property {number} [temperature] scales the spread around each component's mean
 * @property {number | null} [truncation] redraws normals beyond ± this
 * @property {number} [start] index of the first code in the seed's endless sequence
 */

export class Prior {
  /** @param {any} data as in the manifest @throws {InputError} arrays that do not fit */
  constructor(data) {
    this.kind = take(data, "kind", "string", "prior");
    this.latentDim = take(data, "latent_dim", "integer", "prior");
    const d = this.latentDim;
    need(KINDS.includes(this.kind) && d >= 1 && d <= MOST_DIMENSIONS, `prior: kind ${this.kind} of ${d} dimensions`);
    const given = ARRAYS.filter((name) => Object.hasOwn(data, name));
    const needed = MIXTURES.includes(this.kind) ? ARRAYS.slice(2) : this.kind === "uniform" ? ARRAYS.slice(0, 2) : [];
    need(given.join() === needed.join(), `prior: ${this.kind} has the arrays ${given.join() || "none"}`);
    /** @type {Float64Array | null} */ this.low = null;
    /** @type {Float64Array | null} */ this.high = null;
    /** @type {{weights: Float64Array, mean: Float64Array[], cholesky: Float64Array[]}[]} */
    this.mixtures = [];
    if (this.kind === "uniform") this.#readBox(data);
    if (needed.length === 3) this.#readMixtures(data);
  }

  /** N(0, I). @param {number} latentDim */
  static normal(latentDim) {
    return new Prior({ kind: "normal", latent_dim: latentDim });
  }

  /** How many mixtures there are: classes + 1 for `class_gmm`, else 1. */
  get rows() {
    return this.mixtures.length || 1;
  }

  /**
   * Codes `start` to `start + n` of the endless sequence that belongs to `seed`.
   *
   * @param {Draw} draw @returns {Float32Array} n × D
   * @throws {UsageError} a number outside its range
   */
  sample({ n = 1, seed = 0, label = null, temperature = 1, truncation = null, start = 0 } = {}) {
    const key = checkDraw(n, seed, temperature, truncation, start);
    const d = this.latentDim;
    const codes = new Float32Array(n * d);
    wordsOf(key, start, n, d).forEach((words, i) => {
      const z = this.#one(words, this.#row(label, i, n), temperature, truncation);
      codes.set(z, i * d);
    });
    return codes;
  }

  /**
   * Mean and standard deviation of each dimension, of a class or of all codes.
   *
   * @param {number | null} label @returns {{mean: Float64Array, std: Float64Array}}
   */
  spread(label = null) {
    const d = this.latentDim;
    const [mean, std] = [new Float64Array(d), new Float64Array(d).fill(1)];
    const { low, high } = this;
    if (low && high) {
      mean.forEach((_, i) => {
        mean[i] = (low[i] + high[i]) / 2;
        std[i] = (high[i] - low[i]) / Math.sqrt(12);
      });
    } else if (this.mixtures.length) {
      const mixture = this.mixtures[this.#row(label, 0, 1)];
      for (let i = 0; i < d; i += 1) [mean[i], std[i]] = moments(mixture, i);
    }
    return { mean, std };
  }

  /** @param {BigUint64Array} words @param {number} row @param {number} temperature @param {number | null} truncation */
  #one(words, row, temperature, truncation) {
    const { low, high, latentDim: d } = this;
    if (low && high) {
      return low.map((a, i) => (a + high[i]) / 2 + temperature * ((high[i] - a) / 2) * (2 * unit(words[1 + i]) - 1));
    }
    const eps = normals(words.subarray(1), d, truncation).map((value) => temperature * value);
    if (!this.mixtures.length) return eps;
    const { weights, mean, cholesky } = this.mixtures[row];
    const component = pick(weights, unit(words[0]));
    const z = mean[component].slice();
    const factor = cholesky[component];
    for (let i = 0, at = 0; i < d; i += 1) {
      for (let j = 0; j <= i; j += 1, at += 1) z[i] += factor[at] * eps[j];
    }
    return z;
  }

  /** The mixture of code i of n; the last one describes codes without a label. */
  /** @param {number | ArrayLike<number> | null} label @param {number} i @param {number} n */
  #row(label, i, n) {
    if (this.kind !== "class_gmm" || label === null) return this.rows - 1;
    if (typeof label !== "number" && label.length !== n) {
      throw new UsageError(`label: ${label.length} labels for ${n} codes`);
    }
    const row = typeof label === "number" ? label : label[i];
    if (!Number.isInteger(row) || row < 0 || row >= this.rows) {
      throw new UsageError(`label is ${row}, expected 0 to ${this.rows - 1}`);
    }
    return row;
  }

  /** @param {any} data */
  #readBox(data) {
    const low = numbers("low", data.low, this.latentDim);
    const high = numbers("high", data.high, this.latentDim);
    need(low.every((a, i) => a <= high[i]), "prior: low must not be above high");
    [this.low, this.high] = [low, high];
  }

  /** @param {any} data */
  #readMixtures(data) {
    const d = this.latentDim;
    const { weights, mean, cholesky } = data;
    need(Array.isArray(weights) && Array.isArray(weights[0]), "prior: weights is no table");
    const [rows, m] = [weights.length, weights[0].length];
    const fits = this.kind === "class_gmm" ? rows > 1 : rows === 1 && (m === 1 || this.kind === "gmm");
    need(fits && m > 0, `prior: ${this.kind} with ${rows} mixtures of ${m} components`);
    list("mean", mean, rows);
    list("cholesky", cholesky, rows);
    this.mixtures = weights.map((/** @type {any} */ row, /** @type {number} */ r) => {
      const share = numbers("weights", row, m);
      const sum = share.reduce((a, b) => a + b, 0);
      need(share.every((w) => w >= 0) && Math.abs(sum - 1) <= 1e-3, "prior: weights must not be negative, and sum to 1 in each row");
      return {
        weights: share,
        mean: list("mean", mean[r], m).map((v) => numbers("mean", v, d)),
        cholesky: list("cholesky", cholesky[r], m).map((v) => numbers("cholesky", v, (d * (d + 1)) / 2)),
      };
    });
  }
}

/** The component whose share of [0, 1) holds u. @param {Float64Array} weights @param {number} u */
function pick(weights, u) {
  let total = 0;
  const sums = weights.map((w) => (total += w)); // rounded in the manifest: the last is not quite 1
  return sums.reduce((count, sum) => count + Number(u >= sum / total), 0);
}

/**
 * Mean and standard deviation of dimension i of a mixture.
 *
 * @param {{weights: Float64Array, mean: Float64Array[], cholesky: Float64Array[]}} mixture
 * @param {number} i @returns {[number, number]}
 */
function moments({ weights, mean, cholesky }, i) {
  const centre = weights.reduce((sum, w, m) => sum + w * mean[m][i], 0);
  const first = (i * (i + 1)) / 2; // row i of the packed factor: its squares sum to the variance
  const variance = weights.reduce((sum, w, m) => {
    const own = cholesky[m].subarray(first, first + i + 1).reduce((s, l) => s + l * l, 0);
    return sum + w * (own + (mean[m][i] - centre) ** 2);
  }, 0);
  return [centre, Math.sqrt(variance)];
}

/**
 * @param {number} n @param {number | bigint | string} seed @param {number} temperature
 * @param {number | null} truncation @param {number} start @returns {bigint} the seed
 */
function checkDraw(n, seed, temperature, truncation, start) {
  if (!Number.isInteger(n) || n < 0 || n > 1e6) throw new UsageError(`n is ${n}, expected 0 to 1000000`);
  if (!Number.isSafeInteger(start) || start < 0) throw new UsageError(`start is ${start}, expected 0 or more`);
  if (!(temperature >= 0 && temperature < Infinity)) {
    throw new UsageError(`temperature is ${temperature}, expected a finite number, 0 or more`);
  }
  if (truncation !== null && !(truncation >= 0.1 && truncation < Infinity)) {
    throw new UsageError(`truncation is ${truncation}, expected a number from 0.1 up`);
  }
  const plain = typeof seed === "number" ? Number.isSafeInteger(seed) : /^\d{1,20}$/.test(String(seed));
  if (!plain || BigInt(seed) < 0n || BigInt(seed) >> 64n) {
    throw new UsageError(`seed is ${seed}, expected a whole number from 0 to 2**64 - 1`);
  }
  return BigInt(seed);
}

/** @param {string} name @param {any} value @param {number} length @returns {any[]} */
function list(name, value, length) {
  need(Array.isArray(value) && value.length === length, `prior: ${name} does not have ${length} entries`);
  return value;
}

/** @param {string} name @param {any} value @param {number} length @returns {Float64Array} */
function numbers(name, value, length) {
  const found = list(name, value, length);
  need(found.every(Number.isFinite), `prior: ${name} must hold finite numbers only`);
  return Float64Array.from(found);
}
