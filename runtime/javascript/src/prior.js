/** The prior that latents are sampled from. The samples are the same as in `vae_runtime/prior.py`. */

import { checkWhole, quoted } from "./arrays.js";
import { UsageError } from "./errors.js";
import { need, take } from "./json.js";
import { normals, quantile, unit, wordsOf } from "./rng.js";

const MIXTURES = ["gaussian", "gmm", "class_gmm"];
const KINDS = ["normal", "uniform", ...MIXTURES];
const LOW_RANK = ["center", "directions", "residual"];
const ARRAYS = ["low", "high", "weights", "mean", "cholesky", ...LOW_RANK];
export const MAX_SAMPLES = 1e6; // of one call
const MAX_DIMENSIONS = 65536;
const MAX_DIRECTIONS = 256;

/**
 * @typedef {object} PriorOptions
 * @property {number} [n]
 * @property {number | bigint | string} [seed] 0 to 2^64 - 1
 * @property {number | ArrayLike<number> | null} [label] one class index for all, n of them, or null for no label
 * @property {number} [temperature] scales the spread around each component's mean
 * @property {number | null} [truncation] redraw normals beyond ± this value
 * @property {number} [start] index of the first sample in the seed's endless sequence
 */

export class Prior {
  /**
   * @param {any} data as in the manifest
   * @throws {InputError} arrays that do not fit the kind, or each other
   */
  constructor(data) {
    this.kind = take(data, "kind", "string", "prior");
    this.latentDim = take(data, "latent_dim", "integer", "prior");
    const d = this.latentDim;
    need(KINDS.includes(this.kind) && d >= 1 && d <= MAX_DIMENSIONS, `prior: kind ${this.kind} of ${d} dimensions`);
    const mixes = MIXTURES.includes(this.kind);
    const given = ARRAYS.filter((name) => Object.hasOwn(data, name)).join();
    const lowRank = mixes && Object.hasOwn(data, "directions");
    const mixture = lowRank ? `weights,mean,cholesky,${LOW_RANK}` : "weights,mean,cholesky";
    const needed = mixes ? mixture : this.kind === "uniform" ? "low,high" : "";
    need(given === needed, `prior: ${this.kind} has the arrays ${given || "none"}, expected ${needed || "none"}`);
    /** Number of mixtures: classes + 1 for `class_gmm`, else 1. */
    this.rows = 1;
    this.components = 1;
    if (mixes) {
      need(Array.isArray(data.weights) && Array.isArray(data.weights[0]), "prior: weights is not a table");
      [this.rows, this.components] = [data.weights.length, data.weights[0].length];
    }
    /** K: the directions of a low-rank prior, else D. */
    this.coordinates = lowRank && Array.isArray(data.directions) ? data.directions.length : d;
    const [rows, m, k] = [this.rows, this.components, this.coordinates];
    this.low = numbers(data, "low", [d]);
    this.high = numbers(data, "high", [d]);
    this.weights = numbers(data, "weights", [rows, m]);
    this.mean = numbers(data, "mean", [rows, m, k]);
    this.cholesky = numbers(data, "cholesky", [rows, m, (k * (k + 1)) / 2]);
    this.center = numbers(data, "center", [d]);
    this.residual = numbers(data, "residual", [d]);
    const all = numbers(data, "directions", [k, d]);
    /** Orthonormal directions of a low-rank prior, each of D numbers; empty if it is not low-rank. */
    this.directions = lowRank ? Array.from({ length: k }, (_, i) => all.subarray(i * d, (i + 1) * d)) : [];
    this.#check();
  }

  /** N(0, I). @param {number} latentDim */
  static normal(latentDim) {
    return new Prior({ kind: "normal", latent_dim: latentDim });
  }

  #check() {
    const { kind, rows, components: m, weights } = this;
    need(this.low.every((a, i) => a <= this.high[i]), "prior: low is above high, expected low <= high");
    if (!MIXTURES.includes(kind)) return;
    this.#checkDirections();
    const fits = kind === "class_gmm" ? rows > 1 : rows === 1 && (m === 1 || kind === "gmm");
    need(fits && m > 0, `prior: ${rows} mixtures of ${m} components do not fit ${kind}`);
    for (let row = 0; row < rows; row += 1) {
      const share = weights.subarray(row * m, (row + 1) * m);
      const sum = share.reduce((a, b) => a + b, 0);
      need(
        share.every((w) => w >= 0) && Math.abs(sum - 1) <= 1e-3,
        "prior: expected weights of 0 or more that sum to 1 in each row",
      );
    }
  }

  #checkDirections() {
    const { directions, residual, latentDim: d } = this;
    if (!residual.length) return;
    const most = Math.min(MAX_DIRECTIONS, d);
    const fits = directions.length >= 1 && directions.length <= most && residual.every((r) => r >= 0);
    need(fits, `prior: ${directions.length} directions of ${d} dimensions, expected 1 to ${most}, with a residual of 0 or more`);
    const orthonormal = directions.every((a, i) =>
      directions.slice(i).every((b, j) => Math.abs(dot(a, b) - Number(j === 0)) <= 1e-3),
    );
    need(orthonormal, "prior: directions are not orthonormal");
  }

  /**
   * Sample latents `start` to `start + n` of the endless sequence of `seed`.
   *
   * @param {PriorOptions} options @returns {Float32Array} n × D
   * @throws {UsageError} a number out of range
   */
  sample({ n = 1, seed = 0, label = null, temperature = 1, truncation = null, start = 0 } = {}) {
    const key = checkOptions(n, seed, temperature, truncation, start);
    const d = this.latentDim;
    const latents = new Float32Array(n * d);
    wordsOf(key, start, n, d).forEach((words, i) => {
      latents.set(this.#one(words, this.#row(label, i, n), temperature, truncation), i * d);
    });
    return latents;
  }

  /**
   * The noise from which a sampler graph makes the latents that `sample` gives for the same options.
   *
   * @param {Omit<PriorOptions, "label">} options @returns {Float32Array} n × (D + 1)
   * @throws {UsageError} a number out of range
   */
  noise({ n = 1, seed = 0, temperature = 1, truncation = null, start = 0 } = {}) {
    const key = checkOptions(n, seed, temperature, truncation, start);
    const d = this.latentDim;
    const noise = new Float32Array(n * (d + 1));
    wordsOf(key, start, n, d).forEach((words, i) => {
      noise[i * (d + 1)] = quantile(unit(words[0]));
      const eps = this.kind === "uniform"
        ? Float64Array.from({ length: d }, (_, j) => quantile(0.5 + temperature * (unit(words[1 + j]) - 0.5)))
        : normals(words.subarray(1), d, truncation).map((value) => temperature * value);
      noise.set(eps, i * (d + 1) + 1);
    });
    return noise;
  }

  /**
   * The mean and standard deviation of each coordinate, for one class or for samples without a label.
   *
   * @param {number | null} label @returns {{mean: Float64Array, std: Float64Array}}
   */
  spread(label = null) {
    const k = this.coordinates;
    const [mean, std] = [new Float64Array(k), new Float64Array(k).fill(1)];
    for (let i = 0; i < k; i += 1) {
      if (this.kind === "uniform") {
        mean[i] = (this.low[i] + this.high[i]) / 2;
        std[i] = (this.high[i] - this.low[i]) / Math.sqrt(12);
      } else if (this.weights.length) {
        [mean[i], std[i]] = this.#moments(this.#row(label, 0, 1), i);
      }
    }
    return { mean, std };
  }

  /** A coordinate of latents z: along a direction of a low-rank prior, else z[index]. @param {ArrayLike<number>} z @param {number} index */
  coordinate(z, index) {
    const direction = this.directions[index];
    return direction ? direction.reduce((sum, value, i) => sum + value * (z[i] - this.center[i]), 0) : z[index];
  }

  /** Latents like z, with one coordinate set to a value. @param {Float32Array} z @param {number} index @param {number} to */
  move(z, index, to) {
    const direction = this.directions[index];
    if (!direction) return z.with(index, to);
    const step = to - this.coordinate(z, index);
    return z.map((value, i) => value + step * direction[i]);
  }

  /** @param {BigUint64Array} words @param {number} row @param {number} temperature @param {number | null} truncation */
  #one(words, row, temperature, truncation) {
    const { low, high, mean, cholesky, latentDim: d } = this;
    if (this.kind === "uniform") {
      return low.map((a, i) => (a + high[i]) / 2 + temperature * ((high[i] - a) / 2) * (2 * unit(words[1 + i]) - 1));
    }
    const eps = normals(words.subarray(1), d, truncation).map((value) => temperature * value);
    if (!this.weights.length) return eps;
    const component = this.#pick(row, unit(words[0]));
    const { directions, coordinates: k } = this;
    // The projection of standard normals and the rest of them are independent.
    const noise = directions.length ? Float64Array.from(directions, (direction) => dot(eps, direction)) : eps;
    const own = mean.slice(component * k, (component + 1) * k);
    for (let i = 0, at = component * ((k * (k + 1)) / 2); i < k; i += 1) {
      for (let j = 0; j <= i; j += 1, at += 1) own[i] += cholesky[at] * noise[j];
    }
    if (!directions.length) return own;
    const [lifted, rest] = [new Float64Array(d), eps.slice()];
    directions.forEach((direction, j) => {
      direction.forEach((value, i) => {
        lifted[i] += own[j] * value;
        rest[i] -= noise[j] * value;
      });
    });
    return lifted.map((value, i) => this.center[i] + value + this.residual[i] * rest[i]);
  }

  /**
   * The mixture of sample i of n; the last mixture is for samples without a label.
   *
   * @param {number | ArrayLike<number> | null} label @param {number} i @param {number} n
   */
  #row(label, i, n) {
    if (this.kind !== "class_gmm" || label === null) return this.rows - 1;
    if (typeof label !== "number" && label.length !== n) {
      throw new UsageError(`label: ${label.length} labels for ${n} latents`);
    }
    const row = typeof label === "number" ? label : label[i];
    if (!Number.isInteger(row) || row < 0 || row >= this.rows) {
      throw new UsageError(`label is ${row}, expected 0 to ${this.rows - 1}`);
    }
    return row;
  }

  /** The component of a row whose interval of [0, 1) contains u, as an index over all rows. @param {number} row @param {number} u */
  #pick(row, u) {
    const first = row * this.components;
    let total = 0;
    const sums = this.weights.subarray(first, first + this.components).map((w) => (total += w));
    // The manifest rounds the weights, so their sum is not exactly 1.
    return sums.reduce((component, sum) => component + Number(u >= sum / total), first);
  }

  /** The mean and standard deviation of coordinate i of a mixture. @param {number} row @param {number} i @returns {[number, number]} */
  #moments(row, i) {
    const { weights, mean, cholesky, coordinates: d } = this;
    const components = Array.from({ length: this.components }, (_, k) => row * this.components + k);
    const centre = components.reduce((sum, c) => sum + weights[c] * mean[c * d + i], 0);
    const variance = components.reduce((sum, c) => {
      const first = c * ((d * (d + 1)) / 2) + (i * (i + 1)) / 2; // row i of the factor; its squares sum to the variance
      const own = cholesky.subarray(first, first + i + 1).reduce((s, l) => s + l * l, 0);
      return sum + weights[c] * (own + (mean[c * d + i] - centre) ** 2);
    }, 0);
    return [centre, Math.sqrt(variance)];
  }
}

/**
 * @param {number} n @param {number | bigint | string} seed @param {number} temperature
 * @param {number | null} truncation @param {number} start @returns {bigint} the seed
 */
function checkOptions(n, seed, temperature, truncation, start) {
  checkWhole(n, "n", 0, MAX_SAMPLES);
  checkWhole(start, "start", 0, Number.MAX_SAFE_INTEGER);
  if (!(temperature >= 0 && temperature < Infinity)) {
    throw new UsageError(`temperature is ${quoted(temperature)}, expected a finite number, 0 or more`);
  }
  if (truncation !== null && !(truncation >= 0.1 && truncation < Infinity)) {
    throw new UsageError(`truncation is ${quoted(truncation)}, expected a number from 0.1 up`);
  }
  const plain = typeof seed === "number" ? Number.isSafeInteger(seed) : /^\d{1,20}$/.test(String(seed));
  if (!plain || BigInt(seed) < 0n || BigInt(seed) >> 64n) {
    throw new UsageError(`seed is ${seed}, expected a whole number from 0 to 2**64 - 1`);
  }
  return BigInt(seed);
}

/**
 * Flatten nested lists of finite numbers; an absent key gives an empty array.
 *
 * @param {any} data @param {string} name @param {number[]} shape @returns {Float64Array}
 */
function numbers(data, name, shape) {
  if (!Object.hasOwn(data, name)) return new Float64Array();
  need(hasShape(data[name], shape), `prior: ${name} must hold ${shape.join(" × ")} finite numbers`);
  return Float64Array.from(data[name].flat(shape.length - 1));
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}

/** @param {any} value @param {number[]} shape @returns {boolean} */
function hasShape(value, [length, ...rest]) {
  if (length === undefined) return Number.isFinite(value);
  return Array.isArray(value) && value.length === length && value.every((item) => hasShape(item, rest));
}
