/** Paint float images in [0, 1] on canvases, and read canvases as images for the model. */

import { h } from "./dom.js";

const OPAQUE = 0xff000000;

/** A canvas with the size of the sheet that will be painted on it, so that the layout does not jump. */
export function sheetCanvas({ height, width }, props = {}, [columns, rows, gap] = [1, 1, 0]) {
  const size = { width: columns * (width + gap) - gap, height: rows * (height + gap) - gap };
  return h("canvas", { ...size, ...props });
}

/**
 * Draw n images as a sheet of `columns` columns with `gap` transparent pixels between them, at one canvas pixel per
 * pixel.
 *
 * @param images  Float32Array[n·C·H·W], channels first
 * @param shape   { channels, height, width }
 */
export function paintSheet(canvas, images, shape, columns = 1, gap = 0) {
  const { channels, height, width } = shape;
  const size = channels * height * width;
  const n = images.length / size;
  const sheetWidth = columns * (width + gap) - gap;
  const sheetHeight = Math.ceil(n / columns) * (height + gap) - gap;
  if (canvas.width !== sheetWidth || canvas.height !== sheetHeight) {
    canvas.width = sheetWidth;
    canvas.height = sheetHeight;
  }
  const data = new ImageData(sheetWidth, sheetHeight);
  const out = new Uint32Array(data.data.buffer);
  const bytes = toBytes(images);
  for (let tile = 0; tile < n; tile++) {
    const corner = Math.floor(tile / columns) * (height + gap) * sheetWidth + (tile % columns) * (width + gap);
    for (let row = 0; row < height; row++) {
      let from = tile * size + row * width;
      const start = corner + row * sheetWidth;
      for (let to = start; to < start + width; to++, from++) out[to] = colour(bytes, from, channels, height * width);
    }
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
}

/** 0xAABBGGRR, the byte order of ImageData on little-endian machines. */
function colour(bytes, at, channels, plane) {
  const red = bytes[at];
  const alpha = channels % 2 ? OPAQUE : bytes[at + (channels - 1) * plane] << 24;
  if (channels < 3) return alpha | (red * 0x010101);
  return alpha | (bytes[at + 2 * plane] << 16) | (bytes[at + plane] << 8) | red;
}

/** Round to 256 levels, halves to even, like Python's `to_uint8`: a clamped array rounds this way. */
export function toBytes(images) {
  const bytes = new Uint8ClampedArray(images.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.fround(images[i] * 255);
  return bytes;
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
