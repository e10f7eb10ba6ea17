"""What `vae-train` prints while it trains."""

from __future__ import annotations

import time

import pytest

from vae_train.loop import Step
from vae_train.progress import Progress
from vae_train.state import Epoch

EPOCH = Epoch(2, 9.5, 7.25, 2.25, 60.0, 950.0, validation_loss=9.75)


@pytest.mark.parametrize(
    ("terms", "losses"), [(True, "loss 9.50 reconstruction 7.25 KL 2.25"), (False, "loss 9.50")]
)
def test_one_line_is_printed_per_epoch(
    terms: bool, losses: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(5, terms=terms) as progress:
        progress.on_epoch_end(EPOCH)
    printed = capsys.readouterr()
    line = f"epoch 2/5: {losses} validation 9.75 (950 images/s, 0:03:00 left)\n"
    assert (printed.err, printed.out) == (line, "")


def test_within_a_long_epoch_a_line_is_printed_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Progress(5, "objective bce") as progress:
        progress.on_train_begin(2000)
        for step in range(1, 401):  # 100 seconds
            clock[0] += 0.25
            progress.on_step_end(Step(2, step, 400, 9.5, 7.25, 2.25, 950.0))
        clock[0] += 29
        progress.on_epoch_end(EPOCH)
        clock[0] += 29
        progress.on_step_end(Step(3, 1, 400, 9.5, 7.25, 2.25, 950.0))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "objective bce", "epoch 2/5, step 120/400", "epoch 2/5, step 240/400",
        "epoch 2/5, step 360/400", "epoch 2/5",
    ]  # fmt: skip
    assert lines[1].endswith(": loss 9.50 rec 7.25 KL 2.25 950 images/s")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(5, "objective bce", quiet=True) as progress:
        progress.on_train_begin(9)
        progress.on_epoch_end(EPOCH)
    assert capsys.readouterr() == ("", "")
