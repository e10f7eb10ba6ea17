"""The shape of the tree: who may import whom, and how long a file or a function may be."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch_free

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "vae_runtime": ROOT / "runtime" / "vae_runtime",
    "vae_models": ROOT / "models" / "vae_models",
    "vae_train": ROOT / "train" / "vae_train",
    "vae_export": ROOT / "export" / "vae_export",
}
MAY_IMPORT = {
    "vae_runtime": {"numpy", "onnxruntime", "PIL", "click", "sklearn", "pyarrow", "distributed"},
    "vae_models": {"torch"},
    "vae_train": {"torch", "numpy", "click", "rich", "sklearn", "matplotlib", "threadpoolctl"}
    | {"vae_models", "vae_runtime"},
    "vae_export": {"torch", "onnx", "onnx_ir", "onnxscript", "numpy", "click", "google"}
    | {"matplotlib"}
    | {"vae_models", "vae_runtime", "vae_train"},
}
SCRIPTS = [
    path
    for top in ("tests", "examples")
    for path in (ROOT / top).rglob("*.py")
    if "node_modules" not in path.parts
]
LONG = {"tests/studio/test_browser.py"}  # one session of a browser, its panels one after another
MAX_FILE = 420
MAX_FUNCTION = 60


def sources(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    allowed = MAY_IMPORT[package] | set(sys.stdlib_module_names)
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(package)
        for name in imported(path)
        if name not in allowed
    ]
    assert not wrong


def test_there_is_no_package_at_the_top_of_a_folder() -> None:
    assert not [p for p in PACKAGES.values() if (p.parent / "__init__.py").exists()]


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function and its lines, but its docstring's: what is read, not followed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or 0) - node.lineno + 1
            yield node.name, length - (len(doc.splitlines()) if doc else 0)


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_fit_the_eye(package: str) -> None:
    paths = sources(package)
    assert not [f"{path.name}: {lines_of(path)}" for path in paths if lines_of(path) > MAX_FILE]
    assert not [
        f"{path.name}:{name}: {length} lines"
        for path in paths
        for name, length in functions(path)
        if length > MAX_FUNCTION
    ]


def test_tests_fit_the_eye_too() -> None:
    paths = {path.relative_to(ROOT).as_posix(): lines_of(path) for path in SCRIPTS}
    assert len(paths) > 100
    assert {name for name, lines in paths.items() if lines > MAX_FILE} == LONG


def test_every_file_says_first_what_it_is() -> None:
    """An empty `__init__.py` has nothing to say."""
    paths = [*SCRIPTS, *(path for package in PACKAGES for path in sources(package))]
    texts = {path: path.read_text() for path in paths}
    assert not [p.name for p, text in texts.items() if text and not text.startswith('"""')]
    for folder in ("engine", "ui", "boot"):
        for path in (PACKAGES["vae_runtime"] / "studio" / folder).rglob("*.js"):
            assert path.read_text().startswith(("/**", "//")), path
    for path in (ROOT / "scripts").iterdir():
        assert re.match(r"#!/usr/bin/env bash\n# \w", path.read_text()), path
