/**
 * Random numbers as a pure function of (seed, index): Philox-4x64-10 words (Salmon et al. 2011), and normals made
 * from them with the transform of Box and Muller (1958). The words equal those of `vae_runtime/rng.py`; the normals
 * may differ in the last bit of a double, because Math.log1p, sin and cos do.
 */

const MASK = (1n << 64n) - 1n;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const WEYL = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];
const ROUNDS = 10;
const EDGE = 2 ** -53; // the smallest probability whose quantile is finite on both sides
const MAX_REDRAWS = 64; // of a truncated normal, before it is clamped

/**
 * The words of n samples from index `start` on; the first word of each picks the component of a mixture.
 *
 * @param {bigint} seed @param {number} start @param {number} n @param {number} dim
 * @returns {BigUint64Array[]} n arrays
 */
export function wordsOf(seed, start, n, dim) {
  const blocks = Math.ceil((1 + dim + (dim % 2)) / 4);
  return Array.from({ length: n }, (_, i) => {
    const words = new BigUint64Array(blocks * 4);
    // NumPy increments the counter before it makes a block.
    const first = (BigInt(start) + BigInt(i)) * BigInt(blocks) + 1n;
    for (let b = 0; b < blocks; b += 1) words.set(philox(first + BigInt(b), seed), 4 * b);
    return words;
  });
}

/** @param {bigint} counter @param {bigint} key @returns {bigint[]} four words */
function philox(counter, key) {
  let [a, b, c, d] = [0n, 64n, 128n, 192n].map((shift) => (counter >> shift) & MASK);
  let [k, l] = [key, 0n];
  for (let round = 0; round < ROUNDS; round += 1) {
    const x = MULTIPLIERS[0] * a;
    const y = MULTIPLIERS[1] * c;
    [a, b, c, d] = [(y >> 64n) ^ b ^ k, y & MASK, (x >> 64n) ^ d ^ l, x & MASK];
    k = (k + WEYL[0]) & MASK;
    l = (l + WEYL[1]) & MASK;
  }
  return [a, b, c, d];
}

/** The top 53 bits of a word as a number in [0, 1). @param {bigint} word */
export function unit(word) {
  return Number(word >> 11n) * 2 ** -53;
}

/**
 * Standard normals of one sample; an odd `dim` reads dim + 1 words.
 *
 * @param {BigUint64Array} words @param {number} dim
 * @param {number | null} truncation redraw each number until it lies within ± this value
 * @returns {Float64Array}
 */
export function normals(words, dim, truncation) {
  const drawn = boxMuller(words, dim);
  if (truncation === null) return drawn;
  for (let attempt = 1; attempt <= MAX_REDRAWS; attempt += 1) {
    if (drawn.every((value) => Math.abs(value) <= truncation)) return drawn;
    const again = boxMuller(mix(words, attempt), dim);
    drawn.forEach((value, i) => {
      if (Math.abs(value) > truncation) drawn[i] = again[i];
    });
  }
  return drawn.map((value) => Math.min(truncation, Math.max(-truncation, value)));
}

/** @param {BigUint64Array} words @param {number} dim @returns {Float64Array} */
function boxMuller(words, dim) {
  const found = new Float64Array(dim);
  for (let i = 0; i < dim; i += 2) {
    const radius = Math.sqrt(-2 * Math.log1p(-unit(words[i])));
    const angle = 2 * Math.PI * unit(words[i + 1]);
    found[i] = radius * Math.cos(angle);
    if (i + 1 < dim) found[i + 1] = radius * Math.sin(angle);
  }
  return found;
}

/**
 * The finaliser of SplitMix64 (Steele et al. 2014) on words + attempt · golden ratio, for redraws.
 *
 * @param {BigUint64Array} words @param {number} attempt @returns {BigUint64Array}
 */
function mix(words, attempt) {
  return words.map((word) => {
    let x = (word + BigInt(attempt) * WEYL[0]) & MASK;
    x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
    return x ^ (x >> 31n);
  });
}

/**
 * The number below which a standard normal lies with probability p, to seven digits: algorithm AS 241 (Wichura 1988).
 * Outside (0, 1) it is that of the nearest p inside.
 *
 * @param {number} p @returns {number}
 */
export function quantile(p) {
  const q = Math.min(1 - EDGE, Math.max(EDGE, p)) - 0.5;
  if (Math.abs(q) <= 0.425) {
    return q * ratio(0.180625 - q * q, [3.3871327179, 50.434271938, 159.29113202, 59.10937472], [1, 17.895169469, 78.757757664, 67.1875636]);
  }
  const r = Math.sqrt(-Math.log(0.5 - Math.abs(q)));
  const tail = r <= 5
    ? ratio(r - 1.6, [1.4234372777, 2.75681539, 1.3067284816, 0.17023821103], [1, 0.7370016425, 0.12021132975])
    : ratio(r - 5, [6.657905115, 3.081226386, 0.42868294337, 0.017337203997], [1, 0.24197894225, 0.012258202635]);
  return Math.sign(q) * tail;
}

/** A ratio of polynomials, the constant coefficients first. @param {number} x @param {number[]} above @param {number[]} below */
function ratio(x, above, below) {
  const [p, q] = [above, below].map((coefficients) => coefficients.reduceRight((sum, c) => sum * x + c, 0));
  return p / q;
}

/** A random seed, short enough to write down. @returns {number} */
export function freshSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}
