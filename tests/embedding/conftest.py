"""Bundles whose golden vectors every host must reach; tests skip where a host's tool is missing."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .host import EXAMPLES, ROOT, Missing, Vectors

DATA = ROOT / "tests" / "data"

if importlib.util.find_spec("onnx") is None:
    collect_ignore_glob = ["test_*.py"]  # the generated C needs the exporter

Open = Callable[[str], Vectors]


@pytest.fixture
def open_vectors(tmp_path: Path) -> Open:
    """`cvae_mlp` → that bundle of tests/data, unpacked; `mnist` the embedded one."""

    return functools.partial(open_in, tmp_path)


def open_in(folder: Path, name: str) -> Vectors:
    return Vectors(name if name == "mnist" else DATA / f"{name}.zip", folder)


def here(make: Callable[..., Any], *arguments: Any) -> Any:
    """`make(*arguments)`; the test is skipped where a tool is missing."""
    try:
        return make(*arguments)
    except Missing as missing:
        pytest.skip(str(missing))


@functools.cache
def example(path: str) -> Any:
    """The module of a file of an example, `web_app/app.py`."""
    file = EXAMPLES / path
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where Flask looks for its templates
    spec.loader.exec_module(module)
    return module
