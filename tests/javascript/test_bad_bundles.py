"""The JavaScript reader detects damaged and false bundles."""

from __future__ import annotations

import random
import zipfile
from collections import Counter
from pathlib import Path

from tests.conformance import contents
from tests.javascript.conftest import Engine
from tests.security.rechecksum import read_files, with_checksums
from tests.security.test_bit_rot import rotten

DATA = Path(__file__).parents[1] / "data"


def test_outputs_that_differ_from_torch_are_detected(engine: Engine, tmp_path: Path) -> None:
    """Rule V9 of docs/bundle-format.md, which needs onnxruntime; the corpus tests the others."""
    cases = [case for case in contents.all_cases() if case.rule == "V9"]
    for index, case in enumerate(cases):
        case.make(tmp_path / f"{index}.zip")
    jobs = [{"job": "golden", "bundle": str(tmp_path / f"{i}.zip")} for i in range(len(cases))]
    assert [found["result"]["ok"] for found in engine(*jobs)] == [False] * len(cases)


def test_damage_anywhere_is_detected(engine: Engine, tmp_path: Path) -> None:
    """Flip bits and truncate files as in `tests/security/test_bit_rot.py`."""
    chance = random.Random(0)
    raw = (DATA / "ae_mlp.zip").read_bytes()
    for i in range(400):
        (tmp_path / f"{i}.zip").write_bytes(rotten(raw, chance))
    found = engine(*({"job": "open", "bundle": str(tmp_path / f"{i}.zip")} for i in range(400)))
    kinds = Counter(one.get("error", "accepted") for one in found)
    print(f"\n400 damages: {dict(kinds)}")
    assert kinds.keys() <= {"IntegrityError", "InputError"}
    assert kinds["IntegrityError"] > 390


def test_a_zip_from_another_program_is_read(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, raw in read_files(DATA / "ae_mlp.zip").items():
            archive.writestr(name, raw)
        archive.comment = b""
    assert "result" in engine({"job": "open", "bundle": str(path)})[0]


def test_renewed_checksums_alone_keep_a_bundle_valid(engine: Engine, tmp_path: Path) -> None:
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
