/** The structure of an ONNX file against what a graph of a bundle may hold. */

import { InputError } from "../errors.js";
import { readNode } from "./nodes.js";
import { ITEM_SIZES, MAX_ELEMENTS } from "./ops.js";
import { checkPromises } from "./promise.js";
import { readTensor } from "./tensors.js";
import { BYTES, integer, Malformed, many, message, one, parts, text, VARINT } from "./wire.js";

const MOST_NODES = 20_000;
const MODEL = {
  1: one(VARINT), // ir_version
  2: one(BYTES), // producer_name
  3: one(BYTES), // producer_version
  4: one(BYTES), // domain
  5: one(VARINT), // model_version
  6: one(BYTES), // doc_string
  7: one(BYTES), // graph
  8: many(BYTES), // opset_import
  14: many(BYTES), // metadata_props
  20: many(BYTES), // training_info
  25: many(BYTES), // functions
};
const OPSET = { 1: one(BYTES), 2: one(VARINT) };
const ENTRY = { 1: one(BYTES), 2: one(BYTES) };
const GRAPH = {
  1: many(BYTES), // node
  2: one(BYTES), // name
  5: many(BYTES), // initializer
  10: one(BYTES), // doc_string
  11: many(BYTES), // input
  12: many(BYTES), // output
  13: many(BYTES), // value_info
  15: many(BYTES), // sparse_initializer
  16: many(BYTES), // metadata_props
};
const VALUE = { 1: one(BYTES), 2: one(BYTES), 3: one(BYTES), 4: many(BYTES) };
const TYPE = { 1: one(BYTES), 6: one(BYTES) }; // tensors alone: no sequence, map or optional
const TENSOR_TYPE = { 1: one(VARINT), 2: one(BYTES) };
const SHAPE = { 1: many(BYTES) };
const DIM = { 1: one(VARINT), 2: one(BYTES), 3: one(BYTES) };

/**
 * Read the bytes of an `.onnx` file before onnxruntime sees them; nothing is run or allocated.
 *
 * @param {Uint8Array} raw @param {string} where begins the error message
 * @returns {Map<string, string>} the file's text properties, which onnxruntime-web does not give
 * @throws {InputError} not ONNX, or it holds what no graph of a bundle needs: sub-graphs, functions,
 *     custom operators, tensors outside the file, numbers that crash or exhaust onnxruntime
 */
export function checkGraph(raw, where) {
  try {
    return readModel(raw);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new InputError(`${where}: refused: ${error.message}. Expected what vae-export writes.`);
  }
}

/** @param {Uint8Array} raw */
function readModel(raw) {
  const model = message(raw, MODEL, "the model");
  if (model.has(20)) throw new Malformed("the model holds training information");
  if (model.has(25)) throw new Malformed("the model holds functions");
  if (!model.has(7) || !model.has(8)) throw new Malformed("not ONNX: no graph, or no operator set");
  for (const part of parts(model, 8)) {
    const domain = text(message(part, OPSET, "an operator set"), 1);
    if (domain !== "" && domain !== "ai.onnx") throw new Malformed(`operators of the custom domain '${domain.slice(0, 80)}'`);
  }
  const version = integer(model, 1);
  if (version < 3n || version > 100n) throw new Malformed(`not ONNX: IR version ${version}`);
  checkParts(message(parts(model, 7)[0], GRAPH, "the graph"));
  const properties = new Map();
  for (const part of parts(model, 14)) {
    const entry = message(part, ENTRY, "the metadata");
    const key = text(entry, 1);
    if (properties.has(key)) throw new Malformed(`the metadata holds '${key.slice(0, 80)}' twice`);
    properties.set(key, text(entry, 2));
  }
  return properties;
}

/** @param {import("./wire.js").Message} graph */
function checkParts(graph) {
  if (graph.has(15)) throw new Malformed("the graph holds sparse tensors");
  if (Math.max(parts(graph, 1).length, parts(graph, 5).length) > MOST_NODES) {
    throw new Malformed(`the graph holds more than ${MOST_NODES} nodes or tensors`);
  }
  const tensors = new Map();
  for (const tensor of parts(graph, 5).map(readTensor)) {
    if (tensors.has(tensor.name)) throw new Malformed(`two tensors of the name '${tensor.name.slice(0, 80)}'`);
    tensors.set(tensor.name, tensor);
  }
  for (const number of [11, 12, 13]) parts(graph, number).forEach(checkValue);
  const nodes = parts(graph, 1).map(readNode);
  for (const node of nodes) if (node.value) tensors.set(node.outputs[0], node.value);
  checkPromises(nodes, tensors);
}

/** An input or output: a tensor of a plain type, its sizes within reason. @param {Uint8Array} data */
function checkValue(data) {
  const value = message(data, VALUE, "an input or output");
  const name = text(value, 1).slice(0, 80);
  if (!value.has(2)) return;
  const kind = message(parts(value, 2)[0], TYPE, `the type of '${name}'`);
  if (!kind.has(1)) throw new Malformed(`'${name}' is no tensor`);
  const tensor = message(parts(kind, 1)[0], TENSOR_TYPE, `the type of '${name}'`);
  const element = Number(integer(tensor, 1));
  if (!ITEM_SIZES[element]) throw new Malformed(`'${name}' has the element type ${element}`);
  let total = 1;
  for (const part of parts(tensor, 2).flatMap((shape) => parts(message(shape, SHAPE, `the shape of '${name}'`), 1))) {
    const size = Number(integer(message(part, DIM, `the shape of '${name}'`), 1));
    total *= Math.max(size, 1);
    if (size < 0 || total > MAX_ELEMENTS) throw new Malformed(`'${name}' has impossible sizes`);
  }
}
