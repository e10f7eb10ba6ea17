"""A run that is stopped anywhere and resumed equals an uninterrupted run, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from vae_runtime.errors import InputError, IntegrityError, UsageError
from vae_train import Checkpoint, TrainConfig
from vae_train.checkpoint import save_checkpoint
from vae_train.checkpoint_file import read_checkpoint_file, write_checkpoint_file
from vae_train.cli import cli
from vae_train.loop import Step, Stopped
from vae_train.run import train_model
from vae_train.run_folder import RunFolder

from .kills import RECIPE
from .test_run import Watch, dataset, model

# 54 images in batches of 16: four steps per epoch, the last one smaller.
STEPS, EPOCHS = 4, 3

# All options that have a state to save.
FULL = TrainConfig(
    epochs=EPOCHS, batch_size=16, validation=0.1, label_dropout=0.2, ema=0.9, patience=3,
    kl_warmup=1.5, noise=0.1, binarise=True,
)  # fmt: skip
GAUSSIAN = replace(FULL, objective="gaussian", binarise=False, gradient_clip=1.01)
SIMPLE = TrainConfig(epochs=EPOCHS, batch_size=16, validation=0.1)


def run(folder: RunFolder | None, config: TrainConfig = FULL, **changes: Any) -> Checkpoint:
    family = changes.pop("family", "cvae")
    if family != "cvae":
        config = replace(config, label_dropout=0.0)
    arguments = {"data": dataset(), "model_config": model(family), "config": config}
    return train_model(**(arguments | {"prior": "normal", "folder": folder} | changes))


def stop_at(folder: RunFolder, step: int, **changes: Any) -> None:
    """Send a signal after `step` steps of this call; training stops after the next one."""
    seen: list[Step] = []

    def on_step(done: Step) -> None:
        seen.append(done)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped) as stopped:
        run(folder, callbacks=[Watch(on_step)], interruptible=True, **changes)
    assert stopped.value.signal == signal.SIGINT


def digest(checkpoint: Checkpoint, folder: Path) -> str:
    return save_checkpoint(checkpoint, folder / "model.pt")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "model.run")


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("cvae", FULL),
        ("vae", GAUSSIAN),
        ("ae", SIMPLE),
        ("vae", replace(SIMPLE, importance_samples=3)),
        ("vae", replace(SIMPLE, importance_samples=2, importance_epochs=1)),
    ],
    ids=["full", "gaussian", "ae", "importance", "importance at the end"],
)
def test_a_run_stopped_at_any_step_resumes_bit_for_bit(
    family: str, config: TrainConfig, tmp_path: Path
) -> None:
    expected = digest(run(None, config, family=family), tmp_path)
    # The last of these stops after the last step, before its epoch is counted.
    for step in range(1, STEPS * EPOCHS):
        folder = RunFolder(tmp_path / f"{step}.run")
        stop_at(folder, step, config=config, family=family)
        again = run(folder, config, family=family, resume=True)
        assert digest(again, tmp_path) == expected, step


def test_a_run_stopped_at_every_second_step_resumes_bit_for_bit(
    folder: RunFolder, tmp_path: Path
) -> None:
    expected = digest(run(None), tmp_path)
    for _ in range(STEPS * EPOCHS // 2):
        stop_at(folder, 1, resume=True)
    assert digest(run(folder, resume=True), tmp_path) == expected
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def test_a_resumed_run_keeps_its_first_command(folder: RunFolder) -> None:
    stop_at(folder, 2, command="vae-train cvae")
    again = run(folder, resume=True, command="vae-train cvae --save-every 0")
    assert again.metadata["command"] == "vae-train cvae"


def test_metrics_written_after_the_last_save_are_written_again(folder: RunFolder) -> None:
    stop_at(folder, STEPS + 1)
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 2, "lo')  # killed in the middle of a line
    run(folder, resume=True)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def test_a_resumed_epoch_counts_the_seconds_before_the_stop(folder: RunFolder) -> None:
    stop_at(folder, 2)
    _, state = folder.load()
    run(folder, resume=True)
    first = json.loads(folder.metrics.read_text().splitlines()[0])
    assert first["seconds"] > state["seconds"]


def test_an_unfinished_run_is_not_overwritten(folder: RunFolder) -> None:
    stop_at(folder, 3)
    before = folder.state.read_bytes()
    with pytest.raises(UsageError, match=r"unfinished run. Add --resume .* or --force to start"):
        run(folder)
    assert folder.state.read_bytes() == before


def test_resume_without_a_saved_state_starts_from_the_beginning(folder: RunFolder) -> None:
    messages: list[str] = []
    run(folder, resume=True, log=messages.append)
    assert messages == [f"{folder.path}: nothing to resume, starting from the beginning"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": replace(FULL, beta=2)}, "train.beta was 1.0, is 2"),
        ({"config": replace(FULL, epochs=4)}, "train.epochs was 3, is 4"),
        ({"model_config": model(latent_dim=3)}, "model.latent_dim was 2, is 3"),
        ({"prior": "gaussian"}, "prior.kind was 'normal', is 'gaussian'"),
        ({"data": dataset(61)}, "data was "),
    ],
)
def test_another_run_is_refused_with_the_fields_that_differ(
    changes: dict[str, Any], named: str, folder: RunFolder
) -> None:
    stop_at(folder, 3)
    with pytest.raises(UsageError, match="belongs to another run") as refused:
        run(folder, resume=True, **changes)
    assert named in str(refused.value)


def test_another_number_of_threads_is_reported(folder: RunFolder) -> None:
    stop_at(folder, 3)
    messages: list[str] = []
    run(folder, resume=True, threads=2, log=messages.append)
    assert "started with --threads 1 and is resumed with --threads 2" in messages[0]
    assert messages[1] == "resuming at epoch 1, after 4 steps"


def test_a_damaged_state_is_refused(folder: RunFolder) -> None:
    stop_at(folder, 3)
    raw = bytearray(folder.state.read_bytes())
    raw[len(raw) // 2] ^= 1
    folder.state.write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"state\.pt: damaged"):
        run(folder, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {}},
        {"moments": {}, "ema_weights": [torch.zeros(2)]},
        {"moments": {"steps": torch.zeros(()), "exp_avg": [torch.zeros(3)], "exp_avg_sq": []}},
        {"noise": torch.zeros(4, dtype=torch.uint8)},
        {"shuffle_state": torch.zeros(4, dtype=torch.uint8)},
        {"history": [{"epoch": 1}]},
        {"history": None},
        {"best": {}},
    ],
    ids=lambda change: ",".join(change),
)
def test_a_state_that_does_not_fit_is_refused(change: dict[str, Any], folder: RunFolder) -> None:
    stop_at(folder, STEPS + 1)
    content, _ = read_checkpoint_file(folder.state)
    content["state"] |= change
    write_checkpoint_file(content, folder.state)
    with pytest.raises(InputError, match="does not fit the model"):
        run(folder, resume=True)


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1},
        {"format": 1, "run": {}, "state": {}},
        {"format": 4, "run": [], "state": {}},
        [],
    ],
)
def test_a_state_of_another_format_is_refused(content: Any, folder: RunFolder) -> None:
    folder.make()
    write_checkpoint_file(content, folder.state)
    with pytest.raises(InputError, match="not a state that this version wrote"):
        run(folder, resume=True)


def test_the_state_is_saved_at_the_given_interval(tmp_path: Path, monkeypatch: Any) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    folder, saves = RunFolder(tmp_path / "model.run", save_every=5), []

    def on_step(step: Step) -> None:
        saves.append(folder.state.exists())
        folder.state.unlink(missing_ok=True)
        clock[0] += 2

    run(folder, callbacks=[Watch(on_step)])
    # Steps take 2 seconds, so every third step is followed by a save, which the next step sees.
    assert [number for number, saved in enumerate(saves, 1) if saved] == [4, 7, 10]
    assert len(saves) == STEPS * EPOCHS


@pytest.mark.slow
def test_a_run_killed_repeatedly_gives_the_same_checkpoint() -> None:
    script = Path(__file__).with_name("kills.py")
    done = subprocess.run(
        [sys.executable, script, "--kills", "24"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 kills in " in done.stdout
    assert "0 checkpoints or metrics differ" in done.stdout
    assert "12 kills of commands on a finished run: 0 models lost" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_prints_how_to_resume(
    number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "model.pt"
    state = tmp_path / "model.run" / "state.pt"
    arguments = [*RECIPE, "--epochs", "5000", "--patience", "5000", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_train", *arguments], stderr=subprocess.PIPE, text=True
    )
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    kept = f"stopped: the state is saved in {state}. Repeat the command with --resume to continue\n"
    assert errors.splitlines(keepends=True)[-1] == kept
    assert "Traceback" not in errors
    assert not out.exists()
    read_checkpoint_file(state)


def test_a_finished_run_leaves_no_state(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    arguments = [*RECIPE, "--epochs", "1", "--patience", "0", "--out", str(out)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    left = sorted(path.name for path in out.with_suffix(".run").iterdir())
    assert left == ["config.toml", "metrics.jsonl"]
