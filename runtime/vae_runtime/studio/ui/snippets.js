/** Programs to copy that make the current image. Each contains the latents in full. */

export const LANGUAGES = [["python", "Python"], ["javascript", "JavaScript"], ["c", "C"]];

/** The program in a language, for the engine's `model` and a state { z, label, mix }. */
export function snippet(language, model, { z, label, mix = null }) {
  const graph = label === null && !mix ? "decoder.onnx" : "conditional_decoder.onnx";
  // A morph between classes decodes the latents with both labels and mixes the two images.
  const rows = mix ? 2 : 1;
  const given = { ...model.image, name: model.name, shape: model.latentShape, label, mix, rows, graph, z: numbers(z) };
  if (label === null && !mix) given.labels = [];
  else given.labels = [label, ...(mix ? [mix.label] : [])].map((index) => index ?? model.classes.length);
  return { python, javascript, c }[language](given);
}

/** Write numbers with nine significant digits, which determine a float32. */
function numbers(z) {
  const texts = Array.from(z, (value) => String(Number(value.toPrecision(9))));
  const lines = [];
  while (texts.length) lines.push(texts.splice(0, 6).join(", "));
  return lines.join(",\n    ");
}

function python({ name, z, shape, label, mix, channels }) {
  const condition = label === null ? "" : `, label=${label}`;
  const decoded = mix
    ? `first, other = model.decode(z, label=${label})[0], model.decode(z, label=${mix.label})[0]
pixels = np.rint((first * ${1 - mix.share} + other * ${mix.share}) * 255).astype(np.uint8)`.replaceAll("null", "None")
    : `pixels = model.decode(z${condition}, dtype="uint8")[0]`;
  const layout = channels === 1 ? "pixels[0]" : "pixels.transpose(1, 2, 0)";
  return `# Needs vae-onnx; in a checkout of it: pip install ".[cpu]"
import numpy as np
from PIL import Image

import vae_runtime as vae

z = np.array([
    ${z},
], np.float32)${shape.length > 1 ? `.reshape(${shape.join(", ")})` : ""}
model = vae.load(${JSON.stringify(name)})
${decoded}
Image.fromarray(${layout}).save("image.png")
`;
}

function javascript({ graph, z, shape, labels, mix, rows, channels, height, width }) {
  const condition = labels.length ? `\n  label: new ort.Tensor("int64", BigInt64Array.of(${labels.map((index) => `${index}n`).join(", ")}), [${rows}]),` : "";
  const size = channels * height * width;
  const [magic, order] = channels < 3
    ? ["P5", `image.subarray(0, ${height * width})`]
    : ["P6", `image.map((_, i, planes) => planes[(i % 3) * ${height * width} + Math.floor(i / 3)])`];
  return `// npm install onnxruntime-node; ${graph} is in the bundle
// ORT_DISABLE_TELEMETRY=1 in the environment turns off the telemetry of onnxruntime
import { writeFileSync } from "node:fs";
import * as ort from "onnxruntime-node";

const z = Float32Array.of(
    ${z},
);
const session = await ort.InferenceSession.create("${graph}");
const run = await session.run({
  z: new ort.Tensor("float32", ${mix ? "Float32Array.of(...z, ...z)" : "z"}, [${rows}, ${shape.join(", ")}]),${condition}
});
const image = ${mix ? `run.image.data.subarray(0, ${size}).map((p, i) => ${1 - mix.share} * p + ${mix.share} * run.image.data[${size} + i])` : "run.image.data"};
const pixels = Uint8ClampedArray.from(${order}, (p) => Math.fround(p * 255));
writeFileSync("image.${channels < 3 ? "pgm" : "ppm"}", Buffer.concat([Buffer.from("${magic} ${width} ${height} 255\\n"), Buffer.from(pixels)]));
`;
}

function c({ graph, z, shape, labels, mix, rows, channels, height, width }) {
  const labelled = labels.length > 0;
  const plane = height * width;
  const inputs = labelled ? 2 : 1;
  const at = `image[c * ${plane} + i]`;
  const pixel = mix ? `(${1 - mix.share} * ${at} + ${mix.share} * ${at.replace("[", `[${channels * plane} + `)})` : at;
  const condition = labelled
    ? `
    int64_t label[] = {${labels.join(", ")}}, label_shape[] = {${rows}};
    OK(ort->CreateTensorWithDataAsOrtValue(cpu, label, sizeof label, label_shape, 1,
                                           ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &in[1]));`
    : "";
  return `// cc image.c -lonnxruntime -lm -o image && ./image > image.${channels < 3 ? "pgm" : "ppm"}; ${graph} is in the bundle
// ORT_DISABLE_TELEMETRY=1 in the environment turns off the telemetry of onnxruntime
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>

static const OrtApi *ort;
static void OK(OrtStatus *status) {
    if (!status) return;
    fprintf(stderr, "%s\\n", ort->GetErrorMessage(status));
    exit(1);
}

int main(void) {
    float z[] = {
    ${Array(rows).fill(z).join(",\n    ")},
    };
    int64_t z_shape[] = {${rows}, ${shape.join(", ")}};
    OrtEnv *env;
    OrtSession *session;
    OrtSessionOptions *options;
    OrtMemoryInfo *cpu;
    OrtValue *in[${inputs}], *out = NULL;
    ort = OrtGetApiBase()->GetApi(18);
    OK(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "image", &env));
    OK(ort->CreateSessionOptions(&options));
    OK(ort->CreateSession(env, "${graph}", options, &session));
    OK(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
    OK(ort->CreateTensorWithDataAsOrtValue(cpu, z, sizeof z, z_shape, ${shape.length + 1},
                                           ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &in[0]));${condition}
    const char *in_names[] = {"z"${labelled ? ', "label"' : ""}}, *out_names[] = {"image"};
    OK(ort->Run(session, NULL, in_names, (const OrtValue *const *)in, ${inputs}, out_names, 1, &out));
    float *image;
    OK(ort->GetTensorMutableData(out, (void **)&image));
    printf("P${channels < 3 ? 5 : 6} ${width} ${height} 255\\n");
    for (int i = 0; i < ${plane}; i++)
        for (int c = 0; c < ${channels < 3 ? 1 : 3}; c++) putchar((int)lrintf(${pixel} * 255));
    return 0;
}
`;
}
