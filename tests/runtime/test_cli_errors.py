"""The exact error line and exit code for every kind of wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.reader import embedded_names, open_bundle

from .conftest import Run, unpack

pytestmark = pytest.mark.torch_free


def test_no_such_bundle(run: Run) -> None:
    done = run("sample", "-b", "nowhere")
    names = ", ".join(embedded_names())
    known = f", or an embedded one: {names}" if names else ""
    assert (done.code, done.error) == (
        6,
        "error: nowhere: no such bundle. Expected a folder or .zip that vae-export wrote" + known,
    )


def test_a_folder_that_is_not_a_bundle(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = run("sample", "-b", "photos")
    assert (done.code, done.error) == (
        3,
        "error: photos: no manifest.json inside, so not a bundle. Expected what vae-export wrote.",
    )


def test_a_file_that_is_not_a_bundle(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"hello")
    done = run("sample", "-b", "x.bin")
    assert (done.code, done.error) == (
        3, "error: x.bin: not a zip and not a folder, so not a bundle",
    )  # fmt: skip


def test_a_graph_of_another_bundle(
    run: Run, cvae_path: Path, vae_path: Path, tmp_path: Path
) -> None:
    import hashlib

    unpack(vae_path, tmp_path / "b")
    other, own = open_bundle(cvae_path), open_bundle(vae_path)
    spec = other.manifest.graph("decoder")
    assert spec is not None
    raw = other.read(spec.file)
    (tmp_path / "b/decoder.onnx").write_bytes(raw)
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    for graph in manifest["graphs"]:
        if graph["file"] == "decoder.onnx":
            graph |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    del manifest["sha256"]
    (tmp_path / "b/manifest.json").write_bytes(
        manifest_with_checksum(json.dumps(manifest).encode())
    )
    done = run("sample", "-b", "b")
    a, b = other.manifest.spec.id, own.manifest.spec.id
    assert (done.code, done.error) == (
        3, f"error: b/decoder.onnx: belongs to bundle {a}, expected {b}. Export again.",
    )  # fmt: skip


def test_a_damaged_graph(run: Run, vae_path: Path, tmp_path: Path) -> None:
    unpack(vae_path, tmp_path / "b")
    raw = bytearray((tmp_path / "b/decoder.onnx").read_bytes())
    raw[1000] ^= 1
    (tmp_path / "b/decoder.onnx").write_bytes(raw)
    done = run("sample", "-b", "b")
    assert (done.code, done.error) == (
        4,
        "error: b/decoder.onnx: damaged: its bytes do not match the sha256 in the manifest. "
        "Copy or export the bundle again.",
    )


def test_a_newer_format(run: Run, vae_path: Path, tmp_path: Path) -> None:
    unpack(vae_path, tmp_path / "b")
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    (tmp_path / "b/manifest.json").write_text(json.dumps(manifest | {"format": "2.0"}))
    done = run("info", "b")
    assert (done.code, done.error) == (
        3,
        "error: b/manifest.json: bundle format 2.0, this runtime reads 1.0. "
        "Upgrade: pip install -U vae-onnx",
    )


def test_wrong_image_size(run: Run, cvae_path: Path) -> None:
    Image.new("L", (9, 7)).save("x.png")
    done = run("reconstruct", "x.png", "-b", cvae_path)
    assert (done.code, done.error) == (
        3,
        "error: x.png: 7×9 pixels, 1 channel; the model takes 8×8, 1. Use --resize.",
    )


def test_label_out_of_range(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "--digit", 10)
    assert (done.code, done.error) == (
        3, "error: label: 10 is out of range, expected 0 to 9",
    )  # fmt: skip


def test_unknown_label(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "--label", "cat")
    assert (done.code, done.error) == (
        2,
        "error: label: unknown class 'cat', expected one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    )


def test_a_label_for_a_model_without_classes(run: Run, vae_path: Path) -> None:
    done = run("sample", "-b", vae_path, "--digit", 3)
    assert (done.code, done.error) == (2, "error: this vae takes no label")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((1, 1, 8, 8), np.nan, np.float32), "float images run from nan to nan, expected "
         "finite numbers in [0, 1]. Remove NaN and infinity."),
        (np.full((1, 1, 8, 8), -1.0), "float images run from -1 to -1, expected [0, 1]. Store "
         "(images + 1) / 2."),
        (np.zeros((1, 1, 8, 9), np.float32),
         "images: shape [1, 1, 8, 9], expected [N, 1, 8, 8] or [N, 8, 8, 1]"),
    ],
)  # fmt: skip
def test_arrays(run: Run, cvae_path: Path, array: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    np.save("x.npy", array)
    done = run("encode", "x.npy", "-b", cvae_path)
    assert (done.code, done.error) == (3, f"error: x.npy: {message}")


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2"])
def test_floats_of_any_type_are_read_exactly(run: Run, cvae_path: Path, dtype: str) -> None:
    array = (np.arange(64) / 64).reshape(1, 1, 8, 8)  # exact in all of these types
    np.save("x.npy", array.astype(dtype))
    np.save("y.npy", array.astype(np.float32))
    for name in "xy":
        assert run("encode", f"{name}.npy", "-b", cvae_path, "-o", f"z{name}.npy").code == 0
    np.testing.assert_array_equal(np.load("zx.npy"), np.load("zy.npy"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.float32([[np.inf] * 6]), "z: inf at [0, 0], expected finite"),
        (np.zeros((1, 6)), "z: float64, expected float32. Convert: z.astype(np.float32)"),
        (np.zeros((1, 5), np.float32), "z: shape [1, 5], expected [N, 6]"),
    ],
)
def test_latents(run: Run, cvae_path: Path, array: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    np.save("z.npy", array)
    done = run("decode", "z.npy", "-b", cvae_path)
    assert (done.code, done.error) == (3, f"error: z.npy: {message}")


def test_an_empty_folder(run: Run, cvae_path: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = run("reconstruct", "none", "-b", cvae_path)
    assert (done.code, done.error) == (
        6, "error: none: no images (.png .jpg .jpeg .jfif .webp .bmp .gif .tif .tiff .pgm .ppm) in "
        "it or its sub-folders",
    )  # fmt: skip


def test_a_missing_image(run: Run, cvae_path: Path) -> None:
    done = run("reconstruct", "none.png", "-b", cvae_path)
    assert (done.code, done.error) == (6, "error: none.png: no such file")


def test_a_file_that_is_not_an_image(run: Run, cvae_path: Path) -> None:
    Path("x.png").write_bytes(b"hello")
    done = run("reconstruct", "x.png", "-b", cvae_path)
    assert (done.code, done.error) == (
        3, "error: x.png: not an image. Expected PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM",
    )  # fmt: skip


def test_nothing_on_standard_input(run: Run, cvae_path: Path) -> None:
    done = run("reconstruct", "-", "-b", cvae_path)
    assert (done.code, done.error) == (
        3, "error: standard input: empty, expected an image or an .npy array",
    )  # fmt: skip


@pytest.mark.parametrize("words", [(), ("batch",)])
def test_a_group_without_a_command_shows_its_help(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words)
    help_ = run(*words, "--help")
    assert done.err + done.out.decode() == help_.out.decode()
    assert "\n  sample " in help_.out.decode()
