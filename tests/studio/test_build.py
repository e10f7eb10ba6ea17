"""A studio as one file and as a folder: its content, its size and its policy."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from tests.runtime.conftest import Run
from tests.runtime.conftest import run as run
from vae_runtime.autoencoder import Autoencoder
from vae_runtime.bundle.reader import EMBEDDED, open_bundle
from vae_runtime.datasets import Dataset
from vae_runtime.errors import FileError, InputError, StateError
from vae_runtime.studio import build, fetch
from vae_runtime.studio.build import (
    ENGINE,
    PageContent,
    encode_points,
    first_pictures,
    folder_files,
    page_files,
    write_folder,
)
from vae_runtime.studio.single_file import link_modules, seven_bits, single_file

DATA = Path(__file__).parents[1] / "data"
MAX_PAGE = 7_000_000  # bytes of a page for the embedded bundle
ADDRESS = re.compile(r"""(?:src|href|action|poster|data)\s*=\s*["']?\s*(?:https?:)?//""", re.I)


def content_of(path: Path = DATA / "cvae_mlp.zip") -> PageContent:
    return PageContent(open_bundle(path), path.name)


def code(source: bytes) -> str:
    """A module's code without comments and template literals."""
    return re.sub(r"/\*.*?\*/|`[^`]*`", "", source.decode(), flags=re.S)


def unpacked(page: bytes, name: str = "payload") -> bytes:
    """Unpack an element of a single file, as its script does."""
    element = rf'<script type="text/plain" id="{name}" data-size="(\d+)">(.*?)</'
    found = re.search(element, page.decode(), re.S)
    assert found is not None
    groups: list[int] = []
    for code in map(ord, found[2]):
        groups += [code] if code < 128 else [(0x00, 0x0D, 0x3C)[(code >> 7) - 1], code & 127]
    bits = np.unpackbits(np.array(groups, np.uint8)[:, None], axis=1)[:, 1:].ravel()
    return gzip.decompress(np.packbits(bits).tobytes()[: int(found[1])])


@pytest.mark.parametrize("raw", [
    b"", b"\0", b"<", b"\r", b"\0" * 50, b"<" * 50, bytes(range(256)), b"</script><!--\r\n\0",
    np.random.default_rng(0).bytes(10_000),
])  # fmt: skip
def test_seven_bits_per_character_survive_in_a_script_element(raw: bytes) -> None:
    text = seven_bits(raw)
    assert not set(text) & set(b"\0\r<")
    page = b'<script type="text/plain" id="payload" data-size="%d">%s</' % (
        len(packed := gzip.compress(raw)), seven_bits(packed),
    )  # fmt: skip
    assert unpacked(page) == raw
    assert len(text) <= len(raw) * 8 / 7 + 3
    text.decode("utf-8")


def test_a_single_file_is_complete_and_loads_nothing(studio_folder: Path) -> None:
    path = EMBEDDED / "mnist.zip"
    page = single_file(content_of(path))
    print(f"\n{len(page):,} bytes")
    assert len(page) <= MAX_PAGE
    text = page.decode()
    assert not ADDRESS.search(re.sub(r"<script.*?</script>", "", text, flags=re.S))
    head, _, rest = unpacked(page).partition(b"\n")
    index = json.loads(head)
    files = {}
    for name, size in index["files"]:
        files[name], rest = rest[:size], rest[size:]
    assert index["name"] == "mnist.zip"
    assert set(index["modules"]) <= files.keys()
    for name in index["modules"]:
        for wanted in re.findall(
            r'^(?:import|export)\b[^;]*?from\s*"([^"]+)"', code(files[name]), re.M
        ):
            assert wanted.removeprefix("studio:") in files, (name, wanted)
    assert unpacked(page, "wasm")[:4] == b"\0asm"
    # The bundle's files are interleaved in blocks.
    found = {name: bytearray() for name, _ in index["bundle"]}
    while rest:
        for name, size in index["bundle"]:
            part = min(index["block"], size - len(found[name]))
            found[name] += rest[:part]
            rest = rest[part:]
    assert found == {n: bytearray(r) for n, r in open_bundle(path).read_all().items()}


@pytest.mark.parametrize("name", ["cvae_mlp", "vae_conv"])
def test_the_first_pictures_come_before_the_engine(studio_folder: Path, name: str) -> None:
    """They are those of Python's seeds, and the page begins with the first of them."""
    content = content_of(DATA / f"{name}.zip")
    page = single_file(content).decode()
    early = page[: page.index('id="wasm"')]
    found = [
        np.asarray(Image.open(io.BytesIO(b64decode(text))))
        for text in re.findall(r'src="data:image/png;base64,([^"]+)"', early)
    ]
    with vae.load(DATA / f"{name}.zip", device="cpu") as model:
        label = 3 if model.spec.classes else None
        image = model.sample(1, label, seed=0, dtype="uint8")[0, 0]
    np.testing.assert_array_equal(found[0], image)
    assert len(found) == (12 if label else 2)
    assert early.count("<main") == 1
    assert folder_files(content)["index.html"].count(b"data:image/png") == len(found)
    assert len(early) < 100_000


def test_a_bundle_that_onnxruntime_refuses_has_no_first_pictures(
    studio_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InputError("refused")

    monkeypatch.setattr(Autoencoder, "decode", refuse)
    assert first_pictures(open_bundle(DATA / "cvae_mlp.zip")) == ""


def test_the_policy_of_a_single_file_names_its_own_script_and_style(studio_folder: Path) -> None:
    text = single_file(content_of()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src ")
    inline = re.findall(r'<script type="module">(.*?)</script>|<style>(.*?)</style>', text, re.S)
    assert len(inline) == 2
    for script, style in inline:
        digest = b64encode(hashlib.sha256((script or style).encode()).digest()).decode()
        assert f"{'script' if script else 'style'}-src 'sha256-{digest}'" in policy[1]
    assert "http:" not in policy[1]
    assert "unsafe-inline" not in policy[1]
    assert "unsafe-eval'" not in policy[1].replace("'wasm-unsafe-eval'", "")
    # The policy must come before everything that it governs.
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_the_same_bundle_gives_the_same_page(studio_folder: Path) -> None:
    assert single_file(content_of()) == single_file(content_of())


def test_no_text_of_a_manifest_becomes_markup(studio_folder: Path, tmp_path: Path) -> None:
    from tests.security.rechecksum import read_files, with_checksums
    from vae_runtime.bundle.archive import pack
    from vae_runtime.bundle.manifest import NAME

    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    files = read_files(DATA / "cvae_mlp.zip")
    manifest = json.loads(files[NAME])
    manifest["classes"][0] = evil
    path = tmp_path / f"{evil[2:8]}<b>.zip"
    path.write_bytes(pack(with_checksums(files, manifest)))
    page, folder = single_file(content_of(path)), folder_files(content_of(path))
    assert b"alert(1)" not in page
    assert b"<b>" not in page
    assert b"alert(1)" not in folder["index.html"]
    assert page.count(b"</script") == single_file(content_of()).count(b"</script")


def test_a_folder_has_no_inline_script_and_no_other_origin(
    studio_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "site"
    assert write_folder(content_of(), target) == sum(
        p.stat().st_size for p in target.rglob("*") if p.is_file()
    )
    page = (target / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=", page)
    assert not ADDRESS.search(page)
    assert "script-src 'self' 'wasm-unsafe-eval'; style-src 'self'" in page
    assert (target / "bundle.zip").read_bytes() == (DATA / "cvae_mlp.zip").read_bytes()
    for path in (*target.glob("*.css"), *target.glob("[eub]*/**/*.js")):
        assert not re.search(r"https?://(?!www\.w3\.org/)", path.read_text()), path
    with np.load(io.BytesIO((target / "points.npz").read_bytes())) as points:
        assert points["z"].shape == (0, 0)
    write_folder(content_of(), target)  # replaces an earlier studio


def test_points_are_latents_of_the_data_with_its_labels(studio_folder: Path) -> None:
    bundle = open_bundle(DATA / "cvae_mlp.zip")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, *bundle.manifest.spec.image.shape), np.uint8)
    labels = np.arange(50) % len(bundle.manifest.spec.classes)
    data = Dataset("d", images, labels, bundle.manifest.spec.classes)
    latents, found = encode_points(bundle, data, 10)
    assert latents.shape == (10, bundle.manifest.spec.latent_dim)
    assert found is not None
    np.testing.assert_array_equal(found, labels[np.linspace(0, 49, 10).astype(int)])
    with pytest.raises(InputError, match=r"^d: images are \(1, 3, 3\) \(C, H, W\), the bundle's"):
        encode_points(bundle, Dataset("d", images[:, :, :3, :3]), 10)


def test_without_onnxruntime_web_one_line_says_what_to_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vae_runtime.studio.build.present", lambda: False)
    ran = run("studio", "--out", "x.html")
    assert ran.code == 2
    assert ran.error == (
        "error: the studio needs onnxruntime-web, not fetched yet. Run: "
        "python -m vae_runtime.studio.fetch (needs npm and a network)"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"^npm is not installed\. Install Node\.js 20"):
        fetch.fetch(tmp_path / "assets")


def test_fetching_needs_only_the_standard_library(tmp_path: Path) -> None:
    """Building a wheel runs it without our dependencies."""
    for name in ("fetch.py", "package.json", "package-lock.json"):  # and no assets
        shutil.copy(fetch.HERE / name, tmp_path)
    command = [sys.executable, "-I", "-S", tmp_path / "fetch.py"]
    done = subprocess.run(
        command, env={"PATH": str(tmp_path / "none")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: npm is not installed. Install Node.js 20 or newer, then run: "
        "python -m vae_runtime.studio.fetch\n"
    )


def test_another_version_of_onnxruntime_web_is_not_accepted(
    studio_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "assets"
    assert not fetch.present(folder)
    shutil.copytree(fetch.ASSETS, folder)
    assert fetch.present(folder)
    script = (folder / fetch.ORT).read_text()
    (folder / fetch.ORT).write_text(script.replace("v1.30.0", "v1.29.0", 1))
    assert not fetch.present(folder)


def test_the_licence_accompanies_onnxruntime_web(studio_folder: Path) -> None:
    notice = b"The above copyright notice and this permission notice shall be included"
    assert notice in single_file(content_of())
    assert notice in folder_files(content_of())["ATTRIBUTION.md"]


def test_the_lock_file_pins_one_version_and_names_no_host() -> None:
    lock = (fetch.HERE / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert packages["node_modules/onnxruntime-web"]["version"] == "1.30.0"
    assert "://" not in lock
    assert all(p["integrity"].startswith("sha512-") for name, p in packages.items() if name)


def test_modules_come_after_what_they_import() -> None:
    sources = {
        "a/x.js": b'import { y } from "./y.js";\nimport {\n  z,\n} from "../b/z.js";\n',
        "a/y.js": b'export { z } from "../b/z.js";\n// from "./nothing.js"\n',
        "b/z.js": b'export const z = "from \\"./x.js\\"";\n',
        "c.js": b"",
    }
    ordered = link_modules(sources, "a/x.js")
    assert list(ordered) == ["b/z.js", "a/y.js", "a/x.js"]
    assert ordered["a/x.js"].startswith(b'import { y } from "studio:a/y.js";')
    assert ordered["b/z.js"] == sources["b/z.js"]
    with pytest.raises(StateError, match=r"a/x\.js → a/y\.js → a/x\.js: the last module"):
        link_modules(
            sources | {"a/y.js": b'import "./q.js";\nimport { x } from "./x.js";\n'}, "a/x.js"
        )


def test_scripts_have_at_most_300_lines() -> None:
    folders = (fetch.HERE / "boot", fetch.HERE / "ui", ENGINE)
    files = [path for folder in folders for path in folder.glob("*.js")]
    assert len(files) > 30
    assert not [p.name for p in files if len(p.read_text().splitlines()) > 300]


def test_every_import_of_the_page_is_found(studio_folder: Path) -> None:
    """All imports have a form that a single file can link."""
    files = page_files()
    modules = link_modules(files, "boot/run.js")
    for path in modules.keys() - {"assets/ort.min.mjs", "assets/gifenc.js"}:
        text = code(files[path])
        assert "import(" not in text
        assert "import.meta" not in text
        count = len(re.findall(r"^(?:import|export)\b[^;]*?from\s", text, re.M))
        assert modules[path].count(b'"studio:') == count, path
    ui = {path for path in files if path.startswith(("ui/", "engine/"))}
    assert ui <= modules.keys(), ui - modules.keys()


def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, files = (
        tmp_path / "new" / "studio",
        dict.fromkeys(
            ("index.html", "page.json", "boot/a.js", "boot/b.js", "ui/c.js", "bundle.zip"), b"old"
        ),
    )
    monkeypatch.setattr(build, "folder_files", lambda _: files)
    write_folder(content_of(), folder)
    (folder / "CNAME").write_text("digits.example")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")

    def found() -> dict[str, bytes]:
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    before, real = found(), Path.write_bytes
    assert before == files | {"CNAME": b"digits.example", ".git/HEAD": b"ref"}
    files = dict.fromkeys(files, b"new")

    def fail_in_the_middle(path: Path, raw: bytes) -> int:
        if path.name == "b.js":
            raise OSError(28, "No space left on device")
        return real(path, raw)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail_in_the_middle)
        with pytest.raises(FileError, match=r"disk full, previous folder kept$"):
            write_folder(content_of(), folder)
    assert found() == before
    assert [path.name for path in folder.parent.iterdir()] == ["studio"]
    assert write_folder(content_of(), folder) == 3 * len(files)
    assert found() == before | files, "other files are kept"
