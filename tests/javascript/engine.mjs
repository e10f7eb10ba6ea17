/**
 * Runs the package under Node for the tests: reads a list of jobs as JSON from standard input, and writes the
 * list of their results to standard output.
 */

import { readFileSync } from "node:fs";
import { load, Sampler } from "../../runtime/javascript/src/index.js";
import { parseJson } from "../../runtime/javascript/src/json.js";
import { interpolation } from "../../runtime/javascript/src/latents.js";
import { pca } from "../../runtime/vae_runtime/studio/ui/pca.js";

const list = (array) => (array === null ? null : Array.from(array));

const jobs = {
  open: (model) => model.id,
  sample: async (model, { options }) => list(await model.sample(options)),
  latents: (model, { options }) => list(model.sampleLatents(options)),
  spread: (model, { label }) => Object.values(model.prior.spread(label)).map(list),
  move: (model, { index, to }) => {
    const moved = model.prior.move(model.sampleLatents({ seed: 0 }), index, to);
    return [...moved, model.prior.coordinate(moved, index)];
  },
  golden: (model) => model.golden({ variants: true }),
  activity: async (model) => {
    const { order, effect, active } = await model.activity();
    return { order: list(order), effect: list(effect), active };
  },
  traverse: async (model, { dim, options }) => list(await model.traverse(dim, options)),
  morph: async (model, { a, b, options }) => list(await model.interpolate(Float32Array.from(a), Float32Array.from(b), options)),
  reconstruct: async (model, { n, label }) => list(await model.reconstruct((await model.examples()).images.slice(0, n * model.image.size), label)),
  decode: async (model, { z, label }) => list(await model.decode(Float32Array.from(z), label)),
  encode: async (model, { n }) => {
    const { images, labels } = await model.examples();
    const part = images.slice(0, n * model.image.size);
    const { mu, logVar } = await model.posterior(part, labels && labels.slice(0, n));
    return { mu: list(mu), logVar: list(logVar) };
  },
  detect: async (model, { images, falseAlarms }) => {
    const found = await model.detect(Float32Array.from(images), { falseAlarms });
    return { ...found, scores: list(found.scores), rarity: list(found.rarity), maps: list(found.maps) };
  },
  score: async (model, { n, samples, seed }) => {
    const { images, labels } = await model.examples();
    const part = images.slice(0, n * model.image.size);
    const found = await model.score(part, { label: labels && labels.slice(0, n), samples, seed });
    return Object.values(found).map(list);
  },
};
const plain = {
  json: ({ text }) => parseJson(text, "x.json"),
  interpolate: ({ a, b, steps, how }) => list(interpolation(Float32Array.from(a), Float32Array.from(b), steps, how)),
  pca: ({ z, dim }) => {
    const found = pca(Float32Array.from(z), dim);
    const plane = found.project(Float32Array.from(z));
    return { variance: found.variance, plane: list(plane), lifted: list(found.lift(plane[0], plane[1])) };
  },
};

/** Run one job; return its result, or the name and message of the error. */
async function work({ job, bundle, name, ...rest }) {
  let model = null;
  try {
    if (plain[job]) return { result: plain[job](rest) };
    model = await load(bundle, { name: name ?? "b" });
    return { result: await jobs[job](model, rest) };
  } catch (error) {
    return { error: error.name, message: error.message };
  } finally {
    await model?.close();
  }
}

const results = [];
for (const job of JSON.parse(readFileSync(0, "utf8"))) results.push(await work(job));
process.stdout.write(JSON.stringify(results));
