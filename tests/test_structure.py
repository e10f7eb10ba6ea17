"""The shape of the tree: who may import whom, and how long a file or a function may be."""

from __future__ import annotations

import ast
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
    | {"vae_models", "vae_runtime", "vae_train"},
}
MAX_FILE = 300
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


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_fit_the_eye(package: str) -> None:
    long = []
    for path in sources(package):
        text = path.read_text()
        if len(text.splitlines()) > MAX_FILE:
            long.append(f"{path.name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                # A docstring and a command's list of options are read, not followed.
                doc = ast.get_docstring(node, clean=False)
                lines -= len(doc.splitlines()) if doc else 0
                if lines > MAX_FUNCTION:
                    long.append(f"{path.name}:{node.name}: {lines} lines")
    assert not long
