"""`vae-export --html`: one HTML file that runs the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vae_export.cli import cli
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.datasets import load_dataset
from vae_runtime.errors import MissingExtra, UsageError
from vae_runtime.studio import fetch
from vae_runtime.studio.build import NO_POINTS, PageContent, encode_points
from vae_runtime.studio.single_file import single_file


def export(saved: Any, *more: str) -> None:
    arguments = ["--ckpt", str(saved("cvae-mlp")), "--out", "b.zip", "--html", "b.html", *more]
    CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(not fetch.present(), reason=f"no onnxruntime-web: run {fetch.COMMAND}")
@pytest.mark.parametrize("data", [None, "digits"])
def test_the_page_is_the_studio_of_the_bundle(saved: Any, data: str | None) -> None:
    export(saved, *(("--data", data) if data else ()))
    bundle = open_bundle("b.zip")
    points = encode_points(bundle, load_dataset(data, "test")) if data else NO_POINTS
    page = Path("b.html").read_text()
    expected = single_file(PageContent(bundle, "b.zip", points)).decode()
    # pytest would take hours to compare millions of characters.
    parted = next((i for i, (a, b) in enumerate(zip(page, expected, strict=False)) if a != b), -1)
    assert (len(page), parted) == (len(expected), -1), page[parted - 200 : parted + 200]
    assert len(points.z) == (297 if data else 0)


def test_without_onnxruntime_web_nothing_is_exported(
    saved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_runtime.studio.build.present", lambda: False)
    with pytest.raises(MissingExtra, match=r"Run: python -m vae_runtime\.studio\.fetch"):
        export(saved)
    assert not Path("b.zip").exists()


def test_an_html_path_of_another_type_is_refused_before_the_export(saved: Any) -> None:
    with pytest.raises(UsageError, match=r"^b\.txt: unknown type \.txt, expected \.html \.htm$"):
        export(saved, "--html", "b.txt")
    assert not Path("b.zip").exists()
