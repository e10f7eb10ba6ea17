"""`vae_train.train` in Python: the same as the command, with callbacks; its page and notebook."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tests.train.test_cli import invoke
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.errors import NotFound, UsageError
from vae_train import Callback, Checkpoint, Epoch, Step, Stopped, load_checkpoint, train

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "backbone": "mlp", "hidden": (16,), "latent_dim": 2, "epochs": 2, "components": 1,
    "batch_size": 500, "no_report": True,
}  # fmt: skip
COMMAND = (
    *("vae", "--data", "digits", "--batch-size", "500", "--hidden", "16", "--backbone", "mlp"),
    *("--latent-dim", "2", "--components", "1", "--epochs", "2", "--no-report"),
)


class Recorder(Callback):
    """Notes each call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.evaluating: list[bool] = []

    def on_train_begin(self, steps: int) -> None:
        self.calls.append(f"begin {steps}")

    def on_step_end(self, step: Step) -> None:
        self.calls.append(f"step {step.epoch}.{step.step}/{step.steps}")

    def on_epoch_end(self, epoch: Epoch, model: Any) -> None:
        self.calls.append(f"epoch {epoch.epoch}")
        self.evaluating.append(not model.training)

    def on_train_end(self, checkpoint: Checkpoint) -> None:
        self.calls.append(f"end {checkpoint.metadata['epochs']}")


def test_the_checkpoint_has_the_bytes_that_the_command_writes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, test = load_dataset("digits"), load_dataset("digits", "test")
    train("vae", "digits", tmp_path / "a.pt", **SMALL)
    train("vae", data, str(tmp_path / "b.pt"), test=test, callbacks=[Recorder()], **SMALL)
    assert capfd.readouterr() == ("", "")  # nothing is printed
    assert invoke(*COMMAND, "--out", tmp_path / "c.pt").exit_code == 0
    expected = (tmp_path / "c.pt").read_bytes()
    assert (tmp_path / "a.pt").read_bytes() == expected
    assert (tmp_path / "b.pt").read_bytes() == expected
    for file in ("config.toml", "metrics.jsonl"):
        assert (tmp_path / "a.run" / file).exists()


def test_callbacks_are_called_in_order() -> None:
    recorder = Recorder()
    train("vae", "digits", callbacks=[recorder], **SMALL)
    assert recorder.calls == [
        "begin 6", "step 1.1/3", "step 1.2/3", "step 1.3/3", "epoch 1",
        "step 2.1/3", "step 2.2/3", "step 2.3/3", "epoch 2", "end 2",
    ]  # fmt: skip
    assert recorder.evaluating == [True, True]


def test_a_callback_gets_the_averaged_model() -> None:
    seen: list[np.ndarray] = []

    class Keep(Callback):
        def on_epoch_end(self, epoch: Epoch, model: Any) -> None:
            seen.append(next(model.parameters()).detach().numpy().copy())

    checkpoint = train("ae", "digits", callbacks=[Keep()], ema=0.9, **SMALL)
    assert np.array_equal(seen[-1], next(checkpoint.build().parameters()).detach().numpy())


class Fail(Callback):
    """Raises an error in the second epoch."""

    def on_step_end(self, step: Step) -> None:
        if step.epoch == 2:
            raise ZeroDivisionError


def test_an_error_in_a_callback_reaches_the_caller_and_the_run_can_be_resumed(
    tmp_path: Path,
) -> None:
    out, lines = tmp_path / "a.pt", []
    with pytest.raises(ZeroDivisionError):
        train("vae", "digits", out, callbacks=[Fail()], **SMALL)
    assert not out.exists()
    checkpoint = train("vae", "digits", out, resume=True, log=lines.append, **SMALL)
    assert "resuming at epoch 2, after 4 steps" in lines  # the one that failed is saved as well
    assert any(line.startswith(f"wrote {out}") for line in lines)
    again = train("vae", "digits", tmp_path / "b.pt", **SMALL)
    assert (tmp_path / "b.pt").read_bytes() == out.read_bytes()
    assert checkpoint.metadata == again.metadata
    recorder = Recorder()
    finished = train("vae", "digits", out, resume=True, callbacks=[recorder], **SMALL)
    assert finished.sha256
    assert recorder.calls == []


def test_an_interrupt_saves_the_state(tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_step_end(self, step: Step) -> None:
            if step.step == 1:
                os.kill(os.getpid(), signal.SIGINT)

    out, lines = tmp_path / "a.pt", []
    with pytest.raises(Stopped):
        train("vae", "digits", out, callbacks=[Interrupt()], log=lines.append, **SMALL)
    assert lines[-1].startswith(f"stopped: the state is saved in {tmp_path / 'a.run/state.pt'}")
    train("vae", "digits", out, resume=True, **SMALL)
    assert load_checkpoint(out).metadata["epochs"] == 2


def test_widths_may_be_a_number_a_list_or_text() -> None:
    for hidden, expected in ((8, (8,)), ([8, 4], (8, 4)), ("8,4", (8, 4))):
        options = SMALL | {"hidden": hidden, "epochs": 1}
        assert train("ae", "digits", **options).model.hidden == expected


def test_without_a_path_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = train("ae", "digits", **SMALL | {"no_report": False})
    assert checkpoint.build().config.family == "ae"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"epoch": 3},
            UsageError,
            "has no such option. Did you mean epochs?",
        ),
        ({"beta": 2.0, "family": "ae"}, UsageError, "--beta is for vae and cvae only"),
        ({"family": "gan"}, UsageError, "gan"),
        ({"backbone": "cnn"}, UsageError, "backbone is 'cnn', expected one of"),
        ({"objective": "l1"}, UsageError, "objective is 'l1', expected one of"),
        ({"preset": "fast"}, UsageError, "preset is 'fast', expected one of"),
        ({"threads": 0}, UsageError, "threads is 0, expected 1 or more"),
        ({"components": 0}, UsageError, "components is 0, expected 1 or more"),
        ({"save_every": -1.0, "out": "a.pt"}, UsageError, "save_every is -1.0"),
        ({"hidden": ("a",)}, UsageError, "hidden is"),
        ({"hidden": "16,x"}, UsageError, "hidden '16,x'"),
        ({"size": 9}, UsageError, "size is 9, expected (height, width)"),
        ({"size": "9"}, UsageError, "size '9': expected HxW"),
        ({"size": (9, 9)}, UsageError, "expected 9x9; only image files can be changed"),
        ({"tensorboard": True}, UsageError, "tensorboard writes to the run folder"),
        ({"data": "none.npz"}, NotFound, "none.npz"),
        ({"test": Dataset("t", np.zeros((1, 1, 8, 8), np.uint8))}, UsageError, "test is given"),
    ],
)
def test_wrong_arguments_are_refused(
    options: dict[str, Any], error: type[Exception], text: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = {"family": "vae", "data": "digits"} | SMALL | options
    with pytest.raises(error, match=re.escape(text)):
        train(**given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "training.md", "exec"), scope)
    assert (tmp_path / "digits.pt").is_file()


@pytest.mark.slow
def test_the_cells_of_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells in order; the last one shows a sheet of digits."""
    path = ROOT / "examples" / "notebook" / "train.ipynb"
    notebook = json.loads(path.read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(not c.get("outputs") for c in notebook["cells"])  # outputs are not committed
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    scope: dict[str, Any] = {}
    for cell in cells:
        exec(compile(cell, path.name, "exec"), scope)
    assert (tmp_path / "digits" / "manifest.json").is_file()
    sheet = eval(compile(cells[-1].splitlines()[-1], path.name, "eval"), scope)
    assert isinstance(sheet, Image.Image)
    assert np.asarray(sheet).std() > 30
    assert len(scope["watch"].training) == scope["checkpoint"].metadata["epochs"]
    assert scope["watch"].validation[-1] < scope["watch"].validation[0]


@pytest.mark.parametrize("method", ["on_step_end", "on_epoch_end"])
def test_a_callback_that_raises_loses_no_work(method: str, tmp_path: Path) -> None:
    class Stop(Callback):
        """Raises at the end of the first step or epoch."""

    def stop(*_: object) -> None:
        raise RuntimeError("enough")

    setattr(Stop, method, stop)
    out, whole = tmp_path / "a.pt", tmp_path / "b.pt"
    with pytest.raises(RuntimeError, match="enough"):
        train("vae", "digits", out, callbacks=[Stop()], **SMALL)
    said: list[str] = []
    train("vae", "digits", out, resume=True, log=said.append, **SMALL)
    assert not [line for line in said if "nothing to resume" in line]
    train("vae", "digits", whole, **SMALL)
    assert out.read_bytes() == whole.read_bytes()


def test_data_of_another_kind_is_refused_in_one_line() -> None:
    data: Any = np.zeros((100, 1, 28, 28), np.float32)
    with pytest.raises(UsageError, match=r"^data is a ndarray, expected a name, a path or a Data"):
        train("vae", data)
