"""The page of public modules: it shows what was measured, and every module did what it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.modules.__main__ import JSON, PAGE, what_is_wrong
from tests.modules.catalogue import CASES
from tests.modules.measure import measure
from tests.modules.page import page

ROWS = json.loads(JSON.read_text())["rows"]


def test_the_page_shows_the_measurements() -> None:
    assert PAGE.read_text() == page(json.loads(JSON.read_text()))
    assert list(ROWS) == [case.name for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_module_did_what_it_should(case: object) -> None:
    assert what_is_wrong(case, ROWS[case.name]) == ""  # type: ignore[attr-defined, arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PyTorch's example VAE", "a vision transformer"])
def test_a_module_that_needs_no_library_still_does(name: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    found = measure(case, tmp_path)
    assert what_is_wrong(case, found) == ""
    assert found["forward"] < 1e-5
    assert found["latent_shape"] == ROWS[name]["latent_shape"]
