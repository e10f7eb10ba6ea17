"""`vae-run studio`: where it writes, which data it shows, and what it refuses at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.conftest import Run
from tests.runtime.conftest import run as run
from vae_runtime.bundle.reader import open_bundle

DATA = Path(__file__).parents[1] / "data"


def test_a_folder_with_other_files_is_not_changed(
    studio_folder: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mine.txt").write_text("mine")
    ran = run("studio", "--out", "site")
    assert ran.code == 6
    assert ran.error == "error: site: exists and is not a studio. Choose another --out."
    assert [p.name for p in (tmp_path / "site").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("out", "code", "error"),
    [
        ("page.txt", 2, "page.txt: unknown type .txt, expected .html .htm or a folder"),
        ("none/site", 6, "none/site: there is no folder none. Create it first."),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: str, code: int, error: str
) -> None:
    monkeypatch.setattr("vae_runtime.studio.build.present", lambda: pytest.fail("has begun"))
    ran = run("studio", "--out", out)
    assert (ran.code, ran.error) == (code, f"error: {error}")
    assert list(tmp_path.iterdir()) == []


def test_data_without_a_test_split_is_shown_whole(
    studio_folder: Path, run: Run, tmp_path: Path
) -> None:
    spec = open_bundle(DATA / "cvae_mlp.zip").manifest.spec
    np.savez(tmp_path / "own.npz", images=np.zeros((5, *spec.image.shape), np.uint8))
    ran = run("studio", "-b", DATA / "cvae_mlp.zip", "--data", "own.npz", "--out", "site")
    assert ran.code == 0
    assert ran.err.startswith(
        "own.npz: no test split, so its training images are used\nwrote site, "
    )
    with np.load(tmp_path / "site" / "points.npz") as points:
        assert points["z"].shape == (5, spec.latent_dim)


def test_images_of_any_size_are_resized_to_the_bundle(
    studio_folder: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for side in (9, 16):
        Image.new("RGB", (side, side), "white").save(tmp_path / "photos" / f"{side}.png")
    ran = run("studio", "-b", DATA / "vae_mlp.zip", "--data", "photos", "--out", "site")
    assert ran.code == 0
    with np.load(tmp_path / "site" / "points.npz") as points:
        assert len(points["z"]) == 2
        assert np.array_equal(points["z"][0], points["z"][1])
