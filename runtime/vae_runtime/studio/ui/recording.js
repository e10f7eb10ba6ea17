/** Save the morph between the pins as a GIF or a video, forwards and then backwards. */

import { GIFEncoder, applyPalette, quantize } from "../assets/gifenc.js";
import { toCanvas, toImageData, toPixels } from "../engine/pictures.js";
import { download } from "./dom.js";
import { pathOf } from "./store.js";

const FRAMES = 25; // in one direction
const DELAY = 60; // ms per frame
const VIDEO_SIDE = 448; // pixels, at least
const VIDEO = "video/webm";
const GREYS = Array.from({ length: 256 }, (_, level) => [level, level, level]);

/** Whether this browser records videos. */
export const canRecord = Boolean(globalThis.MediaRecorder?.isTypeSupported(VIDEO));

/** The images of the morph from A to B and back; null while a pin is missing. */
async function morphFrames({ model, store }) {
  const path = pathOf(store.get(), FRAMES);
  if (!path) return null;
  const { size } = model.image;
  const { a, b } = store.get();
  const images = await model.morph(path, a.label, b.label);
  return Array.from({ length: 2 * FRAMES - 2 }, (_, i) => {
    const at = i < FRAMES ? i : 2 * FRAMES - 2 - i;
    return images.subarray(at * size, (at + 1) * size);
  });
}

export async function saveGif(app) {
  const frames = await morphFrames(app);
  if (!frames) return;
  download(new Blob([encodeGif(frames, app.model.image)], { type: "image/gif" }), "morph.gif");
  app.showStatus(`morph.gif: ${frames.length} frames`);
}

/** Record the morph in real time, as browsers encode videos. */
export async function saveVideo(app) {
  const frames = await morphFrames(app);
  if (!frames) return;
  const { image } = app.model;
  const scale = Math.ceil(VIDEO_SIDE / Math.max(image.height, image.width));
  const canvas = toCanvas(frames[0], image, { scale });
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: VIDEO, videoBitsPerSecond: 4e6 });
  const parts = [];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  const stopped = new Promise((done) => recorder.addEventListener("stop", done));
  app.showStatus("Recording …");
  recorder.start();
  for (const frame of [...frames, frames[0]]) {
    canvas.getContext("2d").putImageData(toImageData(frame, image, { scale }), 0, 0);
    await new Promise((done) => setTimeout(done, DELAY));
  }
  recorder.stop();
  await stopped;
  download(new Blob(parts, { type: VIDEO }), "morph.webm");
  app.showStatus(`morph.webm: ${frames.length} frames`);
}

/** Encode frames as a GIF about 224 pixels high; each colour frame gets the 256 colours that fit it best. */
export function encodeGif(frames, shape) {
  const { channels, height, width } = shape;
  const scale = Math.max(1, Math.round(224 / height));
  const gif = GIFEncoder();
  for (const frame of frames) {
    const { data } = toPixels(frame, shape);
    const palette = channels < 3 ? GREYS : quantize(data, 256); // without the alpha: a GIF has no partial one
    const indices = channels < 3 ? data.filter((_, i) => i % 4 === 0) : applyPalette(data, palette);
    const large = Uint8Array.from({ length: indices.length * scale ** 2 }, (_, i) => {
      const [x, y] = [i % (width * scale), Math.floor(i / (width * scale))];
      return indices[Math.floor(y / scale) * width + Math.floor(x / scale)];
    });
    gif.writeFrame(large, width * scale, height * scale, { palette, delay: DELAY });
  }
  gif.finish();
  return gif.bytes();
}
