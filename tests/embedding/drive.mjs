// Decodes latents through the npm package, row by row, and prints the milliseconds of one decode.
//
//     node drive.mjs GRAPH.onnx LATENTS.f32 LABELS.i64 IMAGES.f32 [SEED LABEL SAMPLED.f32]
//
// With a seed, it also writes 500 latents sampled with that seed.
import { readFile, writeFile } from "node:fs/promises";
import { Decoder } from "vae-onnx";

const RUNS = 200;
const [graph, latents, labels, out, seed, label, sampled] = process.argv.slice(2);
const decoder = await Decoder.load(graph);
const floats = async (path) => new Float32Array(new Uint8Array(await readFile(path)).buffer);
const z = await floats(latents);
const classes = new BigInt64Array(new Uint8Array(await readFile(labels)).buffer);
const { latentDim, classes: names } = decoder.spec;

// In golden vectors the index after the last class means "no label".
const named = (index) => (Number(index) === names.length ? null : Number(index));
const row = (i) => [z.slice(i * latentDim, (i + 1) * latentDim), named(classes[i])];

const images = [];
for (let i = 0; i < classes.length; i += 1) images.push(await decoder.decode(...row(i)));
await writeFile(out, Buffer.concat(images.map((image) => Buffer.from(image.buffer))));

if (seed !== undefined) {
  const many = decoder.sampleLatents({ n: 500, seed, label: label === "" ? null : label });
  await writeFile(sampled, Buffer.from(many.buffer));
}

const times = [];
for (let i = 0; i < RUNS; i += 1) {
  const start = performance.now();
  await decoder.decode(...row(0));
  times.push(performance.now() - start);
}
console.log(times.sort((a, b) => a - b)[RUNS / 2]);
