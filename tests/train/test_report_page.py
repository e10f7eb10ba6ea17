"""The report folder of a run: its page, pictures and JSON file."""

from __future__ import annotations

import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.test_cli import invoke, refused
from tests.train.test_cli_errors import without
from tests.train.test_report import DIGITS, trained
from vae_train.report import write_report


class Page(HTMLParser):
    """The resources and headings of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.headings: list[str] = []
        self._in_heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v or "" for k, v in attrs if k in ("src", "srcset", "href", "data")]
        self._in_heading = tag == "h2"

    def handle_data(self, data: str) -> None:
        if self._in_heading and data.strip():
            self.headings.append(data)


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
def test_the_report_folder_and_page(family: str, tmp_path: Path) -> None:
    report = write_report(trained(family), tmp_path / "m.run", "Training of <m>.pt")
    names = ["losses", "samples", "reconstructions", "traversals", "units"]
    files = {path.name for path in (tmp_path / "m.run").iterdir()}
    assert files == {"report.html", "report.json", *(f"{name}.png" for name in names)}
    for picture in report.pictures:
        with Image.open(io.BytesIO(picture.png)) as image:
            image.load()
            assert np.asarray(image).std() > 1  # not blank
    text = (tmp_path / "m.run" / "report.html").read_text()
    page = Page(text)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://|@import|url\(", text)
    assert len(page.sources) == len(names) + 2  # two charts also have a dark version
    last = "Variance per latent dimension" if family == "ae" else "KL per latent dimension"
    assert page.headings == [
        "Measurements", "Loss curves", "Samples", "Reconstructions", "Traversals", last,
    ]  # fmt: skip
    assert "<title>Training of &lt;m&gt;.pt</title>" in text
    assert "vae-train &lt;cvae&gt;" in text
    found = json.loads((tmp_path / "m.run" / "report.json").read_text())
    assert found["format"] == 1
    assert found["measurements"] == asdict(report.measurements)
    assert [f["code"] for f in found["findings"]] == [f.code for f in report.findings]
    assert report.findings[0].code == (
        "nothing_learned" if family == "ae" else "posterior_collapse"
    )
    assert f"Warning: {report.findings[0].observation}" in text


def test_the_same_run_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(trained(), tmp_path / name, "same")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_size_of_a_grid_follows_from_its_images(tmp_path: Path) -> None:
    report = write_report(trained(), tmp_path / "run", "t")
    sizes = {p.name: Image.open(io.BytesIO(p.png)).size for p in report.pictures}
    scale, cell = 7, 8 + 2  # 56 // 8, and the gap
    assert sizes["samples"] == (
        scale * (10 * cell - 2),
        scale * (4 * cell - 2),
    )  # one row per class
    assert sizes["reconstructions"] == (scale * (10 * cell - 2), scale * (6 * cell - 2))
    assert sizes["traversals"] == (scale * (11 * cell - 2), scale * (4 * cell - 2))


def test_training_writes_a_report(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    done = invoke("cvae", *DIGITS, "--out", out)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "model.run"
    assert f"report: {folder / 'report.html'}" in done.stderr
    found = json.loads((folder / "report.json").read_text())
    assert found["findings"]  # one epoch is too few for a good model
    for finding in found["findings"]:
        assert (
            f"{finding['level']}: {finding['observation']} Try: {finding['advice']}" in done.stderr
        )


def test_no_report_writes_no_report(tmp_path: Path) -> None:
    done = invoke("ae", *DIGITS, "--no-report", "--out", tmp_path / "model.pt")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "model.run" / "report.html").exists()
    assert "report:" not in done.stderr
    assert "warning:" not in done.stderr


def test_a_file_in_place_of_the_run_folder_is_refused_before_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.run").write_text("mine")
    code, line = refused(capfd, "ae", *DIGITS, "--out", tmp_path / "model.pt")
    assert (code, str(tmp_path / "model.run") in line) == (6, True)
    assert (tmp_path / "model.run").read_text() == "mine"


def test_the_tensorboard_option_without_tensorboard_says_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "tensorboard")
    code, line = refused(capfd, "ae", *DIGITS, "--tensorboard", "--out", tmp_path / "model.pt")
    assert code == 2
    assert line == (
        "error: --tensorboard needs tensorboard, not installed here. Run: pip install tensorboard\n"
    )


def test_tensorboard_receives_scalars_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    two = ("--epochs", "2", "--tensorboard", "--out", tmp_path / "model.pt")
    done = invoke("vae", *DIGITS, *two)
    assert done.exit_code == 0, done.output
    events = EventAccumulator(str(tmp_path / "model.run")).Reload()
    losses = [event.value for event in events.Scalars("training/loss")]
    metrics = [float(w) for w in re.findall(r"epoch \d/2: loss ([\d.]+)", done.stderr)]
    assert losses == pytest.approx(metrics, abs=0.01)
    assert [event.step for event in events.Scalars("validation/kl")] == [1, 2]
    tags = {"losses", "samples", "reconstructions", "traversals", "units"}
    assert set(events.Tags()["images"]) == tags
