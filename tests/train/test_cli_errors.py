"""Errors of `vae-train`: one line, the right exit code, and no files left."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.test_cli import DIGITS, SMALL, invoke, refused
from vae_runtime.dependencies import install_command
from vae_runtime.errors import FileError, InputError, MissingExtra, NotFound, UsageError
from vae_train import load_checkpoint


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("vae", "--label-join", "add"), "--label-join is for cvae only"),
        (("ae", "--encoder-join", "film"), "--encoder-join is for cvae only"),
        (("vae", "--label-dropout", "0.1"), "--label-dropout is for cvae only"),
        (("ae", "--beta", "2"), "--beta is for vae and cvae only"),
        (("ae", "--prior-spread", "1"), "--prior-spread is for vae and cvae only"),
        (("ae", "-k", "5"), "--importance-samples is for vae and cvae only"),
        (("vae", "--objective", "mse", "--binarise"), "binarise needs objective bce"),
        (("vae", "--patience", "2", "--validation", "0"), "early stopping needs held-out"),
        (("cvae", "--preset", "reference", "--label-dropout", "0.1"), "label_dropout"),
        (("vae", "--hidden", "16,x"), "hidden '16,x'"),
        (("vae", "--hidden", "16,"), "hidden '16,'"),
        (("vae", "--hidden", "9²"), "hidden"),
        (("vae", "--hidden", "0"), "hidden is (0,)"),
        (("vae", "--hidden", "9" * 5000), "hidden"),
        (("vae", "--backbone", "conv", "--hidden", "12"), "multiples of 8"),
        (("vae", "--size", "64"), "size '64': expected HxW"),
        (("vae", "--size", "0x8"), "size"),
        (("vae", "--size", "9" * 5000 + "x1"), "size"),
        (("vae", "--size", "9x9"), "expected 9x9; only image files can be changed"),
        (("vae", "--mode", "RGB"), "expected RGB; only image files can be changed"),
        (("vae", "--beta", "-1"), "beta is -1.0"),
        (("vae", "--beta", "nan"), "beta is nan"),
        (("vae", "--lr", "0"), "learning_rate is 0.0"),
        (("vae", "--validation", "1"), "validation is 1.0"),
        (("vae", "--validation", "0.9999"), "none is left to train"),
        (("vae", "--prior", "class_gmm"), "class_gmm"),
        (("vae", "--device", "tpu"), "device is 'tpu'"),
        (("vae", "--seed", str(2**63)), "seed is"),
        (("gan",), "gan"),
        (("vae", "--preset", "finest"), "finest"),
        (("vae", "--epochs", "0"), "epochs"),
        (("vae", "--epochs", str(10**18)), "epochs is"),
        (("vae", "--save-every", "nan"), "save_every is nan"),
        (("vae", "--prior", "normal", "--components", "7"), "prior normal has none"),
        (
            ("vae", "--prior", "normal", "--prior-spread", ".5"),
            "--prior-spread needs a fitted prior",
        ),
        (
            ("ae", "--latent-dim", "256", "--prior", "gmm", "--components", "40"),
            "prior gmm of 256 dimensions",
        ),
        (("vae", "--latent-dim", "0"), "latent-dim"),
        (("vae", "--nonsense"), "--nonsense"),
    ],
)
def test_a_wrong_option_prints_one_line_and_exits_with_2(
    arguments: tuple[str, ...], named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.pt"
    code, line = refused(capfd, *arguments, "--data", "digits", "-q", "--out", out)
    assert code == 2
    assert named in line
    assert not out.exists()


@pytest.mark.parametrize("missing", ["--data", "--out"])
def test_data_and_out_are_required(
    missing: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {"--data": "digits", "--out": str(tmp_path / "model.pt")}
    del given[missing]
    code, line = refused(capfd, "ae", *[argument for pair in given.items() for argument in pair])
    assert code == 2
    assert missing in line


def test_names_that_cannot_be_recorded_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for given in (("--data", "caf\udce9", "--out", "a.pt"), ("--data", "x", "--out", "\udce9.pt")):
        code, line = refused(capfd, "ae", *given)
        assert code == 2
        assert "a name is not UTF-8 and cannot be recorded" in line


def test_a_cvae_needs_labels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "plain.npz"
    np.savez(data, images=np.zeros((20, 8, 8), np.uint8))
    code, line = refused(capfd, "cvae", "--data", data, "--out", tmp_path / "model.pt")
    assert code == 2
    assert "plain: no labels, and a cvae needs them. Train ae or vae." in line


def test_missing_data_is_exit_code_6(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capfd, "ae", "--data", tmp_path / "none", "--out", tmp_path / "model.pt")
    assert code == NotFound.exit_code == 6
    assert "no such data. Expected mnist, fashion, digits" in line


def test_broken_data_is_exit_code_3(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "broken.npz"
    data.write_bytes(b"PK\x03\x04 and then nothing")
    code, line = refused(capfd, "ae", "--data", data, "--out", tmp_path / "model.pt")
    assert code == InputError.exit_code == 3
    assert "broken.npz" in line


@pytest.mark.parametrize("option", ["--out", "--metrics"])
@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_an_unwritable_path_is_refused_before_training(
    kind: str, option: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path if kind == "folder" else tmp_path / "missing" / "file"
    given = {"--out": tmp_path / "model.pt"} | {option: place}
    arguments = [argument for pair in given.items() for argument in pair]
    code, line = refused(capfd, "ae", "--data", "digits", *arguments)
    assert code == FileError.exit_code == 6
    assert str(place) in line
    assert "epoch" not in line


def test_missing_cuda_is_exit_code_7(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, line = refused(
        capfd, "ae", "--data", "digits", "--device", "cuda", "--out", tmp_path / "model.pt"
    )
    assert code == 7
    assert "device cuda: torch" in line


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    plain = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name in packages else plain(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def test_a_missing_extra_prints_the_install_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "torch", "sklearn", "rich")
    code, line = refused(capfd, "ae", "--data", "digits", "--out", tmp_path / "model.pt")
    assert code == MissingExtra.exit_code == 2
    assert line == (
        "error: vae-train needs torch, sklearn, rich, not installed here. "
        f"Run: {install_command('cpu,train')}\n"
    )


def test_help_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch", "sklearn", "rich")
    done = invoke("--help")
    assert done.exit_code == 0
    assert "vae-train cvae --data mnist --out cvae.pt" in done.stdout


def test_help_does_not_import_torch() -> None:
    code = "import sys; from vae_train.cli import cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_public_names_of_the_package() -> None:
    import vae_train

    assert vae_train.__all__ == [
        "train", "Callback", "Step", "Epoch", "Checkpoint", "load_checkpoint", "TrainConfig",
        "Diverged", "Stopped",
    ]  # fmt: skip
    assert all(hasattr(vae_train, name) for name in vae_train.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = vae_train.fit


def test_the_script_in_its_own_process(tmp_path: Path) -> None:
    """Exit code, streams and checkpoint as a shell sees them."""
    out = tmp_path / "model.pt"
    command = [sys.executable, "-W", "error", "-c", "from vae_train.cli import main; main()", "ae"]
    arguments = [*DIGITS, *SMALL, "--out", str(out)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = done.stderr.splitlines()
    steps = ["digits", "digits", "epoch 1/1", "test", f"wrote {out}. Next"]
    assert [line.split(":")[0] for line in lines] == steps
    assert load_checkpoint(out).model.family == "ae"


def test_the_scale_of_a_gaussian_reaches_the_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    done = invoke("vae", *DIGITS, *SMALL, "--objective", "gaussian", "-q", "--out", out)
    assert done.exit_code == 0, done.output
    sigma = load_checkpoint(out).sigma
    assert 0.15 < sigma < 0.5  # after one epoch, about the error of the mean image


def test_usage_errors_keep_their_class_for_callers(tmp_path: Path) -> None:
    done = invoke("ae", "--beta", "2", "--data", "digits", "--out", tmp_path / "model.pt")
    assert isinstance(done.exception, UsageError)
