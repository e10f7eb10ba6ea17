"""`sample` and `reconstruct`: the files they write and the lines they print."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from vae_runtime.images import encode_image, to_uint8

from .conftest import Run

pytestmark = pytest.mark.torch_free


def pixels(path: str | Path) -> Any:
    return np.asarray(Image.open(path))


def test_sample_writes_a_grid(run: Run, cvae_path: Path, cvae: vae.Autoencoder) -> None:
    done = run("sample", "-b", cvae_path, "--digit", 3, "-n", 4, "--seed", 0, "--scale", 1)
    assert (done.code, done.out) == (0, b"")
    assert done.err == "wrote 4 images to sample.png (seed 0)\n"
    expected = to_uint8(cvae.sample(4, label=3, seed=0))[:, 0]
    found = pixels("sample.png")
    assert found.shape == (18, 18)
    assert np.array_equal(found[:8, :8], expected[0])
    assert np.array_equal(found[10:, 10:], expected[3])


def test_sample_of_several_classes_has_one_row_per_class(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-l", 1, "-l", "7", "-n", 3, "--scale", 1, "-o", "g.png")
    assert done.code == 0
    assert pixels("g.png").shape == (18, 28), "labels would be higher than a row"
    run("sample", "-b", cvae_path, "-l", 1, "-l", "7", "-n", 3, "-o", "g.png")
    labelled = pixels("g.png")
    assert labelled.shape[0] == 18 * 8
    margin = labelled.shape[1] - 28 * 8
    assert margin > 0
    assert labelled[:64, :margin].max() == labelled[80:, :margin].max() == 200
    run("sample", "-b", cvae_path, "-l", 1, "-l", "7", "-o", "two.png")
    assert pixels("two.png").shape[0] > 64, "one of each class, with captions"
    assert run("sample", "-b", cvae_path, "--digit", "all", "-n", 2, "-o", "all.npz").code == 0
    with np.load("all.npz") as file:
        assert file["labels"].tolist() == np.repeat(range(10), 2).tolist()


def test_sample_writes_images_latents_and_labels_to_npz(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-l", 3, "-n", 600, "--seed", 1, "-o", "s.npz", "--json")
    summary = json.loads(done.out)
    assert summary == {
        "out": "s.npz", "n": 600, "seed": 1, "labels": ["3"], "device": "cpu",
    }  # fmt: skip
    with np.load("s.npz") as file, vae.load(cvae_path) as model:
        assert sorted(file.files) == ["images", "labels", "z"]
        assert np.array_equal(file["images"], model.sample(600, 3, seed=1))
        assert np.array_equal(file["z"], model.sample_latents(600, 3, seed=1))
        assert (file["labels"] == 3).all()
    assert run("sample", "-b", cvae_path, "--latents", "s.npz", "-o", "again.npy").code == 0
    with np.load("s.npz") as file:
        assert np.array_equal(np.load("again.npy"), file["images"])


def test_sample_as_npy_csv_and_folder(run: Run, cvae_path: Path, cvae: vae.Autoencoder) -> None:
    expected = cvae.sample(300, label=None, seed=4)
    for out in ("s.npy", "s.csv", "folder"):
        assert run("sample", "-b", cvae_path, "-n", 300, "--seed", 4, "-o", out).code == 0
    assert np.array_equal(np.load("s.npy"), expected)
    rows = np.loadtxt("s.csv", delimiter=",", dtype=np.uint8)
    assert np.array_equal(rows, to_uint8(expected).reshape(300, -1))
    files = sorted(Path("folder").iterdir())
    assert [f.name for f in files[:2]] == ["000.png", "001.png"]
    assert len(files) == 300
    assert np.array_equal(pixels(files[299]), to_uint8(expected)[299, 0])


def test_the_same_seed_gives_the_same_file(run: Run, cvae_path: Path) -> None:
    for out in ("a", "b"):
        for kind in ("png", "npz", "npy", "csv", "webp", "jpg"):
            run("sample", "-b", cvae_path, "-l", 2, "-n", 5, "--seed", 9, "-o", f"{out}.{kind}")
    for kind in ("png", "npz", "npy", "csv", "webp", "jpg"):
        assert Path(f"a.{kind}").read_bytes() == Path(f"b.{kind}").read_bytes(), kind


def test_sample_without_a_seed_reports_the_seed(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-o", "a.npy")
    seed = done.err.rstrip(")\n").rpartition(" ")[2]
    run("sample", "-b", cvae_path, "-o", "b.npy", "--seed", seed)
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()


def test_prior_options(run: Run, cvae_path: Path, cvae: vae.Autoencoder) -> None:
    run("sample", "-b", cvae_path, "-l", 1, "-n", 3, "--seed", 0, "--prior", "normal",
        "--temperature", 0.5, "--truncation", 1, "-o", "s.npy")  # fmt: skip
    expected = cvae.sample(3, 1, seed=0, prior="normal", temperature=0.5, truncation=1)
    assert np.array_equal(np.load("s.npy"), expected)


def test_an_image_on_standard_output(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-l", 1, "--seed", 0, "-o", "-")
    assert Image.open(io.BytesIO(done.out)).size == (64, 64), "enlarged, so that people can see it"
    done = run("sample", "-b", cvae_path, "-l", 1, "--seed", 0, "-o", "-", "-f", "npy", "-n", 3)
    assert np.load(io.BytesIO(done.out)).shape == (3, 1, 8, 8)
    assert not list(Path().iterdir())


def test_show_prints_the_images_and_writes_no_file(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-l", 0, "--seed", 0, "--show")
    text = done.out.decode()
    assert "\x1b" not in text, "no escapes where nobody looks"
    assert set(text) <= set(" .:-=+*#%@\n")
    assert len(text.splitlines()) == 4
    assert done.err == "1 image (seed 0)\n"
    assert not list(Path().iterdir())
    assert run("sample", "-b", cvae_path, "--show", "-o", "s.png").out
    assert Path("s.png").exists()


def test_reconstruct_shows_originals_results_and_error(
    run: Run, cvae_path: Path, digits: Path
) -> None:
    done = run("reconstruct", digits, "-b", cvae_path, "--scale", 1)
    assert done.code == 0
    assert done.err.startswith("wrote 8 reconstructions to reconstruction.png: mean squared error ")
    found = pixels("reconstruction.png")
    assert found.shape == (28, 78)
    above, middle, below = (found[i : i + 8, :8].astype(int) for i in (0, 10, 20))
    assert np.array_equal(above, pixels(digits / "00.png"))
    assert np.abs(below - np.abs(above - middle)).max() <= 1
    run("reconstruct", digits, "-b", cvae_path, "--scale", 1, "--no-error", "--columns", 4)
    assert pixels("reconstruction.png").shape == (38, 38)


def test_an_exact_enlargement_is_reduced(run: Run, cvae_path: Path) -> None:
    run("sample", "-b", cvae_path, "--seed", 0, "-o", "large.png")
    run("sample", "-b", cvae_path, "--seed", 0, "--scale", 1, "-o", "small.png")
    assert (pixels("large.png").shape, pixels("small.png").shape) == ((64, 64), (8, 8))
    for name in ("large", "small"):
        assert run("encode", f"{name}.png", "-b", cvae_path, "-o", f"{name}.npy").code == 0
    assert np.array_equal(np.load("large.npy"), np.load("small.npy"))
    changed = pixels("large.png").copy()
    changed[0, 0] ^= 1
    Image.fromarray(changed).save("changed.png")
    done = run("encode", "changed.png", "-b", cvae_path)
    assert done.error.startswith("error: changed.png: 64×64 pixels, 1 channel; the model takes 8×8")


def test_reconstruct_reports_each_error(run: Run, cvae_path: Path, digits: Path) -> None:
    done = run("reconstruct", digits, "-b", cvae_path, "-o", "r.npz", "--json")
    summary = json.loads(done.out)
    with np.load("r.npz") as file:
        error = ((file["images"] - file["originals"]).astype(np.float64) ** 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(file["mse"], error)
    assert [row["mse"] for row in summary["images"]] == pytest.approx(error.tolist())
    assert summary["images"][0]["name"] == str(digits / "00.png")
    assert summary["device"] == "cpu"


@pytest.mark.parametrize("kind", ["npy", "npz", "idx", "gz", "folder", "stdin", "stdin npy"])
def test_images_are_read_from_every_source(
    run: Run, cvae_path: Path, cvae: vae.Autoencoder, tmp_path: Path, kind: str
) -> None:
    import gzip

    images = cvae.sample(3, label=5, seed=0, dtype="uint8")
    header = bytes([0, 0, 8, 3, *(3).to_bytes(4), *(8).to_bytes(4), *(8).to_bytes(4)])
    npy = io.BytesIO()
    np.save(npy, images)
    stdin, n = b"", 3
    source: Any = tmp_path / kind
    if kind == "npy":
        source = tmp_path / "x.npy"
        source.write_bytes(npy.getvalue())
    elif kind == "npz":
        source = tmp_path / "x.npz"
        np.savez(source, images=images)
    elif kind in ("idx", "gz"):
        source = tmp_path / f"t10k-images-idx3-ubyte{'.gz' if kind == 'gz' else ''}"
        raw = header + images.tobytes()
        source.write_bytes(gzip.compress(raw) if kind == "gz" else raw)
    elif kind == "folder":
        source.mkdir()
        (source / "t10k-images-idx3-ubyte").write_bytes(header + images.tobytes())
    else:
        source, n = "-", (1 if kind == "stdin" else 3)
        stdin = encode_image(images[0]) if kind == "stdin" else npy.getvalue()
    done = run("reconstruct", source, "-b", cvae_path, "-o", "r.npz", stdin=stdin)
    assert done.code == 0, done.err
    with np.load("r.npz") as file:
        assert np.array_equal(to_uint8(file["originals"]), images[:n])


def test_a_colour_image_for_a_grey_model_is_converted_with_a_message(
    run: Run, cvae_path: Path
) -> None:
    Image.new("RGB", (8, 8), (200, 100, 50)).save("c.png")
    done = run("reconstruct", "c.png", "-b", cvae_path, "-o", "r.npz")
    assert done.code == 0
    assert done.err.splitlines()[0] == "note: c.png: colour is converted to grey"
    with np.load("r.npz") as file:
        assert set(to_uint8(file["originals"]).ravel().tolist()) == {124}
