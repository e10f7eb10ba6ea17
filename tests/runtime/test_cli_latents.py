"""Commands for latents, scores and bundles: the files they write and the lines they print."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from tests.runtime.test_cli import pixels
from vae_runtime.dependencies import install_command

from .conftest import Run

pytestmark = pytest.mark.torch_free


def test_traverse_strip_matrix_and_animations(run: Run, cvae_path: Path) -> None:
    with vae.load(cvae_path) as model:
        d = model.spec.latent_dim
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


def test_interpolate_images_latents_and_seed(run: Run, cvae_path: Path, digits: Path) -> None:
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
            f"wrote 5 latents of {model.spec.latent_dim} numbers to z.npz: "
            "64 bytes of pixels to 24 per image, ratio 2.7\n"
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
    summary = json.loads(run("encode", "x.npy", "-b", vae_path, "--json").out)
    assert summary["ratio"] == pytest.approx(64 / 24)


def test_labels_are_stored_with_the_latents(run: Run, cvae_path: Path, tmp_path: Path) -> None:
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


def test_score_prints_one_line_per_image(run: Run, cvae_path: Path, digits: Path) -> None:
    done = run("score", digits, "-b", cvae_path)
    rows = list(csv.DictReader(io.StringIO(done.out.decode())))
    assert list(rows[0]) == ["name", "mse", "kl", "negative_elbo"]
    assert [Path(row["name"]).name for row in rows] == sorted(p.name for p in digits.iterdir())
    with vae.load(cvae_path) as model:
        scores = model.score(np.stack([pixels(p) for p in sorted(digits.iterdir())]))
    for key in ("mse", "kl", "negative_elbo"):
        found = [float(row[key]) for row in rows]
        np.testing.assert_allclose(found, getattr(scores, key), rtol=1e-5)
    assert done.err == "8 images scored\n"


def test_score_finds_anomalies(run: Run, cvae_path: Path, digits: Path) -> None:
    odd = Path("odd")
    odd.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    Image.fromarray(noise).save(odd / "noise.png")
    Image.open(digits / "00.png").save(odd / "digit.png")
    done = run("score", odd, "-b", cvae_path, "--normal", digits, "--threshold", "p100",
               "--by", "mse", "-o", "s.csv")  # fmt: skip
    assert done.err.startswith("2 images scored, 1 anomaly: mse above 0.0")
    table = csv.DictReader(io.StringIO(Path("s.csv").read_text()))
    rows = {Path(row["name"]).name: row["anomaly"] for row in table}
    assert rows == {"digit.png": "0", "noise.png": "1"}
    summary = json.loads(
        run("score", odd, "-b", cvae_path, "--threshold", "0", "--by", "mse", "--json").out
    )
    assert [row["anomaly"] for row in summary["images"]] == [1, 1]
    assert summary["device"] == "cpu"


def test_evaluate_states_labels_and_likelihood(run: Run, cvae_path: Path, tmp_path: Path) -> None:
    with vae.load(cvae_path) as model:
        labels = np.arange(30) % 10
        np.savez(tmp_path / "x.npz", images=model.sample(30, labels, seed=0), labels=labels)
    done = run("evaluate", "x.npz", "-b", cvae_path, "-k", 4)
    table = dict(line.split(None, 1) for line in done.out.decode().splitlines())
    assert table["images"] == "30, labels given"
    assert table["likelihood"] == "bernoulli, each pixel drawn with its grey level as probability"
    assert table["iwae-4"].endswith("nats, an upper bound on -log p(x)")
    summary = json.loads(run("evaluate", "x.npz", "-b", cvae_path, "--no-labels", "--json").out)
    assert summary["labels"] is False
    assert summary["samples"] == 16
    assert summary["device"] == "cpu"
    assert summary["iwae"] < summary["negative_elbo"]


def test_info_of_a_bundle_and_of_a_graph(run: Run, cvae_path: Path, tmp_path: Path) -> None:
    lines = run("info", cvae_path).out.decode().splitlines()
    shown = [line.split(None, 1) for line in lines]
    assert ["family", "cvae"] in shown
    assert ["image", "8×8 L, [0, 1]"] in shown
    assert ["latent_dim", "6"] in shown
    begins = {line.index(value) for line, (_, value) in zip(lines, shown, strict=True)}
    assert begins == {max(len(name) for name, _ in shown) + 2}, "one column of values"
    summary = json.loads(run("info", cvae_path, "--json").out)
    assert summary["classes"] == list("0123456789")
    with zipfile.ZipFile(cvae_path) as archive:
        archive.extract("conditional_decoder.onnx", tmp_path)
    text = run("info", "conditional_decoder.onnx").out.decode()
    assert text.startswith("role        conditional_decoder\n")
    assert "input       label int64[batch]\n" in text
    summary = json.loads(run("info", "conditional_decoder.onnx", "--json").out)
    assert summary["role"] == "conditional_decoder"
    assert summary["outputs"][0]["shape"] == ["batch", 1, 8, 8]


def test_verify_and_its_exit_code(run: Run, any_bundle: Path) -> None:
    done = run("verify", "-b", any_bundle)
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().endswith("device cpu: agrees with torch\n")
    summary = json.loads(run("verify", "-b", any_bundle, "--json").out)
    assert summary["ok"] is True
    assert summary["device"] == "cpu"
    done = run("verify", "-b", any_bundle, "--tolerance", 0, "--json")
    assert done.code == 4
    assert json.loads(done.out)["ok"] is False
    assert done.err.startswith(f"error: {any_bundle}/")
    assert done.err.endswith("allowed 0e+00. Run vae-run doctor.\n")


def test_doctor(run: Run) -> None:
    done = run("doctor")
    assert done.code == 0
    assert "graphs run on    cpu" in done.out.decode() or "cuda" in done.out.decode()
    assert json.loads(run("doctor", "--json").out)["ok"] is True


def test_doctor_fails_with_the_fix(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_runtime.inference import diagnosis as installation

    both = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"}
    monkeypatch.setattr(installation, "onnxruntime_packages", lambda: both)
    done = run("doctor")
    assert done.code == 7
    assert "to fix           pip uninstall -y onnxruntime onnxruntime-gpu\n" in done.out.decode()
    assert done.err == (
        "error: installation: onnxruntime and onnxruntime-gpu are both installed and overwrote "
        "each other's files. Run: pip uninstall -y onnxruntime onnxruntime-gpu && "
        f"{install_command('gpu')}\n"
    )


@pytest.mark.parametrize("role", ["decoder", "encoder"])
def test_bench(run: Run, cvae_path: Path, role: str) -> None:
    args = ("bench", "-b", cvae_path, "--batch", 2, "--seconds", 0.01, "--role", role)
    table = run(*args).out.decode().splitlines()
    assert table[0] == f"{role} on cpu, 1 thread, float32"
    summary = json.loads(run(*args, "--json").out)
    timing = summary["timings"][0]
    assert summary["device"] == "cpu"
    assert timing["batch"] == 2
    assert timing["images_per_second"] == pytest.approx(2000 / timing["ms"])
    assert timing["overhead"] == pytest.approx(timing["ms"] / timing["bare_ms"])


def test_variants_by_name(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "--variant", "int3")
    assert done.code == 2
    assert done.error.startswith(f"error: {cvae_path}: has no variant 'int3', expected one of: ")


def test_unpack_writes_the_files_of_a_bundle(run: Run, cvae_path: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(cvae_path) as archive:
        expected = {name: archive.read(name) for name in archive.namelist()}
    done = run("unpack", cvae_path, "new", "--json")
    assert json.loads(done.out)["files"] == {name: len(raw) for name, raw in expected.items()}
    assert {p.name: p.read_bytes() for p in Path("new").iterdir()} == expected
    notes = {"README.md": b"# A model", "LICENSE": b"free"}
    for name, raw in notes.items():
        (tmp_path / "new" / name).write_bytes(raw)
    Path("empty").mkdir()
    wrote = f"wrote {len(expected) + 2} files to empty/, "
    assert run("unpack", "new", "empty").err.startswith(wrote)
    assert {p.name: p.read_bytes() for p in Path("empty").iterdir()} == expected | notes
    done = run("unpack", cvae_path, "new")
    assert (done.code, done.error) == (
        6, "error: new: exists and is not an empty folder. Choose another.",
    )  # fmt: skip
    assert run("unpack", "a", "b", "c").code == 2


def test_unpack_refuses_a_damaged_file(run: Run, cvae_path: Path) -> None:
    raw = bytearray(cvae_path.read_bytes())
    raw[len(raw) // 2] ^= 1
    Path("bad.zip").write_bytes(raw)
    done = run("unpack", "bad.zip", "new")
    assert done.code == 4
    assert not Path("new").exists()
