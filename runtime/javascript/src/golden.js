/** Compare this engine with the bundle's golden vectors: inputs and torch's outputs. */

import { need } from "./json.js";
import { readNpz } from "./npz.js";
import { expectedTensors } from "./spec.js";

// For float32 outputs; the error of a latent above 1 is relative. The golden vectors may hold a larger one.
export const TOLERANCE = 1e-5;
const MAX_TOLERANCE = 0.01;
/** @type {Record<string, number>} tolerances of the variants that round */
const LOSSY = { fp16: 0.02, int8: 0.25, uint8: 1.01 / 255 };

/**
 * @typedef {Map<string, import("./npz.js").NpyArray>} Golden `ROLE.in.NAME` and `ROLE.out.NAME`
 * @typedef {object} Match one output of one graph, compared with torch's
 * @property {string} file
 * @property {string} output
 * @property {number} rows number of golden vectors
 * @property {number} maxError the largest |ours - torch's| / max(1, |torch's|)
 * @property {number} tolerance
 * @property {boolean} exact whether the graph computes in float32
 */

/**
 * @param {import("./bundle.js").Bundle} bundle
 * @returns {Promise<Golden>} the arrays of every graph; all arrays of a graph have the same number of rows
 * @throws {InputError} arrays that are missing or do not fit the graphs
 */
export async function readGolden({ name, manifest, files }) {
  const { file } = manifest.golden;
  const arrays = await readNpz(/** @type {Uint8Array} */ (files.get(file)), `${name}/${file}`);
  for (const [key, { data }] of arrays) {
    const finite = !(data instanceof Float32Array) || data.every(Number.isFinite);
    need(data.length > 0 && finite, `${name}/${file}: ${key} is empty or not finite`);
    need(!(data instanceof Float64Array), `${name}/${file}: ${key} is float64, expected float32, int64 or uint8`);
  }
  const classes = BigInt(manifest.spec.classes.length); // also the index that means "no label"
  for (const { role, inputs } of manifest.graphs) {
    const sides = expectedTensors(manifest.spec, role, "fp32", inputs.length > 1);
    const rows = arrays.get(`${role}.in.${sides[0][0].name}`)?.shape[0];
    sides.forEach((tensors, side) => {
      for (const { name: tensor, dtype, shape } of tensors) {
        const key = `${role}.${side ? "out" : "in"}.${tensor}`;
        const found = arrays.get(key);
        need(found !== undefined, `${name}: the array ${key} is missing. Export again.`);
        const fits = dtypeOf(found?.data) === dtype && found?.shape.join() === [rows, ...shape.slice(1)].join();
        need(fits, `${name}/${file}: ${key} has another shape or type than its graph`);
        const allowed = arrays.get(`${role}.tolerance.${tensor}`);
        if (side && allowed !== undefined) {
          const [value] = allowed.data;
          const fits = dtypeOf(allowed.data) === "float32" && allowed.shape.join() === "1";
          need(fits && value > 0 && value <= MAX_TOLERANCE, `${name}/${file}: the tolerance of ${key} is wrong`);
        }
        if (tensor === "label") {
          const labels = /** @type {BigInt64Array} */ (found?.data);
          need(labels.every((label) => label >= 0n && label <= classes), `${name}/${file}: ${key} is out of range`);
        }
      }
    });
  }
  return arrays;
}

/** @param {any} data */
function dtypeOf(data) {
  return data instanceof Float32Array ? "float32" : data instanceof BigInt64Array ? "int64" : "uint8";
}

/**
 * Run a graph on its golden vectors and compare the outputs with torch's.
 *
 * @param {import("./graph.js").Graph} graph
 * @param {import("./manifest.js").GraphSpec} spec
 * @param {Golden} arrays
 * @returns {Promise<Match[]>} one per output
 */
export async function compareGraph(graph, { role, variant, file, inputs, outputs }, arrays) {
  const of = (/** @type {string} */ key) => /** @type {import("./npz.js").NpyArray} */ (arrays.get(`${role}.${key}`));
  const rows = inputs.map(({ name }) => [name, { data: of(`in.${name}`).data, row: of(`in.${name}`).shape.slice(1) }]);
  const found = await graph.run(of(`in.${inputs[0].name}`).shape[0], Object.fromEntries(rows));
  const exact = !(variant in LOSSY);
  return outputs.map(({ name: output }) => {
    const { data, shape } = of(`out.${output}`);
    need(found[output].length === data.length, `${graph.where}: ${output} has another shape than its golden vectors`);
    const stored = arrays.get(`${role}.tolerance.${output}`)?.data[0];
    const tolerance = LOSSY[variant] ?? Number(stored ?? TOLERANCE);
    const maxError = largestError(found[output], data);
    return { file: file.file, output, rows: shape[0], maxError, tolerance, exact };
  });
}

/** @param {any} ours @param {any} theirs @returns {number} Infinity if any is not finite */
function largestError(ours, theirs) {
  let worst = 0;
  for (let i = 0; i < theirs.length; i += 1) {
    const error = Math.abs(ours[i] - theirs[i]) / Math.max(1, Math.abs(theirs[i]));
    if (!(error < Infinity)) return Infinity;
    worst = Math.max(worst, error);
  }
  return worst;
}
