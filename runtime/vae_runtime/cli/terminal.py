"""Render images as text: in ANSI colour on a terminal, as characters elsewhere."""

from __future__ import annotations

import os
import shutil
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LETTERS = " .:-=+*#%@"  # from dark to bright
_RESET = "\x1b[0m"


def render(image: NDArray[np.uint8], stream: IO[str], width: int | None = None) -> str:
    """Render an image u8[C, H, W] as text.

    In a terminal, each character is an upper half block in 24-bit colour: its foreground shows one
    pixel and its background the pixel below. Elsewhere, or if NO_COLOR is set, ten characters
    represent grey levels from dark to bright.

    Args:
        image: the image, which is shrunk to fit the width.
        stream: where the text will be printed; only a terminal gets colour.
        width: characters per line; by default the terminal's width, or 80 without a terminal.
    """
    colour = stream.isatty() and "NO_COLOR" not in os.environ
    width = width or (shutil.get_terminal_size().columns if stream.isatty() else 80)
    pixels = _shrink(image, width)
    return _half_blocks(pixels) if colour else _letters(pixels)


def _shrink(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Average k×k pixel blocks to fit `width` columns: u8[C, H, W] → u8[H', W', 3]."""
    rgb = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    k = -(-rgb.shape[2] // width)
    if k > 1:
        h, w = rgb.shape[1] // k * k, rgb.shape[2] // k * k
        blocks = rgb[:, :h, :w].reshape(3, h // k, k, w // k, k)
        rgb = np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
    pixels: NDArray[np.uint8] = rgb.transpose(1, 2, 0)
    return pixels


def _half_blocks(pixels: NDArray[np.uint8]) -> str:
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells, last = [], ""
        for a, b in zip(upper.tolist(), lower.tolist(), strict=True):
            code = f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m"
            cells.append(("" if code == last else code) + "▀")
            last = code
        lines.append("".join(cells) + _RESET)
    return "\n".join(lines)


def _letters(pixels: NDArray[np.uint8]) -> str:
    """Use one character per two rows of pixels, because characters are twice as tall as wide."""
    grey = pixels[: len(pixels) // 2 * 2].astype(np.float64).mean(axis=2)
    rows: Any = (grey[::2] + grey[1::2]) / 2
    levels = np.rint(rows * ((len(_LETTERS) - 1) / 255)).astype(int)
    return "\n".join("".join(_LETTERS[k] for k in row).rstrip() for row in levels)
