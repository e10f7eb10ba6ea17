"""Take a screenshot of a studio in use: `python -m tests.studio.shot STUDIO.html IMAGE.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tests.studio.browser import Browser


def shoot(page: Path, out: Path) -> None:
    """Show one of the bundle's examples, pin two latents, and save a screenshot."""
    browser = Browser("chrome")
    try:
        dark = {"prefers-color-scheme": "dark"}
        browser.open(page.resolve().as_uri(), width=1440, height=1600, media=dark)
        browser.keys("3", "a")
        browser.settle()
        browser.click("#example")
        browser.settle()
        browser.keys("b")
        browser.settle()
        browser.eval("scrollTo(0, 0)")
        browser.settle()
        browser.step("shot", path=str(out))
    finally:
        browser.close()
    with Image.open(out) as image:  # 48 colours take a third of the bytes
        image.convert("RGB").quantize(48, Image.Quantize.FASTOCTREE).save(out, optimize=True)


if __name__ == "__main__":
    shoot(*map(Path, sys.argv[1:]))
