/** Images as pictures: RGBA pixels, canvases and PNG files. */

import { quoted, takeOptions } from "./arrays.js";
import { concat, crc32 } from "./bytes.js";
import { UsageError } from "./errors.js";

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const MAX_SIDE = 65_535; // pixels of a picture

/**
 * @typedef {{channels: number, height: number, width: number}} ImageShape such as `model.image`
 * @typedef {object} PictureOptions
 * @property {number} [columns] images per row of the picture; by default all in one row
 * @property {number} [gap] transparent pixels between two images
 * @property {number} [scale] picture pixels per side of an image's pixel
 */

/**
 * Arrange images in a picture.
 *
 * @param {Float32Array} images n·C·H·W in [0, 1], of 1 to 4 channels: grey, grey and alpha, RGB, RGBA
 * @param {ImageShape} shape
 * @param {PictureOptions} [options]
 * @returns {{data: Uint8ClampedArray<ArrayBuffer>, width: number, height: number}} data: RGBA
 * @throws {UsageError} images that do not fit the shape, or an option out of range
 */
export function toPixels(images, shape, options = {}) {
  const { channels, height, width } = shape;
  const plane = height * width;
  const n = images.length / (channels * plane);
  const { columns, gap, scale } = takeOptions(options, { columns: Math.max(n, 1), gap: 0, scale: 1 });
  if (!Number.isInteger(n)) throw new UsageError(`images: ${images.length} numbers do not fit ${channels}×${height}×${width}`);
  const whole = [columns, gap + 1, scale].every((value) => Number.isInteger(value) && value >= 1);
  const [cellWidth, cellHeight] = [width * scale + gap, height * scale + gap];
  const [across, down] = [columns * cellWidth - gap, Math.max(Math.ceil(n / columns), 1) * cellHeight - gap];
  if (!whole || across > MAX_SIDE || down > MAX_SIDE) {
    throw new UsageError(`columns ${quoted(columns)}, gap ${quoted(gap)}, scale ${quoted(scale)}: expected whole numbers for at most ${MAX_SIDE} pixels per side`);
  }
  const data = new Uint8ClampedArray(4 * across * down);
  const words = new Uint32Array(data.buffer);
  const bytes = toBytes(images);
  for (let i = 0; i < n; i += 1) {
    const corner = Math.floor(i / columns) * cellHeight * across + (i % columns) * cellWidth;
    for (let y = 0; y < height * scale; y += 1) {
      const row = i * channels * plane + Math.floor(y / scale) * width;
      for (let x = 0; x < width * scale; x += 1) {
        words[corner + y * across + x] = colour(bytes, row + Math.floor(x / scale), channels, plane);
      }
    }
  }
  return { data, width: across, height: down };
}

/** 0xAABBGGRR, the byte order of RGBA on little-endian machines. @param {Uint8ClampedArray} bytes @param {number} at @param {number} channels @param {number} plane */
function colour(bytes, at, channels, plane) {
  const red = bytes[at];
  const alpha = channels % 2 ? 0xff000000 : bytes[at + (channels - 1) * plane] << 24;
  if (channels < 3) return alpha | (red * 0x010101);
  return alpha | (bytes[at + 2 * plane] << 16) | (bytes[at + plane] << 8) | red;
}

/** Round to 256 levels, halves to even, like Python's `to_uint8`: a clamped array rounds this way. @param {Float32Array} images */
export function toBytes(images) {
  const bytes = new Uint8ClampedArray(images.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = Math.fround(images[i] * 255);
  return bytes;
}

/**
 * An `ImageData` for a canvas, in a page or a worker; arguments as for `toPNG`.
 *
 * @param {Float32Array} images @param {ImageShape} shape @param {PictureOptions} [options]
 */
export function toImageData(images, shape, options) {
  const { data, width, height } = toPixels(images, shape, options);
  return new ImageData(data, width, height);
}

/**
 * A `<canvas>` with the picture; arguments as for `toPNG`.
 *
 * @param {Float32Array} images @param {ImageShape} shape @param {PictureOptions} [options]
 */
export function toCanvas(images, shape, options) {
  const data = toImageData(images, shape, options);
  const canvas = Object.assign(document.createElement("canvas"), { width: data.width, height: data.height });
  canvas.getContext("2d")?.putImageData(data, 0, 0);
  return canvas;
}

/**
 * The bytes of a PNG file, in a page, a worker or Node.
 *
 * @param {Float32Array} images n·C·H·W in [0, 1]
 * @param {ImageShape} shape such as `model.image`
 * @param {PictureOptions} [options]
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 * @throws {UsageError} images that do not fit the shape, or an option out of range
 */
export async function toPNG(images, shape, options) {
  const { data, width, height } = toPixels(images, shape, options);
  const rows = new Uint8Array(height * (4 * width + 1)); // each row begins with its filter, 0 for none
  for (let y = 0; y < height; y += 1) {
    rows.set(data.subarray(y * 4 * width, (y + 1) * 4 * width), y * (4 * width + 1) + 1);
  }
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint16(8, 0x0806); // 8 bits per channel, RGBA
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const body = new Uint8Array(await new Response(packed).arrayBuffer());
  return concat([Uint8Array.from(PNG), chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", body), chunk("IEND", new Uint8Array())]);
}

/** A chunk of a PNG file: its length, type, body and checksum. @param {string} type @param {Uint8Array} body */
function chunk(type, body) {
  const raw = new Uint8Array(12 + body.length);
  const view = new DataView(raw.buffer);
  view.setUint32(0, body.length);
  raw.set(Array.from(type, (letter) => letter.charCodeAt(0)), 4);
  raw.set(body, 8);
  view.setUint32(8 + body.length, crc32(raw.subarray(4, 8 + body.length)));
  return raw;
}
