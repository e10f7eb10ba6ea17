/** One node of a graph: an allowed operator, with attributes that cannot hurt. */

import { ALLOWED, BOUNDS, ITEM_SIZES, OTHER } from "./ops.js";
import { INT64, readTensor } from "./tensors.js";
import { BYTES, FIXED32, integer, integers, Malformed, many, message, one, parts, text, VARINT } from "./wire.js";

const MOST_ENDS = 4096; // inputs or outputs of one node
const MOST_NUMBERS = 256; // of one attribute
const NODE = {
  1: many(BYTES), // input
  2: many(BYTES), // output
  3: one(BYTES), // name
  4: one(BYTES), // op_type
  5: many(BYTES), // attribute
  6: one(BYTES), // doc_string
  7: one(BYTES), // domain
  9: many(BYTES), // metadata_props
};
const ATTRIBUTE = {
  1: one(BYTES), // name
  2: one(FIXED32), // f
  3: one(VARINT), // i
  4: one(BYTES), // s
  5: one(BYTES), // t
  6: one(BYTES), // g
  7: many(FIXED32, BYTES), // floats
  8: many(VARINT, BYTES), // ints
  9: many(BYTES), // strings
  11: many(BYTES), // graphs
  13: one(BYTES), // doc_string
  20: one(VARINT), // type
};
const NUMBERS = [[3, 2], [8, 7]]; // i, ints: what `type` must then be

/**
 * @typedef {object} Node an operator, the names it reads and makes, its value if it is a constant
 * @property {string} op
 * @property {string[]} inputs
 * @property {string[]} outputs
 * @property {import("./tensors.js").Tensor | null} value
 */

/** @param {Uint8Array} data @returns {Node} @throws {Malformed} */
export function readNode(data) {
  const found = message(data, NODE, "a node");
  const [op, domain] = [text(found, 4), text(found, 7)];
  if (domain !== "" && domain !== "ai.onnx") throw new Malformed(`an operator of the custom domain '${domain.slice(0, 80)}'`);
  if (!ALLOWED.has(op)) throw new Malformed(`the operator '${op.slice(0, 80)}' is not allowed`);
  const [inputs, outputs] = [1, 2].map((side) => parts(found, side).map((name) => new TextDecoder().decode(name)));
  if (!outputs.length || Math.max(inputs.length, outputs.length) > MOST_ENDS) {
    throw new Malformed(`${op} has no outputs, or too many`);
  }
  const names = new Set();
  let value = null;
  for (const part of parts(found, 5)) {
    const attribute = message(part, ATTRIBUTE, `an attribute of ${op}`);
    const name = text(attribute, 1);
    if (names.has(name)) throw new Malformed(`${op} has the attribute '${name.slice(0, 80)}' twice`);
    names.add(name);
    value = checkAttribute(attribute, name, `${op}.${name.slice(0, 80)}`) ?? value;
  }
  if (value && op !== "Constant" && op !== "ConstantOfShape") throw new Malformed(`${op} holds a tensor`);
  return { op, inputs, outputs, value: op === "Constant" ? value : null };
}

/**
 * Check the numbers of one attribute; its tensor, or its numbers as one, if it has any.
 *
 * @param {import("./wire.js").Message} found @param {string} name @param {string} shown
 * @returns {import("./tensors.js").Tensor | null}
 */
function checkAttribute(found, name, shown) {
  if (found.has(6) || found.has(11)) throw new Malformed(`${shown} holds a graph of its own`);
  if (Math.max(parts(found, 7).length, parts(found, 9).length) > MOST_NUMBERS) throw new Malformed(`${shown} is too long`);
  for (const [number, type] of NUMBERS) {
    if (!found.has(number)) continue;
    const [low, high] = BOUNDS.get(name) ?? OTHER;
    const values = integers(found, number, MOST_NUMBERS).map(Number);
    const wrong = values.find((value) => !(value >= low && value <= high));
    if (wrong !== undefined) throw new Malformed(`${shown} is ${wrong}, expected ${low} to ${high}`);
    if (integer(found, 20, BigInt(type)) !== BigInt(type)) throw new Malformed(`${shown} is of another type than it says`);
    if (name === "to" && !values.every((kind) => ITEM_SIZES[kind])) {
      throw new Malformed(`${shown} is ${values}, an element type that is not allowed`);
    }
    if (name === "value_int" || name === "value_ints") return { name, kind: INT64, values };
  }
  return found.has(5) ? readTensor(parts(found, 5)[0]) : null;
}
