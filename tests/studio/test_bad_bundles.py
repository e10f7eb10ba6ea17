"""The bad bundles that the Python loader refuses: the JavaScript one refuses them as well."""

from __future__ import annotations

import random
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.security.bad_bundles import DATA, GOOD, bad_bundles
from tests.security.rechecksum import read_files, with_checksums
from tests.security.test_bit_rot import rotten
from tests.studio.conftest import Engine

# What only a file system can hold; a page is given bytes.
NOT_BYTES = ("folder with a link", "folder with a folder", "folder with a pipe")


@pytest.mark.parametrize("stem", ["vae_mlp", pytest.param("", marks=pytest.mark.slow, id="all")])
def test_every_bad_bundle_is_refused_with_the_same_error(
    engine: Engine, tmp_path: Path, stem: str
) -> None:
    cases = [
        bad
        for good in GOOD
        for bad in bad_bundles(good)
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


def test_damages_anywhere_are_found(engine: Engine, tmp_path: Path) -> None:
    """Flipped bits and truncations, as `tests/security/test_bit_rot.py` has them."""
    chance = random.Random(0)
    raw = (DATA / "ae_mlp.zip").read_bytes()
    for i in range(400):
        (tmp_path / f"{i}.zip").write_bytes(rotten(raw, chance))
    found = engine(*({"job": "open", "bundle": str(tmp_path / f"{i}.zip")} for i in range(400)))
    kinds = Counter(one.get("error", "accepted") for one in found)
    print(f"\n400 damages: {dict(kinds)}")
    assert kinds.keys() <= {"IntegrityError", "InputError"}
    assert kinds["IntegrityError"] > 390


def test_a_zip_of_another_program_is_read(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, raw in read_files(DATA / "ae_mlp.zip").items():
            archive.writestr(name, raw)
        archive.comment = b""
    assert "result" in engine({"job": "open", "bundle": str(path)})[0]


def test_signing_alone_makes_nothing_bad(engine: Engine, tmp_path: Path) -> None:
    folders = []
    for source in sorted(DATA.glob("*.zip")):
        folder = tmp_path / source.stem
        folder.mkdir()
        for name, raw in with_checksums(read_files(source)).items():
            (folder / name).write_bytes(raw)
        (folder / ".DS_Store").write_bytes(b"left by a file manager")
        folders.append(folder)
    found = engine(*({"job": "golden", "bundle": str(folder)} for folder in folders))
    assert [one["result"]["ok"] for one in found] == [True] * len(folders)
