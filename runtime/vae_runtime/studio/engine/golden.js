/** Golden vectors: torch's own outputs in the bundle, beside what this engine computes. */

import { need } from "./schema.js";
import { readNpz } from "./npz.js";

export const TOLERANCE = 1e-5; // float32; a code's error is taken relative to its size above 1
/** @type {Record<string, number>} what the other variants may cost at most */
const LOSSY = { fp16: 0.02, int8: 0.25, uint8: 1.01 / 255 };

/**
 * @typedef {object} Match one output of one graph beside torch's
 * @property {string} file
 * @property {string} output
 * @property {number} rows golden vectors compared
 * @property {number} maxError the largest |ours - torch's| / max(1, |torch's|)
 * @property {number} tolerance
 */

/**
 * The arrays of `golden.npz`: `ROLE.in.NAME` and `ROLE.out.NAME`.
 *
 * @param {import("./bundle.js").Bundle} bundle
 * @returns {Map<string, import("./npz.js").NpyArray>}
 */
export function readGolden({ name, manifest, files }) {
  const { file } = manifest.golden;
  const arrays = readNpz(/** @type {Uint8Array} */ (files.get(file)), `${name}/${file}`);
  for (const [key, { data }] of arrays) {
    const finite = data instanceof BigInt64Array || data.every(Number.isFinite);
    need(data.length > 0 && finite, `${name}: golden vectors ${key} are none or not finite`);
  }
  return arrays;
}

/**
 * @param {import("./graph.js").Graph} graph
 * @param {import("./manifest.js").GraphSpec} spec
 * @param {Map<string, import("./npz.js").NpyArray>} arrays
 * @returns {Promise<Match[]>} one for each output
 * @throws {InputError} golden vectors that are missing or do not fit
 */
export async function compareGraph(graph, spec, arrays) {
  const of = (/** @type {string} */ side, /** @type {string} */ name) => {
    const found = arrays.get(`${spec.role}.${side}.${name}`);
    need(found !== undefined, `${graph.where}: no golden vectors ${spec.role}.${side}.${name}. Export it again.`);
    return /** @type {import("./npz.js").NpyArray} */ (found);
  };
  const inputs = Object.fromEntries(spec.inputs.map(({ name }) => [name, of("in", name)]));
  const expected = spec.outputs.map(({ name }) => /** @type {const} */ ([name, of("out", name)]));
  const found = await graph.run(inputs);
  return expected.map(([output, { data, shape }]) => {
    need(found[output].length === data.length, `${graph.where}: ${output} has another shape than its golden vectors`);
    const tolerance = LOSSY[spec.variant] ?? TOLERANCE;
    const maxError = largestError(found[output], data);
    return { file: spec.file.file, output, rows: shape[0], maxError, tolerance };
  });
}

/** @param {any} ours @param {any} theirs @returns {number} Infinity where a number is not finite */
function largestError(ours, theirs) {
  const scale = ours instanceof Uint8Array && !(theirs instanceof Uint8Array) ? 255 : 1;
  let worst = 0;
  for (let i = 0; i < theirs.length; i += 1) {
    const error = Math.abs(ours[i] / scale - theirs[i]) / Math.max(1, Math.abs(theirs[i]));
    if (!(error < Infinity)) return Infinity;
    worst = Math.max(worst, error);
  }
  return worst;
}
