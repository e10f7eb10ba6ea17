/** Read a bundle's `manifest.json`: the model's spec, and the name, length and checksum of each file. */

import { sha256 } from "./bytes.js";
import { IntegrityError, LimitError } from "./errors.js";
import { isInteger, need, parseJson, take } from "./json.js";
import { checkFormat, expectedTensors, readSpec } from "./spec.js";

export const NAME = "manifest.json";
const MAX_BYTES = 64 * 2 ** 20;
const MAX_FILE = 2 ** 31;
const ROLES = ["encoder", "decoder", "conditional_decoder", "sampler"];
const VARIANTS = ["fp32", "fp16", "int8", "uint8"];
const PLAIN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;
const SHA256 = /^[0-9a-f]{64}$/;
// The manifest begins with this, 64 digits and `",`: the sha256 of everything after it.
const CHECKSUM = '{\n "sha256": "';
const CHECKSUM_SIZE = CHECKSUM.length + 66;

/**
 * @typedef {{file: string, bytes: number, sha256: string}} FileSpec
 * @typedef {import("./spec.js").TensorSpec} TensorSpec
 * @typedef {object} GraphSpec
 * @property {string} role encoder, decoder, conditional_decoder or sampler
 * @property {string} variant fp32 as exported, or another precision
 * @property {FileSpec} file
 * @property {TensorSpec[]} inputs
 * @property {TensorSpec[]} outputs
 * @typedef {object} Manifest
 * @property {import("./spec.js").ModelSpec} spec
 * @property {GraphSpec[]} graphs
 * @property {FileSpec} golden
 * @property {FileSpec} [normality] what is normal, for `detect`
 * @property {any} data the parsed JSON, with the information for people: training, parity, producer
 */

/**
 * @param {Uint8Array} raw @param {string} where begins every error message
 * @returns {Promise<Manifest>}
 * @throws {IntegrityError} the bytes differ from those that were written
 * @throws {LimitError} more than 64 MB
 * @throws {InputError} not JSON, or a value that is missing, wrong or contradicts another
 */
export async function readManifest(raw, where) {
  if (raw.length > MAX_BYTES) throw new LimitError(`${where}: over ${MAX_BYTES} bytes`);
  const checked = await verifyChecksum(raw, where);
  const data = parseJson(raw, where);
  checkFormat(take(data, "format", "string", where), where);
  if (!checked) {
    throw new IntegrityError(
      `${where}: damaged or edited: it does not begin with its own sha256. Copy or export the bundle again.`,
    );
  }
  const manifest = {
    spec: readSpec(data, where),
    graphs: take(data, "graphs", "array", where).map((/** @type {any} */ graph) => readGraph(graph, where)),
    golden: readFile(take(data, "golden", "object", where), where),
    normality: "normality" in data ? readFile(take(data, "normality", "object", where), where) : undefined,
    data,
  };
  for (const key of ["training", "parity", "producer"]) take(data, key, "object", where);
  if ("metrics" in data.training) take(data.training, "metrics", "object", `${where}: training`);
  take(data, "checkpoint_sha256", "string", where);
  check(manifest, where);
  return manifest;
}

/** Whether the bytes begin with their own sha256; a wrong one is an error. @param {Uint8Array} raw @param {string} where */
async function verifyChecksum(raw, where) {
  const begin = new TextDecoder("latin1").decode(raw.subarray(0, CHECKSUM_SIZE));
  if (!begin.startsWith(CHECKSUM)) return false;
  if (begin !== `${CHECKSUM}${await sha256(raw.subarray(CHECKSUM_SIZE))}",`) {
    throw new IntegrityError(
      `${where}: damaged or edited: its bytes do not match its own sha256. Copy or export the bundle again.`,
    );
  }
  return true;
}

/** @param {any} data @param {string} where @returns {FileSpec} */
function readFile(data, where) {
  const file = take(data, "file", "string", where);
  const bytes = take(data, "bytes", "integer", where);
  const digest = take(data, "sha256", "string", where);
  // A plain name, never a path.
  const sized = bytes >= 1 && bytes <= MAX_FILE;
  need(PLAIN.test(file) && SHA256.test(digest) && sized, `${where}: file '${file}': expected a plain name, size and sha256`);
  return { file, bytes, sha256: digest };
}

/** @param {any} data @param {string} where @returns {GraphSpec} */
function readGraph(data, where) {
  for (const key of ["opset", "ir"]) take(data, key, "integer", where);
  return {
    role: take(data, "role", "string", where),
    variant: take(data, "variant", "string", where),
    file: readFile(data, where),
    inputs: readTensors(data, "inputs", where),
    outputs: readTensors(data, "outputs", where),
  };
}

/** `check` compares them with the spec later. @param {any} data @param {string} side @param {string} where @returns {TensorSpec[]} */
function readTensors(data, side, where) {
  return take(data, side, "array", where).map((/** @type {any} */ tensor) => {
    const name = take(tensor, "name", "string", where);
    const shape = take(tensor, "shape", "array", where);
    const sized = shape.every((/** @type {any} */ _, /** @type {number} */ i) => i === 0 || isInteger(shape, i));
    need(sized, `${where}: tensor '${name}': expected integers in its shape`);
    return { name, dtype: take(tensor, "dtype", "string", where), shape };
  });
}

/** @param {Manifest} manifest @param {string} where */
function check({ spec, graphs, golden, normality }, where) {
  const names = [...graphs.map((graph) => graph.file.file), golden.file, NAME];
  if (normality) names.push(normality.file);
  const keys = graphs.map((graph) => `${graph.role} ${graph.variant}`);
  const once = new Set(names).size === names.length && new Set(keys).size === keys.length;
  need(once, `${where}: a file or a graph is listed twice`);
  const allowed = ROLES.filter((role) => spec.classes.length || role !== "conditional_decoder");
  for (const role of allowed) {
    need(role === "sampler" || keys.includes(`${role} fp32`), `${where}: no ${role} among its graphs`);
  }
  for (const { role, variant, file, inputs, outputs } of graphs) {
    need(allowed.includes(role), `${where}: graph role '${role}', expected ${allowed.join(", ")}`);
    const known = (role === "encoder" ? VARIANTS.slice(0, 1) : VARIANTS).includes(variant);
    const expected = JSON.stringify(expectedTensors(spec, role, variant, inputs.length > 1));
    const fits = known && JSON.stringify([inputs, outputs]) === expected;
    need(fits, `${where}: ${file.file}: its tensors do not fit the spec`);
  }
}
