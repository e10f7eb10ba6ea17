"""Mistaken commands and simultaneous runs: no finished model and no unfinished run is lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.train.test_cli import invoke, refused
from vae_train import load_checkpoint
from vae_train.run_folder import RunFolder

OPTIONS = (
    *("ae", "--backbone", "mlp", "--hidden", "16", "--latent-dim", "2", "--epochs", "2"),
    *("--batch-size", "64", "--prior", "normal", "--no-report", "--quiet"),
)


def arrays(path: Path, seed: int, n: int = 60) -> Path:
    rng = np.random.default_rng(seed)
    np.savez(path, images=rng.integers(0, 256, (n, 6, 6), np.uint8), test_images=rng.integers(
        0, 256, (n, 6, 6), np.uint8))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for k, name in enumerate(("data", "other")):
        arrays(folder / f"{name}.npz", k)
    with np.load(folder / "data.npz") as data:
        np.savez(folder / "other_test.npz", images=data["images"], test_images=data["images"])
    done = invoke(*OPTIONS, "--data", folder / "data.npz", "--out", folder / "model.pt")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a folder with a finished run, as the working directory."""
    copy = tmp_path / "work"
    shutil.copytree(trained, copy)
    monkeypatch.chdir(copy)
    return copy


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


RUN = ("--data", "data.npz", "--out", "model.pt")
RESUME = (*RUN, "--resume")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (RUN, "model.pt: already exists. Use another --out, or --force to replace it."),
        ((*RUN, "--seed", "5"), "model.pt: already exists"),
        ((*RESUME, "--epochs", "9"), "finished: train.epochs was 2, is 9. Use another --out"),
        ((*RESUME, "--lr", "0.5"), "train.learning_rate was 0.003, is 0.5"),
        ((*RESUME, "--latent-dim", "3"), "model.latent_dim was 2, is 3"),
        ((*RESUME, "--prior", "gaussian"), "prior.kind was 'normal', is 'gaussian'"),
        (("--data", "other.npz", "--out", "model.pt", "--resume"), "finished: data was '"),
        (("--data", "other_test.npz", "--out", "model.pt", "--resume"), "finished: test was '"),
        (("--data", "none.npz", "--out", "model.pt", "--resume"), "none.npz: no such file"),
        ((*RESUME, "--force"), "--resume continues a run, --force starts it again"),
        (("--data", "data.npz", "--out", "model.ckpt"), "model.run belongs to model.pt"),
        (("--data", "data.npz", "--out", "model"), "model.run belongs to model.pt"),
        (("--data", "data.npz", "--out", "model.run"), "model.run: is a folder"),
        (("--data", "data.npz", "--out", "data.npz"), "data.npz: already exists"),
        (("--data", "data.npz", "--out", "data.npz", "--force"), "data.npz: is not a checkpoint"),
        (("--data", "data.npz", "--out", "data.npz", "--resume"), "data.npz: is not a checkpoint"),
        (("--data", "data.npz", "--out", "b.pt", "--metrics", "model.pt"), "not hold JSON lines"),
        (("--data", "data.npz", "--out", "b.pt", "--metrics", "b.pt"), "writes this file anyway"),
        ((*RUN, "--force", "--metrics", "model.pt"), "writes this file anyway"),
        ((*RUN, "--force", "--beta", "2"), "--beta is for vae and cvae only"),
        (("--data", "none.npz", "--out", "model.pt", "--force"), "none.npz: no such file"),
        ((*RUN, "--force", "--validation", "0.999"), "none is left to train on"),
    ],
)
def test_a_mistaken_command_changes_no_file(
    arguments: tuple[str, ...], expected: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = digests(folder)
    code, line = refused(capfd, *OPTIONS, *arguments)
    assert code in (2, 6)
    assert expected in line
    assert digests(folder) == before


def test_resuming_a_finished_run_changes_nothing(folder: Path) -> None:
    before = digests(folder)
    done = invoke(*OPTIONS, *RESUME, "--threads", "2", "--save-every", "0")
    assert done.exit_code == 0
    last = done.stderr.splitlines()[-1]
    assert last == "model.pt: already finished, with the same options and data"
    assert digests(folder) == before


def test_a_finished_run_is_known_without_its_run_folder(folder: Path) -> None:
    shutil.rmtree(folder / "model.run")
    before = digests(folder)
    assert "already finished" in invoke(*OPTIONS, *RESUME).stderr
    assert digests(folder) == before
    assert not (folder / "model.run").exists()


def test_a_damaged_checkpoint_is_not_resumed_or_replaced(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = bytearray((folder / "model.pt").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "model.pt").write_bytes(raw)
    for option in ("--resume", "--force"):
        code, line = refused(capfd, *OPTIONS, *RUN, option)
        assert code == 2
        assert "model.pt: is not a checkpoint, or is damaged" in line
    assert (folder / "model.pt").read_bytes() == raw


def test_force_replaces_a_finished_run(folder: Path) -> None:
    before = digests(folder)
    done = invoke(*OPTIONS, *RUN, "--force", "--seed", "5")
    assert done.exit_code == 0, done.output
    assert load_checkpoint(folder / "model.pt").train.seed == 5
    assert invoke(*OPTIONS, *RUN, "--force").exit_code == 0
    assert digests(folder)["model.pt"] == before["model.pt"]  # the name and options are the same


def child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vae_train", *OPTIONS, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


LONG = ("--epochs", "100000", "--save-every", "0")


def started(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Wait until the state is saved."""
    deadline = time.monotonic() + 120
    while not Path("model.run/state.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_a_second_run_is_refused_until_the_first_one_dies(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = digests(folder)["model.pt"]
    first = started(child(*RUN, *LONG, "--force"))
    try:
        for option in ("--resume", "--force"):
            code, line = refused(capfd, *OPTIONS, *RUN, *LONG, option)
            assert code == 2
            assert "model.run: another run is writing to this folder" in line
    finally:
        first.kill()
        first.communicate()
    # The lock died with its process; the old checkpoint and the state are both still there.
    assert digests(folder)["model.pt"] == before
    code, line = refused(capfd, *OPTIONS, *RUN, *LONG)
    assert "belongs to an unfinished run. Add --resume to continue it, or --force" in line
    lines: list[str] = []
    second = child(*RUN, *LONG, "--resume")
    with second:
        for line in second.stderr:  # type: ignore[union-attr]
            lines.append(line)
            if "resuming at epoch" in line:
                second.kill()
    assert any("resuming at epoch" in line for line in lines)
    assert digests(folder)["model.pt"] == before


@pytest.mark.slow
def test_of_two_runs_at_once_one_is_refused(folder: Path) -> None:
    arguments = ("--data", "data.npz", "--out", "new.pt", "--epochs", "60")
    runs = [child(*arguments) for _ in "ab"]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 2]
    (refusal,) = (e for e, run in zip(errors, runs, strict=True) if run.returncode == 2)
    assert "another run is writing" in refusal or "already exists" in refusal
    assert load_checkpoint(folder / "new.pt").metadata["epochs"] == 60


def test_a_file_of_the_same_name_is_no_checkpoint_if_there_is_no_run(folder: Path) -> None:
    (folder / "new").write_text("notes")
    done = invoke(*OPTIONS, "--data", "data.npz", "--out", "new.pt")
    assert done.exit_code == 0, done.output


def test_a_lock_is_released_and_an_empty_folder_removed(tmp_path: Path) -> None:
    run = RunFolder.for_checkpoint(tmp_path / "model.pt")
    for _ in range(2):
        with run.locked():
            assert run.path.is_dir()
        assert not run.path.exists()
    with run.locked():
        (run.path / "metrics.jsonl").touch()
    assert run.metrics.exists()
    if os.name == "posix":
        with run.locked(), pytest.raises(ValueError, match="another run"), run.locked():
            pass


def test_a_linked_run_folder_is_locked_too(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "model.run").symlink_to(tmp_path / "disk")
    run = RunFolder.for_checkpoint(tmp_path / "model.pt")
    with run.locked(), pytest.raises(ValueError, match="another run"), run.locked():
        pass
