/** A small GIF89a encoder (W3C, 1990): grey images exactly, colour on 252 fixed colours, dithered. */

import { toBytes } from "./pixels.js";

const BAYER = [0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5]; // 4×4 ordered dither
const LEVELS = [6, 7, 6]; // of red, green, blue: 252 colours

/**
 * @param frames  Float32Array[n·C·H·W] in [0, 1]
 * @param shape   { channels, height, width }
 * @param scale   each pixel as a square of so many
 * @param ms      how long a frame stands
 * @returns       the file's bytes; it repeats for ever
 */
export function encodeGif(frames, shape, scale = 4, ms = 60) {
  const { channels, height, width } = shape;
  const size = channels * height * width;
  const out = [];
  const short = (value) => out.push(value & 255, value >> 8);
  const text = (value) => { for (const letter of value) out.push(letter.charCodeAt(0)); };
  text("GIF89a");
  short(width * scale);
  short(height * scale);
  out.push(0xf7, 0, 0, ...(channels === 1 ? greys() : colours()));
  out.push(0x21, 0xff, 11);
  text("NETSCAPE2.0");
  out.push(3, 1, 0, 0, 0);
  for (let at = 0; at < frames.length; at += size) {
    out.push(0x21, 0xf9, 4, 4);
    short(Math.round(ms / 10));
    out.push(0, 0, 0x2c);
    for (const value of [0, 0, width * scale, height * scale]) short(value);
    out.push(0, 8);
    const indices = enlarge(indexed(toBytes(frames.subarray(at, at + size)), shape), shape, scale);
    const packed = lzw(indices);
    for (let start = 0; start < packed.length; start += 255) {
      const block = packed.slice(start, start + 255);
      out.push(block.length, ...block);
    }
    out.push(0);
  }
  out.push(0x3b);
  return Uint8Array.from(out);
}

function greys() {
  return Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
}

function colours() {
  const table = [];
  for (let i = 0; i < 256; i++) {
    const steps = [Math.floor(i / 42) % 6, Math.floor(i / 6) % 7, i % 6];
    table.push(...steps.map((step, c) => Math.round((255 * step) / (LEVELS[c] - 1))));
  }
  return table;
}

/** The palette's index of each pixel. */
function indexed(bytes, { channels, height, width }) {
  if (channels === 1) return bytes;
  const plane = height * width;
  return Uint8Array.from({ length: plane }, (_, i) => {
    const nudge = (BAYER[(Math.floor(i / width) % 4) * 4 + (i % width % 4)] + 0.5) / 16;
    const [r, g, b] = LEVELS.map((levels, c) => Math.min(levels - 1, Math.floor((bytes[c * plane + i] / 255) * (levels - 1) + nudge)));
    return r * 42 + g * 6 + b;
  });
}

function enlarge(indices, { height, width }, scale) {
  return Uint8Array.from({ length: height * width * scale * scale }, (_, i) => {
    const [x, y] = [i % (width * scale), Math.floor(i / (width * scale))];
    return indices[Math.floor(y / scale) * width + Math.floor(x / scale)];
  });
}

/** Lempel, Ziv and Welch (1984) with codes of 9 to 12 bits, least significant bit first. */
function lzw(indices) {
  const [CLEAR, END] = [256, 257];
  const bytes = [];
  let [held, count, width, next] = [0, 0, 9, 258];
  let table = new Map();
  const emit = (code) => {
    held |= code << count;
    for (count += width; count >= 8; count -= 8, held >>>= 8) bytes.push(held & 255);
  };
  emit(CLEAR);
  let prefix = indices[0];
  for (let i = 1; i < indices.length; i++) {
    const key = (prefix << 8) | indices[i];
    if (table.has(key)) {
      prefix = table.get(key);
      continue;
    }
    emit(prefix);
    prefix = indices[i];
    table.set(key, next++);
    if (next > 4095) {
      emit(CLEAR);
      [table, next, width] = [new Map(), 258, 9];
    } else if (next > 1 << width) width++;
  }
  emit(prefix);
  emit(END);
  if (count) bytes.push(held & 255);
  return bytes;
}
