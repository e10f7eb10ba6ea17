"""The latent studio in a browser as a host: its single file, opened from disk.

The page measures itself: parity with the bundle's golden vectors, and the time of one decode.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from .host import Missing, Row, Vectors


def studio(vectors: Vectors) -> Row:
    """Measure onnxruntime-web in Chromium.

    Raises:
        Missing: no browser, or the studio's packages were not fetched yet.
    """
    page = vectors.work / "studio.html"
    page.write_bytes(_single_file(vectors))
    browser = _browser()
    try:
        begin = time.perf_counter()
        browser.step("open", url=page.as_uri())
        browser.wait("document.querySelector('canvas')")
        start = time.perf_counter() - begin
        browser.wait("document.querySelector('#badge.good, #badge.bad')")
        browser.wait(r"/\d/.test(document.querySelector('#speed').textContent)")
        error = float(browser.eval("document.querySelector('#badge').dataset.error"))
        speed = browser.eval("document.querySelector('#speed').textContent")
    finally:
        browser.close()
    ms = float(re.findall(r"[\d.]+", speed)[0])
    size = page.stat().st_size
    return Row("Browser, onnxruntime-web", "vae-run studio", size, start, ms, error)


def _browser() -> Any:
    try:
        from tests.studio.browser import Browser

        return Browser("chrome")
    except ImportError as error:
        raise Missing(f"the studio's tests are not here: {error}") from error
    except pytest.skip.Exception as reason:
        raise Missing(str(reason)) from reason


def _single_file(vectors: Vectors) -> bytes:
    try:
        from vae_runtime.studio.build import PageContent
        from vae_runtime.studio.single_file import single_file

        return bytes(single_file(PageContent(vectors.bundle, "mnist")))
    except ImportError as reason:  # such as MissingExtra, if onnxruntime-web was not fetched
        raise Missing(str(reason)) from reason
