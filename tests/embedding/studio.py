"""The latent studio in a browser as a host: its single file, opened from disk.

The page itself measures parity with the bundle's golden vectors. Decodes are timed with the engine
of the same page as a folder, because a single file hides its modules.
"""

from __future__ import annotations

import time

import pytest

from tests.studio.browser import Browser, served
from vae_runtime.errors import MissingExtra
from vae_runtime.studio.build import PageContent
from vae_runtime.studio.single_file import single_file

from .host import Missing, Row, Vectors

# The median of 200 calls, as in `host.time_calls`.
DECODE = """(async () => {
  const { load } = await import("./engine/index.js");
  const model = await load(await (await fetch("bundle.zip")).arrayBuffer());
  const z = model.sampleLatents({ seed: 0, label: 3 });
  const times = [];
  for (let i = 0; i < 200; i++) {
    const began = performance.now();
    await model.decode(z, 3);
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[100];
})()"""


def studio(vectors: Vectors) -> Row:
    """Measure onnxruntime-web in Chromium.

    Raises:
        Missing: no browser, or the studio's packages were not fetched yet.
    """
    page = vectors.work / "studio.html"
    content = PageContent(vectors.bundle, "mnist")
    try:
        page.write_bytes(single_file(content))
        browser = Browser("chrome")
    except (MissingExtra, pytest.skip.Exception) as reason:
        raise Missing(str(reason)) from reason
    try:
        begin = time.perf_counter()
        browser.step("open", url=page.as_uri())
        browser.wait("document.querySelector('canvas')")
        start = time.perf_counter() - begin
        browser.wait("document.querySelector('#badge.good, #badge.bad')")
        error = float(browser.eval("document.querySelector('#badge').dataset.error"))
        with served(content) as url:
            browser.open(url)
            ms = float(browser.eval(DECODE))
    finally:
        browser.close()
    size = page.stat().st_size
    return Row("Browser, onnxruntime-web", "vae-run studio", size, start, ms, error)
