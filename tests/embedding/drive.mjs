// Decodes codes through the Node example, row by row, and prints the milliseconds of one decode.
//
//     node drive.mjs HELPER.mjs GRAPH.onnx CODES.f32 LABELS.i64 IMAGES.f32 [SEED LABEL DRAWN.f32]
//
// With a seed, 500 codes drawn with it are written too.
import { readFile, writeFile } from "node:fs/promises";

const RUNS = 200;
const [helper, graph, codes, labels, out, seed, label, drawn] = process.argv.slice(2);
const { Decoder } = await import(helper);
const decoder = await Decoder.open(graph);
const floats = async (path) => new Float32Array(new Uint8Array(await readFile(path)).buffer);
const z = await floats(codes);
const classes = new BigInt64Array(new Uint8Array(await readFile(labels)).buffer);
const { latentDim, classes: names } = decoder.card;

// In golden vectors the index behind the last class means "no label".
const named = (index) => (Number(index) === names.length ? null : Number(index));
const row = (i) => [z.slice(i * latentDim, (i + 1) * latentDim), named(classes[i])];

const images = [];
for (let i = 0; i < classes.length; i += 1) images.push(await decoder.decode(...row(i)));
await writeFile(out, Buffer.concat(images.map((image) => Buffer.from(image.buffer))));

if (seed !== undefined) {
  const many = decoder.sample({ n: 500, seed, label: label === "" ? null : label });
  await writeFile(drawn, Buffer.from(many.buffer));
}

const times = [];
for (let i = 0; i < RUNS; i += 1) {
  const start = performance.now();
  await decoder.decode(...row(0));
  times.push(performance.now() - start);
}
console.log(times.sort((a, b) => a - b)[RUNS / 2]);
