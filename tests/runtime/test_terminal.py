"""Images in a terminal, and the progress line."""

from __future__ import annotations

import io

import numpy as np
import pytest

from vae_runtime import console
from vae_runtime.cli.terminal import render

pytestmark = pytest.mark.torch_free


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_two_pixels_per_character() -> None:
    picture = np.uint8([[[255, 0], [0, 9], [7, 7]]])
    assert render(picture, Terminal()) == (
        "\x1b[38;2;255;255;255;48;2;0;0;0m▀\x1b[38;2;0;0;0;48;2;9;9;9m▀\x1b[0m\n"
        "\x1b[38;2;7;7;7;48;2;0;0;0m▀▀\x1b[0m"
    )


def test_colour() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(3, 2, 1)
    assert render(picture, Terminal()) == "\x1b[38;2;0;2;4;48;2;1;3;5m▀\x1b[0m"


def test_no_colour_in_a_pipe_or_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.repeat(np.uint8([[[0, 128, 255]]]), 2, axis=1)
    assert render(picture, io.StringIO()) == " =@".replace("=", "+")
    monkeypatch.setenv("NO_COLOR", "1")
    assert render(picture, Terminal()) == " +@"


def test_wide_images_shrink() -> None:
    text = render(np.full((1, 40, 200), 255, np.uint8), io.StringIO(), width=50)
    assert [len(line) for line in text.splitlines()] == [50] * 5


def test_progress_is_silent_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(console, "_PROGRESS_AFTER_S", -1)
    assert list(console.progress(range(3), 30, 10)) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_progress_counts_and_clears_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(console, "_PROGRESS_AFTER_S", -1)
    monkeypatch.setattr(console, "_PROGRESS_EVERY_S", -1)
    assert list(console.progress(range(3), 25, 10)) == [0, 1, 2]
    assert "\r10 of 25 images, " in stream.getvalue()
    assert "\r25 of 25 images, " in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_progress_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    clock = iter((0, 100, 200, 300))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    assert list(console.progress(range(3), 30, 10, "rows")) == [0, 1, 2]
    assert stream.getvalue() == (
        "\r10 of 30 rows, 33%, 3 min 20 s left\x1b[K\r20 of 30 rows, 67%, 1 min 40 s left\x1b[K"
        "\r30 of 30 rows, 100%, 0 s left\x1b[K\r\x1b[K"
    )


def test_short_work_shows_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    assert list(console.progress(range(3), 30, 10)) == [0, 1, 2]
    assert stream.getvalue() == ""
