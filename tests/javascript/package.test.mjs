/** The package under Node: every kind of source, single graphs, pictures and errors. */

import assert from "node:assert/strict";
import { mkdtempSync, openAsBlob, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { inflateSync } from "node:zlib";
import * as vae from "../../runtime/javascript/src/index.js";
import { readDirectory } from "../../runtime/javascript/src/zip.js";

const DATA = fileURLToPath(new URL("../data/", import.meta.url));
const TESTS = resolve(DATA, "..");
const CVAE = join(DATA, "cvae_conv.zip");
const raw = readFileSync(CVAE);
const files = Object.fromEntries(
  readDirectory(new Uint8Array(raw)).members.map(({ name, start, size }) => [name, new Uint8Array(raw.subarray(start, start + size))]),
);
const folder = mkdtempSync(join(tmpdir(), "vae-"));
for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), bytes);
const path = (name) => join(folder, name);

/** Whether two arrays have the same length and differ by at most `tolerance`. */
function close(a, b, tolerance = 1e-6) {
  assert.equal(a.length, b.length);
  a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) <= tolerance, `${i}: ${value} and ${b[i]}`));
}

test("the public names are these", () => {
  assert.deepEqual(Object.keys(vae).sort(), [
    "Autoencoder", "Decoder", "Encoder", "InputError", "IntegrityError", "LimitError", "NotFound", "Sampler", "StateError",
    "UsageError", "VaeError", "load", "toCanvas", "toImageData", "toPNG",
  ]);
});

test("every kind of source opens the same bundle", async () => {
  const names = Object.keys(files);
  const sources = {
    path: CVAE,
    "file address": pathToFileURL(CVAE),
    folder,
    Buffer: raw,
    Uint8Array: new Uint8Array(raw),
    ArrayBuffer: new Uint8Array(raw).buffer,
    Blob: await openAsBlob(CVAE),
    File: new File([raw], "mine.zip"),
    "one chosen file": [new File([raw], "mine.zip")],
    "chosen files": names.map((name) => new File([files[name]], name)),
    "files by name": files,
  };
  const found = await Promise.all(Object.values(sources).map((source) => vae.load(source)));
  assert.equal(new Set(found.map((model) => model.id)).size, 1);
  assert.deepEqual(found.slice(6, 10).map((model) => model.name), ["bundle", "mine.zip", "mine.zip", "bundle"]);
  assert.equal((await vae.load(raw, { name: "x" })).name, "x");
});

test("a bundle becomes the zip that Python writes", async () => {
  for (const source of [raw, folder, Object.fromEntries(Object.entries(files).reverse())]) {
    const zip = await (await vae.load(source)).toZip();
    assert.equal((await vae.load(zip)).id, (await vae.load(raw)).id);
    if (source === raw) assert.deepEqual(Buffer.from(zip), Buffer.from(raw));
  }
});

test("single graphs give the images of the bundle", async () => {
  const model = await vae.load(folder);
  const options = { n: 5, label: 3, seed: 7, temperature: 0.8 };
  const images = await model.sample(options);
  const decoder = await vae.Decoder.load(path("conditional_decoder.onnx"));
  assert.deepEqual(await decoder.sample(options), images);
  assert.deepEqual(await decoder.decode(model.sampleLatents(options), [3, 3, "3", 3, 3]), images);
  const sampler = await vae.Sampler.load(path("sampler.onnx"));
  close(await sampler.sample(options), images, 1e-5);
  const encoder = await vae.Encoder.load(files["encoder.onnx"]);
  assert.deepEqual(await encoder.encode(images, 3), await model.encode(images, 3));
  assert.deepEqual(await model.reconstruct(images, 3), await model.decode(await model.encode(images, 3), 3));
  for (const graph of [decoder, sampler, encoder, model]) await graph.close();
});

test("more rows than a batch give the same rows", async () => {
  const model = await vae.load(folder);
  const { size } = model.image;
  const many = await model.sample({ n: 300, seed: 1, label: 2 });
  assert.deepEqual(many.slice(0, 256 * size), await model.sample({ n: 256, seed: 1, label: 2 }));
  close(many.slice(290 * size), await model.sample({ n: 10, seed: 1, label: 2, start: 290 }));
  assert.equal((await model.sample({ n: 0 })).length, 0);
});

test("without a seed, each call gives other images", async () => {
  const model = await vae.load(folder);
  assert.notDeepEqual(await model.sample({ label: 1 }), await model.sample({ label: 1 }));
});

test("a morph between classes ends in the images of both", async () => {
  const model = await vae.load(folder);
  const [a, b] = [model.sampleLatents({ seed: 0, label: 1 }), model.sampleLatents({ seed: 1, label: 8 })];
  const frames = await model.interpolate(a, b, { steps: 5, label: [1, 8] });
  const { size } = model.image;
  assert.equal(frames.length, 5 * size);
  assert.deepEqual(frames.slice(0, size), await model.decode(a, 1));
  assert.deepEqual(frames.slice(4 * size), await model.decode(b, 8));
  const image = await model.decode(a, 1);
  assert.equal((await model.interpolate(image, b, { label: 1 })).length, 9 * size);
});

test("a PNG holds the rounded pixels, scaled, in a grid", async () => {
  const shape = { channels: 1, height: 2, width: 2 };
  const images = Float32Array.of(0, 1, 0.5, 0.25, 1, 1, 0, 0);
  const png = Buffer.from(await vae.toPNG(images, shape, { columns: 1, gap: 1, scale: 2 }));
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  assert.deepEqual([width, height], [4, 9]);
  const length = png.readUInt32BE(33);
  const rows = inflateSync(png.subarray(41, 41 + length));
  const at = (x, y) => [...rows.subarray(y * 17 + 1 + 4 * x, y * 17 + 5 + 4 * x)];
  assert.deepEqual(at(0, 0), [0, 0, 0, 255]);
  assert.deepEqual(at(3, 1), [255, 255, 255, 255]);
  assert.deepEqual(at(1, 3), [128, 128, 128, 255]); // 127.5 rounds to even
  assert.deepEqual(at(2, 4), [0, 0, 0, 0]);
  assert.deepEqual(at(0, 5), [255, 255, 255, 255]);
  const rgba = Buffer.from(await vae.toPNG(Float32Array.of(1, 0.4, 0, 0.2), { channels: 4, height: 1, width: 1 }));
  assert.deepEqual([...inflateSync(rgba.subarray(41, 41 + rgba.readUInt32BE(33)))], [0, 255, 102, 0, 51]);
});

test("mistakes are refused in one line", async () => {
  const model = await vae.load(folder);
  const image = new Float32Array(model.image.size);
  const z = model.sampleLatents();
  const written = "Expected a .zip or .onnx file, or a folder that vae-export or vae-run unpack wrote.";
  const cases = [
    [() => vae.load("none.zip"), vae.NotFound, `none.zip: no such file or folder at ${resolve("none.zip")}. ${written}`],
    [() => vae.Decoder.load("/none.onnx"), vae.NotFound, `/none.onnx: no such file or folder. ${written}`],
    [() => vae.load(TESTS), vae.NotFound, `${TESTS}: could not be read: EISDIR. ${written}`],
    [() => vae.load(null), vae.UsageError, "the source is null, expected an address, bytes or files"],
    [() => vae.load(path("encoder.onnx")), vae.InputError, /encoder\.onnx: not a zip and not a folder, so not a bundle$/],
    [() => vae.Decoder.load(folder), vae.UsageError, /: a folder, expected one \.onnx file$/],
    [() => vae.Decoder.load(path("encoder.onnx")), vae.InputError, /: the role of this graph is encoder, expected decoder or conditional_decoder$/],
    [() => vae.Decoder.load(raw, { name: "b.zip" }), vae.InputError, /^b\.zip: not an? .*(ONNX|graph)/],
    [() => model.decode(z.subarray(1)), vae.InputError, /^latents: /],
    [() => model.decode(z, "eleven"), vae.UsageError, /^label: unknown class 'eleven', expected one of: 0, 1/],
    [() => model.encode(image.fill(2)), vae.InputError, "images: expected numbers in [0, 1]"],
    [() => model.traverse(model.latentDim), vae.UsageError, `dim is ${model.latentDim}, expected a whole number from 0 to ${model.latentDim - 1}`],
    [() => model.traverse(0, { steps: 1 }), vae.UsageError, "steps is 1, expected a whole number from 2 to 10000"],
    [() => model.sample({ n: "three", label: 3 }), vae.UsageError, "n is 'three', expected a whole number from 0 to 1000000"],
    [() => model.sample({ temperature: "hot" }), vae.UsageError, "temperature is 'hot', expected a finite number, 0 or more"],
    [() => model.traverse(0, { span: NaN }), vae.UsageError, "span is NaN, expected a finite number"],
    [() => model.score(image.fill(0), { samples: 0 }), vae.UsageError, "samples is 0, expected a whole number from 1 to 1000000"],
    [() => model.reconstruct(image, { label: 3 }), vae.UsageError, /^label is an object, expected a class index or name/],
    [() => model.interpolate(z, z, { how: "round" }), vae.UsageError, "how is 'round', expected 'linear' or 'spherical'"],
    [() => vae.toPNG(image, model.image, { scale: 0 }), vae.UsageError, /^columns 1, gap 0, scale 0: expected whole numbers/],
    [() => vae.toPNG(image.subarray(1), model.image), vae.UsageError, /^images: \d+ numbers do not fit 1×/],
  ];
  for (const [call, kind, message] of cases) {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof kind && error instanceof vae.VaeError, error.stack);
      if (message instanceof RegExp) assert.match(error.message, message);
      else assert.equal(error.message, message);
      return true;
    });
  }
});

test("what is no known option is refused, as Python refuses it", async () => {
  const model = await vae.load(folder);
  const sampler = await vae.Sampler.load(path("sampler.onnx"));
  const [image, z] = [new Float32Array(model.image.size), model.sampleLatents()];
  const sampling = "n, label, seed, prior, temperature, truncation, start";
  const cases = [
    [(options) => model.sample(options), sampling],
    [(options) => model.sampleLatents(options), sampling],
    [(options) => sampler.sample(options), sampling.replace("prior, ", "")],
    [(options) => vae.load(folder, options), "name, wasm, ort, providers"],
    [(options) => vae.Sampler.load(path("sampler.onnx"), options), "name, wasm, ort, providers"],
    [(options) => model.traverse(0, options), "steps, label, seed, image, span"],
    [(options) => model.interpolate(z, z, options), "steps, label, how"],
    [(options) => model.score(image, options), "label, samples, seed"],
    [(options) => model.detect(image, options), "falseAlarms"],
    [(options) => model.golden(options), "variants"],
    [(options) => vae.toPNG(image, model.image, options), "columns, gap, scale"],
  ];
  for (const [call, names] of cases) {
    for (const [options, seen] of [[3, "3"], ["three", "'three'"], [null, "null"], [[3], "3"]]) {
      const message = `the options are ${seen}, expected an object with any of: ${names}`;
      await assert.rejects(async () => call(options), { name: "UsageError", message });
    }
    const message = `unknown option 'lable', expected any of: ${names}`;
    await assert.rejects(async () => call({ lable: 3 }), { name: "UsageError", message });
  }
  const named = { n: undefined, label: undefined, seed: 0 };
  assert.deepEqual(await model.sample(named), await model.sample({ seed: 0 })); // as without them
});

test("a closed model has released its sessions, and every call says so", async () => {
  const sessions = { open: 0 };
  const model = await vae.load(raw, { ort: counting(sessions) });
  const [image, z] = [new Float32Array(model.image.size), model.sampleLatents()];
  const decoded = model.decode(z);
  await model.encode(image);
  assert.equal(sessions.open, 2);
  await Promise.all([decoded, model.close()]); // the run that is under way ends first
  assert.equal(sessions.open, 0);
  const calls = [
    () => model.sample(), () => model.sampleLatents(), () => model.decode(z), () => model.encode(image),
    () => model.posterior(image), () => model.reconstruct(image), () => model.traverse(0), () => model.interpolate(z, z),
    () => model.score(image), () => model.detect(image), () => model.golden(), () => model.examples(), () => model.activity(),
    () => model.toZip(),
  ];
  const closed = { name: "StateError", message: "this model was closed. Load it again." };
  for (const call of calls) await assert.rejects(async () => call(), closed);
  await model.close();
  const decoder = await vae.Decoder.load(path("decoder.onnx"));
  await decoder.close();
  const message = `${path("decoder.onnx")}: this graph was closed. Load it again.`;
  for (const call of [() => decoder.sample(), () => decoder.decode(z), () => decoder.sampleLatents()]) {
    await assert.rejects(async () => call(), { name: "StateError", message });
  }
});

test("a graph that could not be loaded is tried again", async () => {
  const sessions = { open: 0, failures: 1 };
  const model = await vae.load(raw, { ort: counting(sessions) });
  await assert.rejects(model.sample(), { message: "bundle/decoder.onnx: onnxruntime refuses the graph: no memory" });
  assert.equal((await model.sample({ n: 2 })).length, 2 * model.image.size);
});

/** A stand-in for onnxruntime whose graphs give zeros. It counts open sessions, and fails at first if told to. */
function counting(sessions) {
  const tensor = (name, ...sizes) => ({ name, type: "float32", shape: ["batch", ...sizes] });
  const [image, label] = [tensor("image", 1, 8, 8), { ...tensor("label"), type: "int64" }];
  const graphs = {
    encoder: [[image, label], [tensor("mu", 6), tensor("log_var", 6)]],
    decoder: [[tensor("z", 6)], [image]],
    conditional_decoder: [[tensor("z", 6), label], [image]],
    sampler: [[tensor("noise", 7), label], [image, tensor("z", 6)]],
  };
  class Tensor {
    constructor(type, data, dims) {
      Object.assign(this, { type, data, dims });
    }
  }
  const create = async (bytes) => {
    if (sessions.failures) {
      sessions.failures -= 1;
      throw new Error("no memory");
    }
    sessions.open += 1;
    const role = Object.keys(graphs).find((name) => !Buffer.compare(bytes, files[`${name}.onnx`]));
    const [inputMetadata, outputMetadata] = graphs[role];
    const [inputNames, outputNames] = [inputMetadata, outputMetadata].map((side) => side.map(({ name }) => name));
    let released = false;
    return {
      inputNames, outputNames, inputMetadata, outputMetadata,
      async run(feeds) {
        assert.ok(!released);
        const [rows] = Object.values(feeds)[0].dims;
        const sizes = outputMetadata.map(({ shape }) => shape.slice(1).reduce((a, b) => a * b, rows));
        return Object.fromEntries(outputNames.map((name, i) => [name, new Tensor("float32", new Float32Array(sizes[i]), [])]));
      },
      async release() {
        released = true;
        sessions.open -= 1;
      },
    };
  };
  return { Tensor, InferenceSession: { create } };
}

test("providers other than the default are used only after the golden vectors pass on them", async () => {
  const sessions = { open: 0 };
  await assert.rejects(vae.load(raw, { name: "b.zip", ort: counting(sessions), providers: ["webgpu"] }), (error) => {
    assert.equal(error.name, "IntegrityError");
    assert.match(error.message, /^b\.zip: webgpu differs from torch by \d\.\de[+-]\d, expected at most 1e-5\. Use the default/);
    return true;
  });
  assert.equal(sessions.open, 0);
});

test("a changed byte is found", async () => {
  const damaged = new Uint8Array(files["sampler.onnx"]);
  damaged[damaged.length >> 1] ^= 1;
  await assert.rejects(vae.Sampler.load(damaged), { name: "IntegrityError" });
});
