/** Float images in [0, 1] on canvases. */

const OPAQUE = 0xff000000;

/**
 * Draw n images as a sheet: `columns` wide, `gap` clear pixels between tiles, one canvas pixel a pixel.
 *
 * @param images  Float32Array[n·C·H·W], planes first
 * @param shape   { channels: 1 or 3, height, width }
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

/** 0xAABBGGRR, the order of ImageData on every machine that runs a browser. */
function colour(bytes, at, channels, plane) {
  const red = bytes[at];
  if (channels === 1) return OPAQUE | (red * 0x010101);
  return OPAQUE | (bytes[at + 2 * plane] << 16) | (bytes[at + plane] << 8) | red;
}

/** The nearest of 256 levels, halves to even, as Python's `to_uint8`: a clamped array rounds so. */
export function toBytes(images) {
  const bytes = new Uint8ClampedArray(images.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.fround(images[i] * 255);
  return bytes;
}

/**
 * What a picture looks like to the model: planes Float32Array[C·H·W] of a canvas of any size.
 * Grey is 0.299 R + 0.587 G + 0.114 B; what is clear counts as black.
 */
export function readPixels(source, shape) {
  const { channels, height, width } = shape;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "black";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(shrink(source, width, height), 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const plane = height * width;
  const pixels = new Float32Array(channels * plane);
  for (let i = 0; i < plane; i++) {
    const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
    if (channels === 1) pixels[i] = (0.299 * r + 0.587 * g + 0.114 * b) / 255;
    else [r, g, b].forEach((value, c) => { pixels[c * plane + i] = value / 255; });
  }
  return pixels;
}

/** Halve until it nearly fits: one big step would skip pixels in some browsers. */
function shrink(source, width, height) {
  let from = source;
  while (from.width > 2 * width && from.height > 2 * height) {
    const half = new OffscreenCanvas(Math.ceil(from.width / 2), Math.ceil(from.height / 2));
    half.getContext("2d").drawImage(from, 0, 0, half.width, half.height);
    from = half;
  }
  return from;
}
