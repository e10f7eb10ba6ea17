"""The model card that is written into every bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from vae_export.model_card import MADE_BY, PICTURE
from vae_export.writer import write_bundle
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.errors import FileError

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(params=["cvae_mlp", "vae_conv", "ae_mlp"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A bundle written twice: as a folder and as a zip."""
    bundle = open_bundle(DATA / f"{request.param}.zip")
    files = bundle.read_all()
    del files["manifest.json"]
    for name in ("mine", "mine.zip"):
        write_bundle(bundle.manifest, files, tmp_path / name)
    return tmp_path / "mine", tmp_path / "mine.zip"


def test_both_kinds_of_bundle_have_one_and_open(written: tuple[Path, Path]) -> None:
    folder, zipped = written
    assert open_bundle(folder).notes == open_bundle(zipped).notes == ("README.md",)
    assert open_bundle(folder).sha256 == open_bundle(zipped).sha256
    assert (folder / PICTURE).is_file()
    assert PICTURE not in open_bundle(zipped).read_notes()["README.md"].decode()


def test_it_says_what_the_manifest_says(written: tuple[Path, Path]) -> None:
    text = (written[0] / "README.md").read_text()
    bundle = open_bundle(written[0])
    assert text.startswith("---\nlibrary_name: vae-onnx\n")
    assert f"\n# {bundle.manifest.spec.family.upper()} of 8×8 L images\n" in text
    assert bundle.manifest.spec.summary in text
    assert "CC BY 4.0" in text, "the digits of the test bundles"
    for graph in bundle.manifest.graphs:
        assert f"| `{graph.file.file}` | {graph.file.bytes:,} |" in text
    assert text.count("```") % 2 == 0


def test_its_python_runs(written: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written[0].parent)
    text = (written[0] / "README.md").read_text()
    exec(text.partition("```python\n")[2].partition("```")[0].replace('"bundle"', '"mine"'), {})
    assert Path("samples.png").is_file()


def test_its_picture_shows_samples(written: tuple[Path, Path]) -> None:
    with vae.load(written[0], device="cpu") as model:
        classes = model.spec.classes
        labels = [name for name in classes for _ in range(10)] or None
        expected = vae.grid(
            model.sample(len(labels or [0] * 30), labels, seed=0), labels, columns=10
        )
    with Image.open(written[0] / PICTURE) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(expected))


def test_a_readme_of_somebody_else_is_kept(written: tuple[Path, Path]) -> None:
    folder = written[0]
    bundle = open_bundle(folder)
    files = bundle.read_all()
    del files["manifest.json"]
    write_bundle(bundle.manifest, files, folder)  # our own is replaced
    assert MADE_BY in (folder / "README.md").read_text()
    (folder / "README.md").write_text("# By hand")
    with pytest.raises(FileError, match="is not a bundle, or holds other files too"):
        write_bundle(bundle.manifest, files, folder)
    assert (folder / "README.md").read_text() == "# By hand"


def test_an_unknown_data_set_has_an_unknown_licence(tmp_path: Path) -> None:
    from dataclasses import replace

    from vae_export.model_card import card_text

    manifest = open_bundle(DATA / "vae_mlp.zip").manifest
    unknown = replace(manifest, training={"data": {"name": "photos"}})
    text = card_text(unknown, picture=False)
    assert "`photos`: its licence is not known here. Check it before" in text
    assert "datasets:" not in text
