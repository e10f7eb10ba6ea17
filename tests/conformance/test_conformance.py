"""The Python and JavaScript readers give the same verdict on every case."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import vae_runtime as vae
from tests.conformance.bundles import bundle
from tests.conformance.corpus import Case
from tests.conformance.make import write
from tests.security.rechecksum import read_files, with_checksums
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.errors import IntegrityError, VaeError
from vae_runtime.verification import compare, read_golden

pytestmark = pytest.mark.torch_free

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "bundle-format.md").read_text()
RULES = {
    rule: (text, verdict)
    for rule, text, verdict in re.findall(r"^\| ([A-Z]\d+) \| (.*) \| (\w+) \|$", PAGE, re.M)
}
DATA = HERE.parent / "data"
DRIVER = Path(os.environ.get("VAE_CONFORMANCE_DRIVER") or HERE / "driver.mjs")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Path]]:
    return write(tmp_path_factory.mktemp("corpus"))


def read(path: Path, *, native: bool) -> str:
    """Return the verdict of the Python reader, which also runs the graphs of native cases."""
    try:
        if path.suffix == ".onnx":
            vae.Decoder(path, device="cpu").close()
            return "accept"
        opened = open_bundle(path)
        opened.read_all()
        read_golden(opened)
        if native and not all(match.ok for match in compare(opened, device="cpu")):
            raise IntegrityError("differs from torch")
    except VaeError as error:
        in_one_line = "\n" not in str(error) and len(str(error)) <= 600
        return type(error).__name__ if in_one_line else f"a long message: {error}"
    return "accept"


def test_every_rule_and_every_freedom_has_a_case(corpus: list[tuple[Case, Path]]) -> None:
    assert {case.rule for case, _ in corpus} == RULES.keys()
    assert len({case.name for case, _ in corpus}) == len(corpus) >= 400
    for case, _ in corpus:
        text, verdict = RULES[case.rule]
        assert case.verdict == verdict, case.name
        # Rules that only native readers check have only native cases.
        assert case.native or "(native)" not in text, case.name
    print(f"\n{len(corpus)} bundles: {dict(Counter(case.verdict for case, _ in corpus))}")


def test_python_gives_every_verdict(corpus: list[tuple[Case, Path]]) -> None:
    found = [(case, read(path, native=case.native)) for case, path in corpus]
    wrong = [f"{case.name}: {verdict}" for case, verdict in found if verdict != case.verdict]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("labelled", [False, True])
def test_the_good_bundles_are_accepted(family: str, labelled: bool, tmp_path: Path) -> None:
    variants = ("fp16", "int8", "uint8")
    path = tmp_path / "good.zip"
    path.write_bytes(pack(bundle(family, variants=variants, labelled_encoder=labelled)))
    assert read(path, native=True) == (
        "accept" if family == "cvae" or not labelled else "InputError"
    )


@pytest.mark.parametrize("source", sorted(DATA.glob("*.zip")), ids=lambda path: path.stem)
def test_rewriting_checksums_keeps_a_bundle_valid(source: Path, tmp_path: Path) -> None:
    """The bundle folder may also contain hidden files of a file manager."""
    for name, raw in with_checksums(read_files(source)).items():
        (tmp_path / name).write_bytes(raw)
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert read(tmp_path, native=True) == "accept"
    with vae.load(tmp_path, device="cpu") as model:
        assert len(model.sample(1, seed=0)) == 1


def test_javascript_gives_every_verdict(corpus: list[tuple[Case, Path]], tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not DRIVER.is_file():
        pytest.skip("no Node" if node is None else f"no {DRIVER.name}")
    cases = {str(path): case for case, path in corpus if not case.native}
    (tmp_path / "paths.json").write_text(json.dumps(list(cases)))
    done = subprocess.run(
        [node, str(DRIVER), str(tmp_path / "paths.json")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {row["path"]: row for row in json.loads(done.stdout)}
    assert found.keys() == cases.keys()
    wrong = [
        f"{case.name}: {found[path]['verdict']}, expected {case.verdict} "
        f"({found[path].get('message', '')[:120]})"
        for path, case in cases.items()
        if found[path]["verdict"] != case.verdict
    ]
    assert not wrong, "\n".join(wrong)
