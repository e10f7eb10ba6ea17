"""Options that contradict each other or have no effect, and suggestions for misspelt words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime import metrics as latent
from vae_runtime.errors import InputError

from .conftest import Run

pytestmark = pytest.mark.torch_free
LONG = "9" * 5000


@pytest.mark.parametrize("words", [("--seed", 4), ("-n", 9), ("--prior", "normal"),
                                   ("--temperature", 3), ("--truncation", 2)])  # fmt: skip
def test_sampling_options_are_refused_with_latents(
    run: Run, cvae_path: Path, words: tuple[object, ...]
) -> None:
    done = run("sample", "-b", cvae_path, "--latents", "z.npy", *words)
    flag = {"-n": "--count"}.get(str(words[0]), words[0])
    assert (done.code, done.error) == (
        2, f"error: {flag} has no effect with --latents. Leave it out.",
    )  # fmt: skip


def test_output_names(run: Run, cvae_path: Path) -> None:
    Path("file").touch()
    Path("folder.d").mkdir()
    for words, code, line in (
        (("-o", ""), 2, "-o is empty, expected a file, a folder or - for standard output"),
        (("-o", "c.png", "-f", "npy"), 2,
         "c.png: --format npy contradicts the name. Leave it out."),
        (("-o", "c.png", "-f", "jpg"), 2,
         "c.png: --format jpg contradicts the name. Leave it out."),
        (("-o", "file"), 6, "file: a file, but a name without an extension means a folder"),
        (("-o", "folder.d", "-f", "png"), 6, "folder.d: a folder, expected a file of type .png"),
    ):  # fmt: skip
        done = run("sample", "-b", cvae_path, *words)
        assert (done.code, done.error) == (code, f"error: {line}")
    for words in (("c.jpg", "jpeg"), ("c.jpeg", "jpg"), ("c.v2", "png"), ("d.PNG", "png")):
        assert run("sample", "-b", cvae_path, "-o", words[0], "-f", words[1]).code == 0
    done = run("score", "c.v2", "-b", cvae_path, "-f", "npy")
    assert (done.code, done.error) == (2, "error: -: unknown type .npy, expected .csv")


def test_verify_checks_every_variant(run: Run, variants_path: Path) -> None:
    done = run("verify", "-b", variants_path, "--variant", "nosuch")
    assert done.code == 2
    assert done.error.startswith("error: No such option '--variant'.")
    found = json.loads(run("verify", "-b", variants_path, "--json").out)
    assert any("uint8" in match["file"] for match in found["matches"])


def test_a_misspelt_word_gets_a_suggestion(run: Run) -> None:
    done = run("smaple")
    assert (done.code, done.error) == (
        2, "error: No such command 'smaple'. Did you mean sample? Try: vae-run --help",
    )  # fmt: skip
    assert run("xyz").error == "error: No such command 'xyz'. Try: vae-run --help"


@pytest.mark.parametrize("label", ["9" * 19, LONG])
def test_labels_of_many_digits(
    run: Run, cvae: vae.Autoencoder, cvae_path: Path, label: str
) -> None:
    line = f"label: {label[:20] + '…' * (len(label) > 20)} is out of range, expected 0 to 9"
    for command in ("sample", "traverse"):
        done = run(command, "-b", cvae_path, "--digit", label)
        assert (done.code, done.error) == (3, f"error: {line}")
    with pytest.raises(InputError, match="out of range"):
        cvae.sample(2, label=label)
    with pytest.raises(InputError, match="out of range"):
        cvae.sample(2, label=10**20)


def test_a_bool_is_not_a_label(cvae: vae.Autoencoder) -> None:
    for call in (
        lambda: cvae.sample(1, label=True),
        lambda: cvae.decode(cvae.sample_latents(1), True),
    ):
        with pytest.raises(InputError, match=r"label: \[True\], expected a class index or name"):
            call()


def test_labels_without_dimensions(run: Run, cvae: vae.Autoencoder, cvae_path: Path) -> None:
    np.savez("z.npz", z=cvae.sample_latents(2, seed=0), labels=np.array(3))
    done = run("decode", "z.npz", "-b", cvae_path)
    assert (done.code, done.error) == (
        3,
        "error: label: int64[], expected a class index or name, or int64[2], one per item",
    )


def test_thresholds(run: Run, cvae_path: Path, digits: Path) -> None:
    for text in ("1e2", ".5", "-3", "p50", "p99.5"):
        done = run("score", digits, "-b", cvae_path, "--threshold", text, "--json")
        assert done.code == 0, text
    for text in ("nan", "p101", "p-1", "inf", "x", "p"):
        done = run("score", digits, "-b", cvae_path, "--threshold", text)
        assert done.error == f"error: threshold {text!r}: expected a number, or p0 to p100"


def test_showing_images_does_not_change_the_file(run: Run, cvae_path: Path, digits: Path) -> None:
    for words in ((), ("--show",)):
        assert run("reconstruct", digits, "-b", cvae_path, "-o", f"{len(words)}.npz", *words
                   ).code == 0  # fmt: skip
    with np.load("0.npz") as plain, np.load("1.npz") as shown:
        assert {name: a.shape for name, a in plain.items()} == {
            "images": (8, 1, 8, 8), "originals": (8, 1, 8, 8), "mse": (8,),
        }  # fmt: skip
        assert all(np.array_equal(plain[name], shown[name]) for name in plain)
        assert plain.files == shown.files


def test_the_frames_have_the_classes_of_the_latents(
    run: Run, cvae: vae.Autoencoder, cvae_path: Path
) -> None:
    z = cvae.sample_latents(2, 3, seed=0)
    np.savez("z.npz", z=z, labels=np.array([3, 3]))
    assert run("interpolate", "z.npz", "-b", cvae_path, "-o", "m.npy").code == 0
    assert np.array_equal(np.load("m.npy"), cvae.interpolate(z[0], z[1], label=3))
    np.savez("z.npz", z=z, labels=np.array([3, 4]))
    assert run("interpolate", "z.npz", "-b", cvae_path, "-o", "m.npy").code == 0
    assert np.array_equal(np.load("m.npy"), cvae.interpolate(z[0], z[1], label=(3, 4)))
    run("interpolate", "z.npz", "-l", 1, "-l", 8, "-b", cvae_path, "-o", "m.npy")
    assert np.array_equal(np.load("m.npy"), cvae.interpolate(z[0], z[1], label=(1, 8)))


def test_posterior_samples_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    mu, log_var = rng.normal(size=(2, 5, 3)).astype(np.float32)
    whole = list(latent.posterior_samples(mu, log_var, 7, 1, 2))
    monkeypatch.setattr(latent, "_SAMPLES_AT_ONCE", 3)
    parts = list(latent.posterior_samples(mu, log_var, 7, 1, 2))
    assert len(parts) == 7
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))
