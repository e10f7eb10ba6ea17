/** What a graph's constants ask for: sizes that would exhaust memory, and divisions by zero. */

import { DIVIDES, MAX_ELEMENTS, PICKS, SIZES } from "./ops.js";
import { INT32, INT64 } from "./tensors.js";
import { Malformed } from "./wire.js";

const MOST_STEPS = 1000; // nodes on the way to one size

/**
 * @typedef {import("./nodes.js").Node} Node
 * @typedef {Map<string, import("./tensors.js").Tensor>} Tensors
 */

/**
 * Check every constant that a size is made of. A size that depends on other sizes alone cannot be
 * bounded here; the sizes it starts from are.
 *
 * @param {Node[]} nodes @param {Tensors} tensors @throws {Malformed}
 */
export function checkPromises(nodes, tensors) {
  const makers = new Map(nodes.flatMap((node) => node.outputs.filter(Boolean).map((name) => [name, node])));
  for (const node of nodes) {
    for (const index of SIZES[node.op] ?? []) {
      if (node.inputs[index]) checkSize(node, constants(node.inputs[index], makers, tensors));
    }
    const divisor = DIVIDES.has(node.op) ? tensors.get(node.inputs[1]) : undefined;
    if (divisor && (divisor.kind === INT32 || divisor.kind === INT64) && divisor.values.includes(0)) {
      throw new Malformed(`${node.op} divides whole numbers by zero`);
    }
  }
}

/** @param {Node} node @param {import("./tensors.js").Tensor[]} found */
function checkSize(node, found) {
  let total = 1;
  for (const value of found.flatMap((constant) => constant.values)) {
    total *= Number.isNaN(value) ? Infinity : Math.max(1, Math.abs(value));
    if (!(total <= MAX_ELEMENTS)) throw new Malformed(`${node.op} asks for more than ${MAX_ELEMENTS} elements`);
  }
}

/**
 * The constants that a value is made of; behind a Shape stand sizes that are there already.
 *
 * @param {string} name @param {Map<string, Node>} makers @param {Tensors} tensors
 */
function constants(name, makers, tensors) {
  const [waiting, seen] = [[name], new Set([name])];
  const found = [];
  while (waiting.length) {
    const current = /** @type {string} */ (waiting.pop());
    const tensor = tensors.get(current);
    const node = makers.get(current);
    if (tensor) found.push(tensor);
    else if (node && node.op !== "Shape" && node.op !== "Size") {
      for (const source of PICKS.has(node.op) ? node.inputs.slice(0, 1) : node.inputs) {
        if (source && !seen.has(source)) {
          seen.add(source);
          waiting.push(source);
        }
      }
      if (seen.size > MOST_STEPS) throw new Malformed("a size is computed in too many steps");
    }
  }
  return found;
}
