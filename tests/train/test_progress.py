"""What `vae-train` prints while it trains."""

from __future__ import annotations

import pytest

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
        progress.epoch(EPOCH)
    printed = capsys.readouterr()
    line = f"epoch 2/5: {losses} validation 9.75 (950 images/s, 0:03:00 left)\n"
    assert (printed.err, printed.out) == (line, "")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(5, quiet=True) as progress:
        progress.epoch(EPOCH)
    assert capsys.readouterr() == ("", "")
