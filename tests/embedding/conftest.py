"""Bundles with golden vectors for every host; tests are skipped if a host's tool is missing."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .host import ROOT, Missing, Vectors

DATA = ROOT / "tests" / "data"

if importlib.util.find_spec("onnx") is None:
    collect_ignore_glob = ["test_*.py"]  # the generated C needs the exporter

Open = Callable[[str], Vectors]


@pytest.fixture
def open_vectors(tmp_path: Path) -> Open:
    """A function that unpacks a bundle of tests/data by name, or the embedded one, `mnist`."""
    return functools.partial(open_in, tmp_path)


def open_in(folder: Path, name: str) -> Vectors:
    return Vectors(name if name == "mnist" else DATA / f"{name}.zip", folder)


def skip_if_missing(make: Callable[..., Any], *arguments: Any) -> Any:
    """Call `make(*arguments)`; skip the test if that needs a missing tool."""
    try:
        return make(*arguments)
    except Missing as missing:
        pytest.skip(str(missing))
