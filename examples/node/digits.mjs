/** Sample images side by side: `node digits.mjs GRAPH.onnx OUT.pgm [--label 3] [--seed 0] [-n 8]`. */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { VaeError } from "./engine/errors.js";
import { Decoder } from "./vae.mjs";

const options = /** @type {const} */ ({
  label: { type: "string" },
  seed: { type: "string", default: "0" },
  n: { type: "string", short: "n", default: "8" },
});

async function main() {
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [graph, out] = positionals;
  if (!out) throw new VaeError("expected GRAPH.onnx OUT.pgm");
  const decoder = await Decoder.open(graph);
  const { channels, height, width, size } = decoder.spec.image;
  const n = Number(values.n);
  const images = await decoder.sample({ n, seed: values.seed, label: values.label ?? null });
  const pixels = Buffer.alloc(n * size);
  for (let i = 0; i < images.length; i += 1) {
    const [x, y] = [i % width, Math.floor(i / width) % height];
    const [plane, image] = [Math.floor((i % size) / (height * width)), Math.floor(i / size)];
    pixels[((y * n + image) * width + x) * channels + plane] = Math.round(images[i] * 255);
  }
  const header = `P${channels === 1 ? 5 : 6}\n${n * width} ${height}\n255\n`;
  await writeFile(out, Buffer.concat([Buffer.from(header), pixels]));
}

main().catch((error) => {
  console.error(`error: ${error.message.split("\n")[0]}`);
  process.exitCode = error.exitCode ?? 1;
});
