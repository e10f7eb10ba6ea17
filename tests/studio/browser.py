"""Drive a real browser from Python; each method is one step of `driver.mjs`."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vae_runtime.studio.build import PageContent, folder_files
from vae_runtime.studio.serve import StudioServer

HERE = Path(__file__).parent
BROWSERS = {"chrome": ("chromium", "google-chrome"), "firefox": ("firefox-esr", "firefox")}


@contextmanager
def served(content: PageContent) -> Iterator[str]:
    """Serve a page with the policy of `vae-run studio`; yield its address."""
    server = StudioServer(folder_files(content))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.url
    server.shutdown()
    server.server_close()


class Browser:
    """One browser process; `open` loads a fresh page."""

    def __init__(self, kind: str) -> None:
        node = shutil.which("node")
        path = next(filter(None, map(shutil.which, BROWSERS[kind])), None)
        if node is None or path is None:
            pytest.skip(f"no {'Node.js' if node is None else kind}")
        if not (HERE / "node_modules").is_dir():
            pytest.skip("no puppeteer-core: run npm ci --prefix tests/studio")
        self.kind = kind
        self._process = subprocess.Popen(
            [node, HERE / "driver.mjs", kind, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self, name: str, **given: Any) -> Any:
        """Run one step; an exception in the page fails the test."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"step": name, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, url: str, *, moving: bool = False, **given: Any) -> None:
        """Open a studio; wait until the first image is painted and the badge has its number.

        Unless `moving`, the large image does not move on its own, so that the page settles.
        """
        calm = {} if moving else {"prefers-reduced-motion": "reduce"}
        self.step("open", url=url, media=calm | given.pop("media", {}), **given)
        self.wait("document.querySelector('#badge.good, #badge.bad, #refusal')")
        if not moving:
            self.settle()

    def eval(self, js: str) -> Any:
        return self.step("eval", js=js)

    def text(self, selector: str) -> str:
        """Return the text of the first element that matches."""
        return str(self.eval(f"document.querySelector({json.dumps(selector)}).textContent"))

    def wait(self, js: str) -> None:
        self.step("wait", js=js)

    def click(self, selector: str, **given: Any) -> None:
        self.step("click", selector=selector, **given)

    def keys(self, *keys: str) -> None:
        self.step("keys", keys=keys)

    def settle(self) -> None:
        """Wait until nothing has been decoded for a while."""
        self.eval(
            """(async () => {
              for (let calm = 0; calm < 4; calm++) {
                await new Promise((done) => setTimeout(done, 60));
                if (document.querySelector("[aria-busy=true]")) calm = -1;
              }
            })()"""
        )

    def latents(self) -> NDArray[np.float32]:
        """Read the latents that the page shows as float32."""
        return np.array(self.z(), np.float32)

    def z(self) -> list[float]:
        """Read the latents that the page shows from the program that it lists."""
        numbers = self.text("#listing").partition("np.array([")[2].partition("]")[0]
        return [float(number) for number in numbers.split(",") if number.strip()]

    def pixels(self, selector: str) -> list[int]:
        """Read the red bytes of a canvas after scrolling to it; other canvases are not decoded."""
        self.eval(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
        self.settle()
        found: list[int] = self.eval(
            f"""(() => {{
              const canvas = document.querySelector({json.dumps(selector)});
              const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              return [...data.data].filter((_, i) => i % 4 === 0);
            }})()"""
        )
        return found

    def errors(self) -> list[str]:
        """Return console errors, exceptions and violations of the policy since `open`."""
        found: list[str] = self.step("errors")
        return found

    def close(self) -> None:
        with self._process as process:  # closes its pipes
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)
