"""`vae-train` from its options to its checkpoint, on the 1,797 digits that need no network."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from vae_train import load_checkpoint
from vae_train.cli import cli, main
from vae_train.options import TrainOptions

DIGITS = ("--data", "digits", "--epochs", "1", "--seed", "3", "--no-report")
SMALL = ("--backbone", "mlp", "--hidden", "16", "--latent-dim", "4", "--components", "2")


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=True)


def refused(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Run the console script in this process; return its exit code and its last line, the error.

    Before it, a line for each split may say what was read.
    """
    before = sys.argv
    sys.argv = ["vae-train", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as done:
            main()
    finally:
        sys.argv = before
    out, err = capfd.readouterr()
    assert out == ""
    *said, error = err.splitlines(keepends=True)
    assert error.startswith("error: ")
    assert not any("error: " in line for line in said)
    assert "Traceback" not in err
    assert isinstance(done.value.code, int)
    return done.value.code, error


@pytest.mark.parametrize("preset", ["default", "reference"])
@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
def test_digits_run_end_to_end(family: str, preset: str, tmp_path: Path) -> None:
    out, metrics = tmp_path / "model.pt", tmp_path / "metrics.jsonl"
    small = SMALL if preset == "default" else ()
    done = invoke(family, *DIGITS, "--preset", preset, *small, "--out", out, "--metrics", metrics)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "epoch 1/1: loss " in done.stderr
    assert f"wrote {out}. Next: vae-export --ckpt {out}" in done.stderr
    checkpoint = load_checkpoint(out)
    assert checkpoint.model.family == family
    assert checkpoint.model.image_shape == (1, 8, 8)
    assert checkpoint.train.seed == 3
    assert checkpoint.metadata["data"]["test"] == 297
    assert checkpoint.classes == (tuple("0123456789") if family == "cvae" else ())
    assert checkpoint.prior.kind == ("class_gmm" if family == "cvae" else "gmm")
    (record,) = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert record["epoch"] == 1
    assert (record["validation_loss"] is None) == (preset == "reference")
    for name in ("loss", "reconstruction", "kl", "seconds", "images_per_second"):
        assert np.isfinite(record[name])
    assert record["loss"] == checkpoint.metadata["metrics"]["loss"]
    assert f"test: loss {checkpoint.metadata['metrics']['test_loss']:.2f}" in done.stderr


def test_the_default_convolutions_run_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    done = invoke("cvae", *DIGITS, "--components", "1", "--quiet", "--out", out)
    assert done.exit_code == 0, done.output
    model = load_checkpoint(out).model
    assert (model.backbone, model.encoder_join, model.label_join) == ("conv", "film", "film")
    assert "epoch" not in done.stderr  # quiet


def test_every_option_reaches_the_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    done = invoke(
        *("cvae", *DIGITS, "--out", out, "--backbone", "mlp", "--latent-dim", "3"),
        *("--hidden", "20, 10", "--label-join", "concat", "--encoder-join", "concat"),
        *("--objective", "mse", "--beta", "0.5", "--batch-size", "200", "--lr", "0.002"),
        *("--schedule", "constant", "--precision", "bf16", "--label-dropout", "0.2"),
        *("--validation", "0.1", "--prior", "gmm", "--components", "3", "--threads", "1"),
        *("--kl-warmup", "0.5", "--free-bits", "0.1", "--noise", "0.2", "--ema", "0.9"),
        *("--patience", "4", "--no-binarise", "--gradient-clip", "1.5"),
    )
    assert done.exit_code == 0, done.output
    checkpoint = load_checkpoint(out)
    model, train = checkpoint.model, checkpoint.train
    assert (model.hidden, model.latent_dim) == ((20, 10), 3)
    assert (model.label_join, model.encoder_join) == ("concat", "concat")
    assert (train.objective, train.beta, train.batch_size) == ("mse", 0.5, 200)
    assert (train.learning_rate, train.schedule, train.precision) == (0.002, "constant", "bf16")
    assert (train.label_dropout, train.validation) == (0.2, 0.1)
    assert (train.kl_warmup, train.free_bits, train.noise) == (0.5, 0.1, 0.2)
    assert (train.ema, train.patience, train.binarise) == (0.9, 4, False)
    assert train.gradient_clip == 1.5
    assert checkpoint.metadata["best_epoch"] == 1
    assert checkpoint.prior.weights.shape == (1, 3)
    assert checkpoint.metadata["data"]["training"] == 1350


def test_the_recorded_command_has_the_options_that_determine_the_result(tmp_path: Path) -> None:
    out = tmp_path / "my model.pt"
    invoke("ae", *DIGITS, *SMALL[:-2], "--prior=normal", f"--out={out}", "-q", "--save-every=9")
    assert load_checkpoint(out).metadata["command"] == (
        "vae-train ae --data digits --backbone mlp --latent-dim 4 --hidden 16 --epochs 1 --seed 3 "
        "--prior normal"
    )


def test_a_recorded_command_gives_the_same_options_again(tmp_path: Path) -> None:
    options = TrainOptions(
        family="vae", data="/home/me/my photos", size=(32, 48), hidden=(16, 8), binarise=False,
        learning_rate=1e-4, components=3, out=tmp_path / "a.pt", force=True,
    )  # fmt: skip
    words = shlex.split(options.command())
    assert str(tmp_path) not in words
    given = cli.make_context("vae-train", [*words[1:], "--out", "a.pt"]).params
    assert (given["data"], given["size"], given["hidden"]) == ("my photos", "32x48", "16,8")
    assert (given["binarise"], given["learning_rate"], given["components"]) == (False, 1e-4, 3)
    assert not given["force"]


def test_a_number_after_a_dot_is_no_extension(tmp_path: Path) -> None:
    for name in ("beta0.5", "beta0.9", "a.ckpt"):
        assert invoke("ae", *DIGITS, *SMALL, "--out", tmp_path / name).exit_code == 0
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["a.run", "beta0.5.run", "beta0.9.run"]


def test_the_config_of_a_run_with_a_normal_prior_can_be_reused(tmp_path: Path) -> None:
    arguments = ("vae", *DIGITS, *SMALL[:-2], "--prior", "normal")
    assert invoke(*arguments, "--out", tmp_path / "a.pt").exit_code == 0
    again = invoke("--config", tmp_path / "a.run/config.toml", "--out", tmp_path / "b.pt", "-q")
    assert again.exit_code == 0, again.output


def test_metrics_cannot_name_the_file_of_the_run_folder(tmp_path: Path) -> None:
    own = tmp_path / "a.run/metrics.jsonl"
    own.parent.mkdir()
    done = invoke("ae", *DIGITS, *SMALL, "--out", tmp_path / "a.pt", "--metrics", own)
    assert "vae-train writes this file anyway" in str(done.exception)


def test_metrics_are_appended_to_an_existing_file(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    for name in ("a.pt", "b.pt"):
        done = invoke(
            *("ae", "--data", "digits", "--epochs", "2", *SMALL[:-2], "--prior", "normal"),
            *("--out", tmp_path / name, "--metrics", metrics),
        )
        assert done.exit_code == 0, done.output
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert epochs == [1, 2, 1, 2]


def test_the_objective_follows_the_data_unless_given(tmp_path: Path) -> None:
    masks = tmp_path / "masks.npz"
    turned = [np.roll(np.eye(8, dtype=np.uint8) * 255, k % 8, axis=1) for k in range(40)]
    np.savez(masks, images=np.stack(turned))
    quick = (*SMALL, "--epochs", "1", "--no-report")
    for k, (arguments, objective, line) in enumerate((
        (("vae", "--data", masks), "bce", "objective bce, since the pixels are nearly all black"),
        (("vae", "--data", "digits"), "gaussian", "objective gaussian, since the pixels have sh"),
        (("vae", "--data", "digits", "--objective", "bce"), "bce", "epoch 1/1"),
        (("vae", "--data", "digits", "--binarise"), "bce", "epoch 1/1"),
        (("vae", "--data", "digits", "--preset", "reference"), "bce", "epoch 1/1"),
        (("ae", "--data", masks), "mse", "epoch 1/1"),
    )):  # fmt: skip
        out = tmp_path / f"{k}.pt"
        done = invoke(*arguments, *quick, "--out", out)
        assert done.exit_code == 0, done.output
        assert load_checkpoint(out).train.objective == objective
        assert any(said.startswith(line) for said in done.stderr.splitlines())


def image_folder(folder: Path, classes: tuple[str, ...], size: tuple[int, int] = (8, 9)) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_a_folder_of_color_images_is_resized_and_trained_on(tmp_path: Path) -> None:
    data, out = image_folder(tmp_path / "pets", ("cat", "dog")), tmp_path / "model.pt"
    done = invoke(*("cvae", "--data", data, "--epochs", "1", "--size", "6x5", "--out", out, *SMALL))
    assert done.exit_code == 0, done.output
    checkpoint = load_checkpoint(out)
    assert checkpoint.model.image_shape == (3, 6, 5)
    assert checkpoint.classes == ("cat", "dog")
    assert "test" not in checkpoint.metadata["data"]


def test_the_test_split_is_read_like_the_training_split(tmp_path: Path) -> None:
    """Gray test images must get the shape of color training images."""
    image_folder(tmp_path / "pets" / "train", ("cat", "dog"))
    (tmp_path / "pets" / "test" / "dog").mkdir(parents=True)
    Image.new("L", (9, 8), 99).save(tmp_path / "pets" / "test" / "dog" / "grey.png")
    out = tmp_path / "model.pt"
    done = invoke("cvae", "--data", tmp_path / "pets", "--epochs", "1", "--out", out, *SMALL)
    assert done.exit_code == 0, done.output
    checkpoint = load_checkpoint(out)
    assert checkpoint.metadata["data"]["test"] == 1
    assert checkpoint.example_labels.tolist() == [1]  # the index of dog in the training split
