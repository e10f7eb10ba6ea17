"""The bad bundles that the Python loader refuses: the JavaScript one refuses them as well."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.security.bad_bundles import DATA, bad_bundles
from tests.security.restamp import read_files, signed
from tests.studio.conftest import Engine

# What only a file system can hold; a page is given bytes.
NOT_BYTES = ("folder with a link", "folder with a folder", "folder with a pipe")


@pytest.mark.parametrize("stem", ["vae_mlp", pytest.param("", marks=pytest.mark.slow, id="all")])
def test_every_bad_bundle_is_refused_with_the_same_error(
    engine: Engine, tmp_path: Path, stem: str
) -> None:
    cases = [
        bad
        for bad in bad_bundles()
        if bad.name.startswith(stem) and bad.name.partition(": ")[2] not in NOT_BYTES
    ]
    for index, bad in enumerate(cases):
        bad.make(tmp_path / str(index))
    jobs = [{"job": "golden", "bundle": str(tmp_path / str(i))} for i in range(len(cases))]
    wrong, seen = [], Counter[str]()
    for bad, found in zip(cases, engine(*jobs), strict=True):
        # A graph that differs from torch is no error of the loader: the badge says it.
        differs = "result" in found and not found["result"]["ok"]
        name = "IntegrityError" if differs else found.get("error", "accepted")
        seen[name] += 1
        if name != bad.error.__name__:
            wrong.append(f"{bad.name}: {name}, expected {bad.error.__name__}: {found}")
        text = found.get("message", "")
        assert "\n" not in text
        assert len(text) <= 600
    print(f"\n{len(cases)} bad bundles: {dict(seen)}; not in bytes: {', '.join(NOT_BYTES)}")
    assert not wrong
    assert len(cases) >= (100 if stem else 700)


def test_signing_alone_makes_nothing_bad(engine: Engine, tmp_path: Path) -> None:
    folders = []
    for source in sorted(DATA.glob("*.zip")):
        folder = tmp_path / source.stem
        folder.mkdir()
        for name, raw in signed(read_files(source)).items():
            (folder / name).write_bytes(raw)
        (folder / ".DS_Store").write_bytes(b"left by a file manager")
        folders.append(folder)
    found = engine(*({"job": "golden", "bundle": str(folder)} for folder in folders))
    assert [one["result"]["ok"] for one in found] == [True] * len(folders)
