/** `manifest.json` of a bundle: the card, and what is known of each file. */

import { checkFormat, readCard } from "./card.js";
import { sha256, utf8 } from "./digest.js";
import { InputError, IntegrityError, LimitError } from "./errors.js";
import { need, take } from "./schema.js";

export const NAME = "manifest.json";
const MOST_BYTES = 64 * 2 ** 20;
const ROLES = ["encoder", "decoder", "conditional_decoder"];
const VARIANTS = ["fp32", "fp16", "int8", "uint8"];
const DTYPES = ["float32", "int64", "uint8"];
const PLAIN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const STAMP = '{\n "sha256": "'; // 64 digits and `",` follow; the digest is over all behind them

/**
 * @typedef {{file: string, bytes: number, sha256: string}} FileSpec
 * @typedef {{name: string, dtype: string, shape: (number | string)[]}} TensorSpec
 * @typedef {object} GraphSpec
 * @property {string} role encoder, decoder or conditional_decoder
 * @property {string} variant fp32 as exported, or another precision
 * @property {FileSpec} file
 * @property {TensorSpec[]} inputs
 * @property {TensorSpec[]} outputs
 * @typedef {object} Manifest
 * @property {import("./card.js").Card} card
 * @property {GraphSpec[]} graphs
 * @property {FileSpec} golden
 * @property {any} data the JSON itself: training, parity, producer are free facts
 */

/**
 * @param {Uint8Array} raw @param {string} where begins every error message
 * @returns {Promise<Manifest>}
 * @throws {IntegrityError} its bytes are not those that were written
 * @throws {LimitError} over 64 MB
 * @throws {InputError} not JSON, or any value that is missing, wrong or contradicts another
 */
export async function readManifest(raw, where) {
  if (raw.length > MOST_BYTES) throw new LimitError(`${where}: over ${MOST_BYTES} bytes`);
  const stamped = await checkStamp(raw, where);
  const data = parse(raw, where);
  checkFormat(take(data, "format", "string", where), where);
  if (!stamped) {
    throw new IntegrityError(
      `${where}: damaged or edited: it does not begin with its own sha256. Copy or export the bundle again.`,
    );
  }
  const manifest = {
    card: readCard(data, where),
    graphs: take(data, "graphs", "array", where).map((/** @type {any} */ graph) => readGraph(graph, where)),
    golden: readFile(take(data, "golden", "object", where), where),
    data,
  };
  for (const key of ["training", "parity", "producer"]) take(data, key, "object", where);
  take(data, "checkpoint_sha256", "string", where);
  check(manifest, where);
  return manifest;
}

/** Whether it begins with its own sha256. @param {Uint8Array} raw @param {string} where */
async function checkStamp(raw, where) {
  const begin = new TextDecoder("latin1").decode(raw.subarray(0, STAMP.length + 66));
  if (!begin.startsWith(STAMP)) return false;
  const digest = await sha256(raw.subarray(STAMP.length + 66));
  if (begin !== `${STAMP}${digest}",`) {
    throw new IntegrityError(
      `${where}: damaged or edited: its bytes do not match its own sha256. Copy or export the bundle again.`,
    );
  }
  return true;
}

/** @param {Uint8Array} raw @param {string} where @returns {any} */
function parse(raw, where) {
  try {
    return JSON.parse(utf8(raw));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError || error instanceof RangeError)) throw error;
    throw new InputError(`${where}: not JSON. The bundle is damaged or was edited.`);
  }
}

/** @param {any} data @param {string} where @returns {FileSpec} */
function readFile(data, where) {
  const file = take(data, "file", "string", where);
  const bytes = take(data, "bytes", "integer", where);
  const digest = take(data, "sha256", "string", where);
  // A plain name, never a path.
  need(PLAIN.test(file) && DIGEST.test(digest) && bytes >= 1, `${where}: file '${file}': expected a plain name, size and sha256`);
  return { file, bytes, sha256: digest };
}

/** @param {any} data @param {string} where @returns {TensorSpec} */
function readTensor(data, where) {
  const name = take(data, "name", "string", where);
  const dtype = take(data, "dtype", "string", where);
  const shape = take(data, "shape", "array", where);
  const sizes = shape.slice(1).every((/** @type {any} */ n) => Number.isInteger(n) && n > 0);
  need(DTYPES.includes(dtype) && shape[0] === "batch" && sizes, `${where}: tensor '${name}': expected a dtype and [batch, …]`);
  return { name, dtype, shape };
}

/** @param {any} data @param {string} where @returns {GraphSpec} */
function readGraph(data, where) {
  const role = take(data, "role", "string", where);
  need(ROLES.includes(role), `${where}: graph role '${role}', expected one of ${ROLES.join(", ")}`);
  for (const key of ["opset", "ir"]) take(data, key, "integer", where);
  const tensors = (/** @type {string} */ side) =>
    take(data, side, "array", where).map((/** @type {any} */ tensor) => readTensor(tensor, where));
  return {
    role,
    variant: take(data, "variant", "string", where),
    file: readFile(data, where),
    inputs: tensors("inputs"),
    outputs: tensors("outputs"),
  };
}

/** @param {Manifest} manifest @param {string} where */
function check({ card, graphs, golden }, where) {
  const names = [...graphs.map((graph) => graph.file.file), golden.file, NAME];
  const keys = graphs.map((graph) => `${graph.role} ${graph.variant}`);
  const once = new Set(names).size === names.length && new Set(keys).size === keys.length;
  need(once, `${where}: a file or a graph is listed twice`);
  const needed = card.classes.length ? ROLES : ROLES.slice(0, 2);
  for (const role of needed) need(keys.includes(`${role} fp32`), `${where}: no ${role} among its graphs`);
  for (const graph of graphs) {
    need(needed.includes(graph.role), `${where}: a ${graph.role}, and no classes`);
    const labelled =
      graph.role === "conditional_decoder" ||
      (graph.role === "encoder" && card.classes.length > 0 && graph.inputs.length > 1);
    const known = (graph.role === "encoder" ? VARIANTS.slice(0, 1) : VARIANTS).includes(graph.variant);
    const expected = JSON.stringify(expectedTensors(card, graph.role, graph.variant, labelled));
    const fits = known && JSON.stringify([graph.inputs, graph.outputs]) === expected;
    need(fits, `${where}: ${graph.file.file}: its tensors do not fit the card`);
  }
}

/**
 * Inputs and outputs that a graph of this card must have, in order.
 *
 * @param {import("./card.js").Card} card
 * @param {string} role @param {string} variant @param {boolean} labelled
 * @returns {[TensorSpec[], TensorSpec[]]}
 */
export function expectedTensors(card, role, variant, labelled) {
  const encodes = role === "encoder";
  const { channels, height, width } = card.image;
  const dtype = variant === "uint8" && !encodes ? "uint8" : "float32";
  const image = { name: "image", dtype, shape: ["batch", channels, height, width] };
  const names = encodes && card.family !== "ae" ? ["mu", "log_var"] : ["z"];
  const codes = names.map((name) => ({ name, dtype: "float32", shape: ["batch", card.latentDim] }));
  const label = labelled ? [{ name: "label", dtype: "int64", shape: ["batch"] }] : [];
  return encodes ? [[image, ...label], codes] : [[...codes, ...label], [image]];
}
