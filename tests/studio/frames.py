"""Measure how smoothly studios follow a slider, and how soon they are there.

    python -m tests.studio.frames [BUNDLE ...] [--seconds S]

For each bundle, by default the embedded one, and for a desktop and a phone: the first paint of a
single file and the moment it is live; then a slider is dragged with real pointer events. Prints a
Markdown table, with medians and 95th percentiles, and the load of the machine. The CPU time of the
page's main thread per frame hardly depends on that load: if it is below 16.7 ms, a quiet machine
shows 60 frames per second.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.studio.browser import Browser, served
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.studio.build import PageContent
from vae_runtime.studio.single_file import single_file

VIEWPORTS = {"desktop": (1440, 1000), "phone": (390, 844)}
STARTS = 3
LOAD = "/proc/loadavg"
# Records when frames with a new large image begin, and the milliseconds of its decodes, which are
# those of a single image.
RECORD = """(async () => {
  const { InferenceSession } = await import("./assets/ort.min.mjs");
  const record = window.record = { frames: [], decodes: [] };
  const { run } = InferenceSession.prototype;
  InferenceSession.prototype.run = async function (feeds) {
    const began = performance.now();
    const found = await run.call(this, feeds);
    if (feeds.z?.dims[0] === 1) record.decodes.push(performance.now() - began);
    return found;
  };
  let painted = false;
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...given) {
    if (this.canvas.matches(".stage canvas, .loupe:not([hidden])")) painted = true;
    return put.apply(this, given);
  };
  const tick = (now) => {
    if (painted) record.frames.push(now);
    painted = false;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
})()"""


def start(browser: Browser, page: Path, size: tuple[int, int]) -> tuple[float, float]:
    """Return the median seconds until a single file is painted, and until it is live."""
    times = []
    for _ in range(STARTS):
        browser.open(page.as_uri(), width=size[0], height=size[1])
        entries = "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
        entries += " performance.getEntriesByName('live')[0].startTime]"
        times.append(browser.eval(entries))
    painted, live = np.median(times, 0) / 1e3
    return float(painted), float(live)


def drag(browser: Browser, url: str, size: tuple[int, int], seconds: float) -> dict[str, Any]:
    """Drag the first slider; return the recorded times, and the CPU time of the page, in ms."""
    browser.open(url, width=size[0], height=size[1])
    browser.eval("for (const fold of document.querySelectorAll('.fold')) fold.open = true; null")
    browser.settle()
    browser.eval(RECORD)
    cpu = browser.step("sweep", selector=".slider input", seconds=seconds)
    found: dict[str, Any] = browser.eval("window.record")
    return found | {"cpu": 1e3 * cpu}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("bundles", nargs="*", default=["mnist"])
    parser.add_argument("--seconds", type=float, default=4)
    chosen = parser.parse_args()
    browser = Browser("chrome")
    print(f"{os.cpu_count()} cores, load before: {Path(LOAD).read_text().strip()}\n")
    print(
        "| model | screen | first paint, s | live, s | frames per s | between frames, ms "
        "| decode, ms | CPU per frame, ms |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    try:
        for name in chosen.bundles:
            content = PageContent(open_bundle(name), name)
            for screen, size in VIEWPORTS.items():
                with tempfile.TemporaryDirectory() as folder, served(content) as url:
                    page = Path(folder) / "studio.html"
                    page.write_bytes(single_file(content))
                    painted, live = start(browser, page, size)
                    found = drag(browser, url, size, chosen.seconds)
                gaps = np.diff(found["frames"])
                rate = 1e3 / gaps.mean()
                between, decode = (
                    f"{np.median(times):.1f} / {np.percentile(times, 95):.1f}"
                    for times in (gaps, found["decodes"])
                )
                print(f"| {Path(name).stem} | {screen} | {painted:.2f} | {live:.2f} | {rate:.0f} "
                      f"| {between} | {decode} | {found['cpu'] / len(found['frames']):.1f} |",
                      flush=True)  # fmt: skip
    finally:
        browser.close()
    print(f"\nload after: {Path(LOAD).read_text().strip()}")


if __name__ == "__main__":
    main()
