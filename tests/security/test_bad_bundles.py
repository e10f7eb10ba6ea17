"""Bundles that lie or are damaged: each refused with the error that fits, and no traceback."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import vae_runtime as vae
from tests.security.bad_bundles import GOOD, bad_bundles
from tests.security.rechecksum import read_files, with_checksums
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.errors import IntegrityError, VaeError
from vae_runtime.verification import compare

pytestmark = pytest.mark.torch_free


def use(path: Path) -> None:
    """Read and run all of a bundle, as `vae-run verify` does."""
    if not all(match.ok for match in compare(open_bundle(path), device="cpu")):
        raise IntegrityError("differs from torch")


@pytest.mark.parametrize("good", GOOD, ids=lambda path: path.stem)
def test_every_bad_bundle_is_refused(good: Path, tmp_path: Path) -> None:
    wrong, seen = [], Counter[str]()
    for index, bad in enumerate(bad_bundles(good)):
        path = tmp_path / str(index)
        bad.make(path)
        try:
            use(path)
            found = "accepted"
        except VaeError as error:
            found = type(error).__name__
            if "\n" in str(error) or len(str(error)) > 600:
                found += " in many lines"
        seen[found] += 1
        if found != bad.error.__name__:
            wrong.append(f"{bad.name}: {found}, expected {bad.error.__name__}")
    print(f"\n{sum(seen.values())} bad bundles: {dict(seen)}")
    assert not wrong
    assert sum(seen.values()) >= 100, "300 and more of all six"


def test_signing_alone_makes_nothing_bad(tmp_path: Path) -> None:
    """What the lies are made with gives a good bundle where nothing was changed."""
    for source in GOOD:
        folder = tmp_path / source.stem
        folder.mkdir()
        for name, raw in with_checksums(read_files(source)).items():
            (folder / name).write_bytes(raw)
        (folder / ".DS_Store").write_bytes(b"left by a file manager")
        use(folder)
        with vae.load(folder) as model:
            assert len(model.sample(1, seed=0)) == 1
