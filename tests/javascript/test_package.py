"""The npm package: its tests under Node, and the README's programs where only it is installed."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import vae_runtime as vae
from tests.javascript.conftest import HERE, PACKAGE, npm_pack
from tests.studio.browser import BROWSERS, Browser

BUNDLE = HERE.parent / "data" / "cvae_conv.zip"
README = (PACKAGE / "README.md").read_text()
MANIFEST = json.loads((PACKAGE / "package.json").read_text())


def program(language: str) -> str:
    """The first program of the README in a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.S)
    assert found is not None
    assert len(re.sub(r"</?script.*?>\n", "", found[1]).splitlines()) == 5 - (language == "html")
    return found[1]


def npm(*words: str | Path, cwd: Path) -> str:
    """Run npm; skip the test if the registry cannot be reached."""
    command = ["npm", *map(str, words), "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode and re.search("EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT", done.stderr):
        pytest.skip("npm's registry cannot be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tarball(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npm_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds only the installed package and a bundle."""
    folder = tmp_path_factory.mktemp("empty")
    npm("install", tarball, cwd=folder)
    shutil.copy(BUNDLE, folder / "cvae.zip")
    return folder


def three() -> NDArray[np.uint8]:
    """Python's 3 of seed 0, uint8 [H, W]."""
    pixels: NDArray[np.uint8] = vae.load(BUNDLE).sample(1, label=3, seed=0, dtype="uint8")[0, 0]
    return pixels


def check_picture(path: Path, scale: int = 8) -> None:
    """Another kernel may round a pixel to the next level."""
    with Image.open(path) as image:
        found = np.asarray(image.convert("L"))
    expected = three().repeat(scale, axis=0).repeat(scale, axis=1)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_tests_under_node_pass(node: str) -> None:
    tests = [str(path) for path in sorted(HERE.glob("*.test.mjs"))]
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    count = re.search(r"^# pass (\d+)$", done.stdout, re.M)
    assert count is not None
    assert int(count[1]) >= 9


def test_the_package_has_the_version_and_the_licence_of_the_project() -> None:
    assert MANIFEST["version"] == vae.__version__
    assert MANIFEST["license"] == "Apache-2.0"
    assert list(MANIFEST["dependencies"]) == ["onnxruntime-web"]
    assert MANIFEST["peerDependenciesMeta"] == {"onnxruntime-node": {"optional": True}}


def test_the_lock_file_names_no_host() -> None:
    lock = (PACKAGE / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert "://" not in re.sub(r'"url": "[^"]+"', "", lock)
    assert all("integrity" in entry for name, entry in packages.items() if name)


@pytest.mark.slow
def test_five_lines_draw_a_3_under_node(node: str, installed: Path) -> None:
    (installed / "three.mjs").write_text(program("js"))
    subprocess.run([node, "three.mjs"], cwd=installed, check=True)
    check_picture(installed / "three.png")


@pytest.mark.slow
def test_one_file_is_enough_under_node(node: str, installed: Path) -> None:
    blocks = re.findall(r"```js\n(.*?)```", README, re.S)
    for file, raw in vae.load(BUNDLE)._bundle.read_all().items():
        (installed / file).write_bytes(raw)
    check = "const apart = (a, b) => Math.max(...a.map((x, i) => Math.abs(x - b[i])));\n"
    check += 'if (!(apart(again, images) === 0 && apart(same, images) < 1e-5)) throw "differs";\n'
    check += "if (z.length !== 16 * encoder.spec.latentDim) throw z.length;"
    (installed / "graphs.mjs").write_text(blocks[1] + check)
    subprocess.run([node, "graphs.mjs"], cwd=installed, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["nodenext", "bundler"])
def test_five_lines_pass_tsc_strict_and_run(node: str, installed: Path, resolution: str) -> None:
    """The types are the package's own: JavaScript is not read, and libraries are checked."""
    if not (installed / "node_modules" / "typescript").is_dir():
        npm("install", f"typescript@{MANIFEST['devDependencies']['typescript']}", cwd=installed)
    module = "nodenext" if resolution == "nodenext" else "esnext"
    options = {"strict": True, "target": "es2023", "module": module, "allowJs": False,
               "moduleResolution": resolution, "lib": ["es2023", "dom", "dom.iterable"],
               "types": [], "skipLibCheck": False}  # fmt: skip
    config = {"compilerOptions": options, "files": ["three.mts"]}
    (installed / "tsconfig.json").write_text(json.dumps(config))
    (installed / "three.mts").write_text(program("ts"))
    tsc = installed / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([tsc], cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    printed = subprocess.run(
        [node, "three.mjs"], cwd=installed, capture_output=True, text=True, check=True
    ).stdout
    assert re.fullmatch(r"cvae\.zip: 10 classes, \d{3,} bytes of PNG\n", printed)
    wrong = program("ts").replace("label: 1 }", "labels: 1 }")
    (installed / "three.mts").write_text(wrong)
    done = subprocess.run([tsc], cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "'labels' does not exist in type 'SampleOptions'" in done.stdout


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for a page, its two files and a bundle, as the README describes."""
    folder = tmp_path_factory.mktemp("site")
    for file in re.findall(r"`(node_modules/[^`]+)`", README):
        shutil.copy(installed / file, folder)
    assert len(list(folder.iterdir())) == 2
    shutil.copy(BUNDLE, folder / "cvae.zip")
    (folder / "index.html").write_text(program("html"))
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROWSERS)
def test_a_page_from_two_files_draws_a_3_and_gives_torchs_outputs(
    kind: str, site: str, tmp_path: Path
) -> None:
    browser = Browser(kind)
    try:
        browser.step("open", url=site)
        browser.wait("document.querySelector('canvas')")
        url = browser.eval("document.querySelector('canvas').toDataURL()")
        golden, png, missing = browser.eval(
            """(async () => {
              const { load, toPNG } = await import("./vae-onnx.js");
              const zip = await (await fetch("cvae.zip")).arrayBuffer();
              const model = await load([new File([zip], "mine.zip")]);
              const images = await model.sample({ label: 3, seed: 0 });
              const png = await toPNG(images, model.image, { scale: 8 });
              const missing = await load("none.zip").catch((e) => `${e.name}: ${e.message}`);
              return [await model.golden({ variants: true }), [...png], missing];
            })()"""
        )
    finally:
        browser.close()
    (tmp_path / "canvas.png").write_bytes(base64.b64decode(url.partition(",")[2]))
    (tmp_path / "file.png").write_bytes(bytes(png))
    check_picture(tmp_path / "canvas.png")
    check_picture(tmp_path / "file.png")
    assert golden["ok"], golden
    assert golden["maxAbsError"] <= golden["tolerance"] == 1e-5
    assert missing == "NotFound: none.zip: the server answered 404. Check the address."
