/** Make a drawing look like what the model was trained on. Planes Float32Array[C·H·W] in [0, 1]. */

/** Dark on light becomes light on dark. */
export function inverted(pixels) {
  return pixels.map((value) => 1 - value);
}

/**
 * One grey plane as MNIST was made (LeCun et al. 1998): the ink's box scaled to 20/28 of the side, its
 * centre of mass put in the middle. Bilinear; an empty plane stays as it is.
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
