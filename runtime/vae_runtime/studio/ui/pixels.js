/** Paint float images in [0, 1] on canvases, and read canvases as images for the model. */

import { toImageData } from "../engine/pictures.js";
import { h } from "./dom.js";

/** A canvas with the size of the sheet that will be painted on it, so that the layout does not jump. */
export function sheetCanvas({ height, width }, props = {}, [columns, rows, gap] = [1, 1, 0]) {
  const size = { width: columns * (width + gap) - gap, height: rows * (height + gap) - gap };
  return h("canvas", { ...size, ...props });
}

/** Draw n images as a sheet of `columns` columns with `gap` transparent pixels between them. */
export function paintSheet(canvas, images, shape, columns = 1, gap = 0) {
  const data = toImageData(images, shape, { columns, gap });
  if (canvas.width !== data.width || canvas.height !== data.height) Object.assign(canvas, { width: data.width, height: data.height });
  canvas.getContext("2d").putImageData(data, 0, 0);
}

/** Draw one of the images on each canvas. */
export function paintEach(canvases, images, shape) {
  canvases.forEach((canvas, i) => paintSheet(canvas, images.subarray(i * shape.size, (i + 1) * shape.size), shape));
}

/**
 * Read a drawing at the model's resolution: the mean of each square of scale×scale canvas pixels.
 * Grey is 0.299 R + 0.587 G + 0.114 B.
 *
 * @param context  the context of an opaque canvas, scale·W by scale·H
 * @returns        Float32Array[C·H·W] in [0, 1]
 */
export function readPixels(context, { channels, height, width }, scale) {
  const { data } = context.getImageData(0, 0, width * scale, height * scale);
  const plane = height * width;
  const sums = new Float64Array(3 * plane);
  for (let i = 0; i < data.length; i += 4) {
    const [x, y] = [(i / 4) % (width * scale), Math.floor(i / 4 / (width * scale))];
    const at = Math.floor(y / scale) * width + Math.floor(x / scale);
    for (let c = 0; c < 3; c++) sums[c * plane + at] += data[i + c];
  }
  const whole = 255 * scale * scale;
  const image = new Float32Array(channels * plane).fill(1); // alpha, where the model has it
  if (channels >= 3) image.set(sums.map((sum) => sum / whole));
  else for (let i = 0; i < plane; i++) image[i] = (0.299 * sums[i] + 0.587 * sums[plane + i] + 0.114 * sums[2 * plane + i]) / whole;
  return image;
}

/**
 * Centre a grey drawing like the digits of MNIST (LeCun et al. 1998): scale the ink's bounding box to 20/28 of the
 * side and move its centre of mass to the middle, with bilinear interpolation. An empty drawing stays unchanged.
 */
export function centred(pixels, { height, width }) {
  const ink = { left: width, right: -1, top: height, bottom: -1, mass: 0, x: 0, y: 0 };
  pixels.forEach((value, i) => {
    if (value < 0.05) return;
    const [x, y] = [i % width, Math.floor(i / width)];
    ink.left = Math.min(ink.left, x);
    ink.right = Math.max(ink.right, x);
    ink.top = Math.min(ink.top, y);
    ink.bottom = Math.max(ink.bottom, y);
    ink.mass += value;
    ink.x += value * x;
    ink.y += value * y;
  });
  if (!ink.mass) return pixels;
  const longest = Math.max(ink.right - ink.left, ink.bottom - ink.top) + 1;
  const scale = Math.max(longest, 3) / ((Math.min(height, width) * 20) / 28);
  const [centreX, centreY] = [ink.x / ink.mass, ink.y / ink.mass];
  return pixels.map((_, i) => {
    const x = centreX + ((i % width) - (width - 1) / 2) * scale;
    const y = centreY + (Math.floor(i / width) - (height - 1) / 2) * scale;
    return bilinear(pixels, x, y, height, width);
  });
}

function bilinear(pixels, x, y, height, width) {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [right, down] = [x - left, y - top];
  const at = (column, row) => (column < 0 || row < 0 || column >= width || row >= height ? 0 : pixels[row * width + column]);
  return (
    (1 - down) * ((1 - right) * at(left, top) + right * at(left + 1, top)) +
    down * ((1 - right) * at(left, top + 1) + right * at(left + 1, top + 1))
  );
}
