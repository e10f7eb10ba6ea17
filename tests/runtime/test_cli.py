"""Each command does what it says: files written, facts printed, in this process."""

from __future__ import annotations

import csv
import io
import json
import zipfile
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


def test_sample_of_several_classes_is_a_row_each(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-l", 1, "-l", "7", "-n", 3, "--scale", 1, "-o", "g.png")
    assert done.code == 0
    assert pixels("g.png").shape == (18, 28)
    assert run("sample", "-b", cvae_path, "--digit", "all", "-n", 2, "-o", "all.npz").code == 0
    with np.load("all.npz") as file:
        assert file["labels"].tolist() == np.repeat(range(10), 2).tolist()


def test_sample_keeps_numbers_codes_and_labels(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-l", 3, "-n", 600, "--seed", 1, "-o", "s.npz", "--json")
    facts = json.loads(done.out)
    assert facts == {
        "out": "s.npz", "n": 600, "seed": 1, "labels": ["3"], "device": "cpu",
    }  # fmt: skip
    with np.load("s.npz") as file, vae.load(cvae_path) as model:
        assert sorted(file.files) == ["images", "labels", "z"]
        assert np.array_equal(file["images"], model.sample(600, 3, seed=1))
        assert np.array_equal(file["z"], model.draw(600, 3, seed=1))
        assert (file["labels"] == 3).all()
    assert run("sample", "-b", cvae_path, "--codes", "s.npz", "-o", "again.npy").code == 0
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


def test_sample_without_a_seed_says_which(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-o", "a.npy")
    seed = done.err.rstrip(")\n").rpartition(" ")[2]
    run("sample", "-b", cvae_path, "-o", "b.npy", "--seed", seed)
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()


def test_prior_options(run: Run, cvae_path: Path, cvae: vae.Autoencoder) -> None:
    run("sample", "-b", cvae_path, "-l", 1, "-n", 3, "--seed", 0, "--prior", "normal",
        "--temperature", 0.5, "--truncation", 1, "-o", "s.npy")  # fmt: skip
    expected = cvae.sample(3, 1, seed=0, prior="normal", temperature=0.5, truncation=1)
    assert np.array_equal(np.load("s.npy"), expected)


def test_payload_on_standard_output(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-l", 1, "--seed", 0, "-o", "-")
    assert Image.open(io.BytesIO(done.out)).size == (8, 8)
    done = run("sample", "-b", cvae_path, "-l", 1, "--seed", 0, "-o", "-", "-f", "npy", "-n", 3)
    assert np.load(io.BytesIO(done.out)).shape == (3, 1, 8, 8)
    assert not list(Path().iterdir())


def test_show_draws_and_writes_nothing(run: Run, cvae_path: Path) -> None:
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


def test_reconstruct_removes_noise(run: Run, cvae_path: Path, digits: Path) -> None:
    args = ("reconstruct", digits, "-b", cvae_path, "--noise", 0.4, "--scale", 1)
    done = run(*args, "-o", "a.png")
    assert "(of the noisy images 0." in done.err
    assert pixels("a.png").shape == (38, 78)
    run(*args, "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    run(*args, "--seed", 1, "-o", "b.png")
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()


def test_reconstruct_reports_each_error(run: Run, cvae_path: Path, digits: Path) -> None:
    done = run("reconstruct", digits, "-b", cvae_path, "-o", "r.npz", "--json")
    facts = json.loads(done.out)
    with np.load("r.npz") as file:
        error = ((file["images"] - file["originals"]).astype(np.float64) ** 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(file["errors"], error)
    assert [row["error"] for row in facts["images"]] == pytest.approx(error.tolist())
    assert facts["images"][0]["name"] == str(digits / "00.png")
    assert facts["device"] == "cpu"


@pytest.mark.parametrize("kind", ["npy", "npz", "idx", "gz", "folder", "stdin", "stdin npy"])
def test_images_are_read_from(
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


def test_a_colour_picture_for_a_grey_model_is_converted_and_said(run: Run, cvae_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 100, 50)).save("c.png")
    done = run("reconstruct", "c.png", "-b", cvae_path, "-o", "r.npz")
    assert done.code == 0
    assert done.err.splitlines()[0] == "note: c.png: colour to grey, as the model takes L"
    with np.load("r.npz") as file:
        assert set(to_uint8(file["originals"]).ravel().tolist()) == {124}


def test_traverse_strip_matrix_and_animations(run: Run, cvae_path: Path) -> None:
    with vae.load(cvae_path) as model:
        d = model.card.latent_dim
    run("traverse", "-b", cvae_path, "-l", 3, "--dim", 1, "--steps", 5, "--scale", 1, "-o", "s.png")
    assert pixels("s.png").shape == (8, 48)
    run("traverse", "-b", cvae_path, "-l", 3, "--steps", 5, "--scale", 1, "-o", "m.png")
    assert pixels("m.png").shape == (10 * d - 2, 48)
    for name in ("a.gif", "a.webp"):
        done = run("traverse", "-b", cvae_path, "-l", 3, "--steps", 5, "-o", name)
        assert done.err == f"wrote 5 steps of {d} dimensions to {name}\n"
        with Image.open(name) as movie:
            assert movie.n_frames == 8, "there and back"


def test_traverse_from_an_image(run: Run, cvae_path: Path, digits: Path) -> None:
    args = ("traverse", "-b", cvae_path, "--dim", 0, "--steps", 3, "-o", "t.npy")
    assert run(*args, "--from", digits / "10.png").code == 0
    with vae.load(cvae_path) as model:
        image = pixels(digits / "10.png")[None]
        assert np.array_equal(np.load("t.npy"), model.traverse(0, 3, image=image))


def test_interpolate_images_codes_and_seed(run: Run, cvae_path: Path, digits: Path) -> None:
    a, b = digits / "00.png", digits / "10.png"
    assert run("interpolate", a, b, "-b", cvae_path, "--steps", 4, "-o", "i.npy").code == 0
    with vae.load(cvae_path) as model:
        ends = model.encode(np.stack([pixels(a), pixels(b)]))
        expected = model.interpolate(ends[0], ends[1], 4)
        assert np.array_equal(np.load("i.npy"), expected)
        np.save("z.npy", ends)
        run("interpolate", "z.npy", "-b", cvae_path, "--steps", 4, "-o", "j.npy")
        assert np.array_equal(np.load("j.npy"), expected)
        run("interpolate", "z.npy", "-b", cvae_path, "--steps", 4, "--spherical", "-o", "k.npy")
        turned = model.interpolate(ends[0], ends[1], 4, how="spherical")
        assert np.array_equal(np.load("k.npy"), turned)
        done = run("interpolate", "-b", cvae_path, "-l", 3, "--seed", 2, "-o", "m.gif", "--json")
        assert json.loads(done.out)["steps"] == 9
    with Image.open("m.gif") as movie:
        assert movie.n_frames == 16


def test_encode_and_decode_are_a_round_trip(run: Run, vae_path: Path, tmp_path: Path) -> None:
    with vae.load(vae_path) as model:
        images = model.sample(5, seed=0, dtype="uint8")
        mu, log_var = model.posterior(images)
        np.save(tmp_path / "x.npy", images)
        done = run("encode", "x.npy", "-b", vae_path, "-o", "z.npz")
        assert done.err == (
            f"wrote 5 codes of {model.card.latent_dim} numbers to z.npz: "
            "64 bytes of pixels to 24 an image, ratio 2.7\n"
        )
        with np.load("z.npz") as file:
            assert np.array_equal(file["z"], mu)
            assert np.array_equal(file["log_var"], log_var)  # type: ignore[arg-type]
        for name in ("z.npy", "z.csv"):
            assert run("encode", "x.npy", "-b", vae_path, "-o", name).code == 0
        for name in ("z.npz", "z.npy", "z.csv"):
            assert run("decode", name, "-b", vae_path, "-o", "d.npy").code == 0
            assert np.array_equal(np.load("d.npy"), model.decode(mu)), name
    piped = run("encode", "x.npy", "-b", vae_path, "-o", "-").out
    assert run("decode", "-", "-b", vae_path, "-o", "e.npy", stdin=piped).code == 0
    assert Path("e.npy").read_bytes() == Path("d.npy").read_bytes()
    facts = json.loads(run("encode", "x.npy", "-b", vae_path, "--json").out)
    assert facts["ratio"] == pytest.approx(64 / 24)


def test_labels_travel_from_data_to_codes(run: Run, cvae_path: Path, tmp_path: Path) -> None:
    with vae.load(cvae_path) as model:
        labels = np.array([3, 1, 4])
        images = model.sample(3, labels, seed=0, dtype="uint8")
        np.savez(tmp_path / "x.npz", images=images, labels=labels)
        assert run("encode", "x.npz", "-b", cvae_path, "-o", "z.npz").code == 0
        with np.load("z.npz") as file:
            assert file["labels"].tolist() == [3, 1, 4]
            assert np.array_equal(file["z"], model.encode(images, labels))
        assert run("decode", "z.npz", "-b", cvae_path, "-o", "d.npy").code == 0
        again = model.decode(model.encode(images, labels), labels)
        assert np.array_equal(np.load("d.npy"), again)


def test_score_is_a_line_an_image(run: Run, cvae_path: Path, digits: Path) -> None:
    done = run("score", digits, "-b", cvae_path)
    rows = list(csv.DictReader(io.StringIO(done.out.decode())))
    assert list(rows[0]) == ["name", "error", "kl", "negative_elbo"]
    assert [Path(row["name"]).name for row in rows] == sorted(p.name for p in digits.iterdir())
    with vae.load(cvae_path) as model:
        scores = model.score(np.stack([pixels(p) for p in sorted(digits.iterdir())]))
    for key in ("error", "kl", "negative_elbo"):
        found = [float(row[key]) for row in rows]
        np.testing.assert_allclose(found, getattr(scores, key), rtol=1e-5)
    assert done.err == "8 images scored\n"


def test_score_finds_what_is_not_normal(run: Run, cvae_path: Path, digits: Path) -> None:
    odd = Path("odd")
    odd.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    Image.fromarray(noise).save(odd / "noise.png")
    Image.open(digits / "00.png").save(odd / "digit.png")
    done = run("score", odd, "-b", cvae_path, "--normal", digits, "--threshold", "p100",
               "--by", "error", "-o", "s.csv")  # fmt: skip
    assert done.err.startswith("2 images scored, 1 anomalies: error above 0.0")
    table = csv.DictReader(io.StringIO(Path("s.csv").read_text()))
    rows = {Path(row["name"]).name: row["anomaly"] for row in table}
    assert rows == {"digit.png": "0", "noise.png": "1"}
    facts = json.loads(
        run("score", odd, "-b", cvae_path, "--threshold", "0", "--by", "error", "--json").out
    )
    assert [row["anomaly"] for row in facts["images"]] == [1, 1]
    assert facts["device"] == "cpu"


def test_evaluate_states_what_it_did(run: Run, cvae_path: Path, tmp_path: Path) -> None:
    with vae.load(cvae_path) as model:
        labels = np.arange(30) % 10
        np.savez(tmp_path / "x.npz", images=model.sample(30, labels, seed=0), labels=labels)
    done = run("evaluate", "x.npz", "-b", cvae_path, "-k", 4)
    table = dict(line.split(None, 1) for line in done.out.decode().splitlines())
    assert table["images"] == "30, labels given"
    assert table["likelihood"] == "bernoulli, each pixel drawn with its grey level's probability"
    assert table["iwae-4"].endswith("nats, an upper bound on -log p(x)")
    facts = json.loads(run("evaluate", "x.npz", "-b", cvae_path, "--no-labels", "--json").out)
    assert facts["labels"] is False
    assert facts["draws"] == 16
    assert facts["device"] == "cpu"
    assert facts["iwae"] < facts["negative_elbo"]


def test_info_of_a_bundle_and_of_a_graph(run: Run, cvae_path: Path, tmp_path: Path) -> None:
    text = run("info", cvae_path).out.decode()
    assert "family               cvae\n" in text
    assert "image                8×8 L, [0, 1]\n" in text
    facts = json.loads(run("info", cvae_path, "--json").out)
    assert facts["classes"] == list("0123456789")
    with zipfile.ZipFile(cvae_path) as archive:
        archive.extract("conditional_decoder.onnx", tmp_path)
    text = run("info", "conditional_decoder.onnx").out.decode()
    assert text.startswith("role                 conditional_decoder\n")
    assert "input                label int64[batch]\n" in text
    facts = json.loads(run("info", "conditional_decoder.onnx", "--json").out)
    assert facts["role"] == "conditional_decoder"
    assert facts["outputs"][0]["shape"] == ["batch", 1, 8, 8]


def test_verify_and_its_exit_code(run: Run, any_bundle: Path) -> None:
    done = run("verify", "-b", any_bundle)
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().endswith("device cpu: as torch\n")
    facts = json.loads(run("verify", "-b", any_bundle, "--json").out)
    assert facts["ok"] is True
    assert facts["device"] == "cpu"
    done = run("verify", "-b", any_bundle, "--tolerance", 0, "--json")
    assert done.code == 4
    assert json.loads(done.out)["ok"] is False
    assert done.err.startswith(f"error: {any_bundle}/")
    assert done.err.endswith("from torch's, allowed 0e+00. Run vae-run doctor.\n")


def test_doctor(run: Run) -> None:
    done = run("doctor")
    assert done.code == 0
    assert "graphs run on    cpu" in done.out.decode() or "cuda" in done.out.decode()
    assert json.loads(run("doctor", "--json").out)["ok"] is True


def test_doctor_fails_with_the_fix(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_runtime import installation

    both = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"}
    monkeypatch.setattr(installation, "onnxruntime_packages", lambda: both)
    done = run("doctor")
    assert done.code == 7
    assert "to fix           pip uninstall -y onnxruntime onnxruntime-gpu\n" in done.out.decode()
    assert done.err == (
        "error: installation: onnxruntime and onnxruntime-gpu are both installed and overwrote "
        "each other's files. Run: pip uninstall -y onnxruntime onnxruntime-gpu && "
        'pip install "vae-onnx[gpu]"\n'
    )


@pytest.mark.parametrize("role", ["decoder", "encoder"])
def test_bench(run: Run, cvae_path: Path, role: str) -> None:
    args = ("bench", "-b", cvae_path, "--batch", 2, "--seconds", 0.01, "--role", role)
    table = run(*args).out.decode().splitlines()
    assert table[0] == f"{role} on cpu, 1 thread, float32"
    facts = json.loads(run(*args, "--json").out)
    timing = facts["timings"][0]
    assert facts["device"] == "cpu"
    assert timing["batch"] == 2
    assert timing["images_per_second"] == pytest.approx(2000 / timing["ms"])
    assert timing["overhead"] == pytest.approx(timing["ms"] / timing["bare_ms"])


def test_variants_by_name(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "--variant", "int3")
    assert done.code == 2
    assert done.error.startswith(f"error: {cvae_path}: has no variant 'int3', expected one of: ")
