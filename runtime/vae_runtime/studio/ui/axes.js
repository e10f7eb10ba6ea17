/** The two axes of the map: a plane through the codes, there and back. */

import { pca } from "../engine/index.js";
import { withDims } from "./store.js";

/**
 * @param cloud  { z: Float32Array[n·D], n }
 * @param plane  "pca", or "grid" for the two dimensions `dims`
 * @returns  { points: Float32Array[n·2], project(z) → [x, y], lift([x, y], z) → code at that place }.
 *   A place on the grid's plane keeps the other dimensions of z, one on the components' plane has the cloud's mean there.
 */
export function axesOf(cloud, plane, dims, dim) {
  if (plane === "pca" && dim > 1) {
    const fit = pca(cloud.z, dim);
    return {
      points: fit.project(cloud.z),
      project: (z) => [...fit.project(z)],
      lift: ([x, y]) => Float32Array.from(fit.lift(x, y)),
    };
  }
  const [across, up] = dims;
  const project = (z, at = 0) => [z[at + across], z[at + up]];
  const points = new Float32Array(2 * cloud.n);
  for (let i = 0; i < cloud.n; i++) points.set(project(cloud.z, i * dim), 2 * i);
  return { points, project, lift: ([x, y], z) => withDims(z, [up, y], [across, x]) };
}

/** What the map shows: the encoded test set where the page carries one, else draws of the prior. */
export function cloudOf(model, points) {
  if (points) {
    return { ...points, caption: `${points.n.toLocaleString("en")} encoded test images. Hover to decode, click to take.` };
  }
  const count = model.classes.length ? Math.ceil(600 / model.classes.length) : 600;
  const groups = model.classes.length ? [...model.classes.keys()] : [null];
  const n = count * groups.length;
  const z = new Float32Array(n * model.latentDim);
  groups.forEach((label, i) => z.set(model.sample({ n: count, seed: 1 + i, label }), i * count * model.latentDim));
  const labels = model.classes.length ? Int32Array.from({ length: n }, (_, i) => Math.floor(i / count)) : null;
  return { z, labels, n, caption: `${n} draws of the prior: this page carries no test set. Hover to decode, click to take.` };
}
