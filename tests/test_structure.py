"""The structure of the tree: allowed imports, and limits on the length of files and functions.

`python tests/test_structure.py [ROOT]` prints the figures that these rules limit.
"""

from __future__ import annotations

import ast
import json
import re
import statistics
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vae_runtime import __version__

pytestmark = pytest.mark.torch_free

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "vae_runtime": "runtime",
    "vae_models": "models",
    "vae_train": "train",
    "vae_export": "export",
}
MAY_IMPORT = {
    "vae_runtime": {"numpy", "onnxruntime", "PIL", "click", "sklearn", "pyarrow", "fsspec"}
    | {"matplotlib", "scipy", "distributed", "fastapi", "starlette", "pydantic", "uvicorn"}
    | {"PyInstaller", "constriction"},
    "vae_models": {"torch"},
    "vae_train": {"torch", "numpy", "click", "rich", "sklearn", "matplotlib", "threadpoolctl"}
    | {"vae_models", "vae_runtime"},
    "vae_export": {"torch", "onnx", "onnx_ir", "onnxscript", "numpy", "click", "google"}
    | {"matplotlib", "safetensors"}
    | {"vae_models", "vae_runtime", "vae_train"},
}
SCRIPTS = [
    path
    for top in ("tests", "examples")
    for path in (ROOT / top).rglob("*.py")
    if "node_modules" not in path.parts
]
LONG = {"tests/studio/test_browser.py"}  # one session of a browser, its panels one by one
MAX_FILE = 410
MAX_FUNCTION = 60
SMALL = 60  # lines; a smaller module with one caller belongs in that caller, unless named here
SMALL_WITH_ONE_CALLER: dict[str, str] = {}  # none today


def sources(package: str, root: Path = ROOT) -> list[Path]:
    return sorted((root / FOLDERS[package] / package).rglob("*.py"))


@cache
def module_names(root: Path = ROOT) -> dict[str, Path]:
    """Return every module of the four packages, such as `vae_runtime.cli.sample`."""
    return {
        ".".join(path.relative_to(root / FOLDERS[package]).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for package in FOLDERS
        for path in sources(package, root)
    }


def imports_of(path: Path, name: str) -> Iterator[str]:
    """Absolute names of all that a module imports, wherever in it: also in functions and
    under TYPE_CHECKING."""
    inside = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` may name a module; `from .x import y` names x itself.
            yield from (f"{module}.{alias.name}" for alias in node.names)


@cache
def import_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Return, for each module, the modules of these packages that it imports."""
    modules = module_names(root)
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = set()
        for imported in imports_of(path, name):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name:
                found.add(target)
        graph[name] = found
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            cut = stack.index(node)
            if len(stack) - cut > 1:
                found.append(set(stack[cut:]))
            del stack[cut:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the same graph between rooms: sub-packages, and single modules next to them."""
    packages = {name.rpartition(".")[0] for name in graph if name.count(".") > 1}

    def room(name: str) -> str:
        parts = name.split(".")
        return next((".".join(parts[:n]) for n in (2, 3) if ".".join(parts[:n]) in packages), name)

    joined: dict[str, set[str]] = {}
    for name, targets in graph.items():
        joined.setdefault(room(name), set()).update(
            room(t) for t in targets if room(t) != room(name)
        )
    return joined


def foreign_command_lines(graph: dict[str, set[str]]) -> list[str]:
    """Imports of another package's command line."""
    return [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets
        if target.split(".")[1:2] == ["cli"] and target.split(".")[0] != name.split(".")[0]
    ]


def small_with_one_caller(graph: dict[str, set[str]], root: Path = ROOT) -> list[str]:
    """Modules of fewer than SMALL lines that a single module imports."""
    callers: dict[str, set[str]] = {name: set() for name in graph}
    for name, targets in graph.items():
        for target in targets:
            callers[target].add(name)
    return [
        name
        for name, path in module_names(root).items()
        if lines_of(path) < SMALL and len(callers[name]) == 1 and path.name != "__init__.py"
    ]


def test_imports_point_one_way() -> None:
    allowed = {package: MAY_IMPORT[package] | {package} for package in FOLDERS}
    wrong = [
        f"{name}: {imported}"
        for name, path in module_names().items()
        for imported in imports_of(path, name)
        if imported.split(".")[0] not in allowed[name.split(".")[0]] | set(sys.stdlib_module_names)
    ]
    assert not wrong


def test_no_module_imports_what_imports_it() -> None:
    assert not circles(import_graph())


def test_no_room_imports_what_imports_it() -> None:
    """Whole rooms (`bundle`, `inference`, `cli` …) form no circle either."""
    assert not circles(rooms(import_graph()))


def test_no_package_imports_the_command_line_of_another() -> None:
    assert not foreign_command_lines(import_graph())


def test_small_modules_have_more_than_one_caller_or_a_reason() -> None:
    assert set(small_with_one_caller(import_graph())) == SMALL_WITH_ONE_CALLER.keys()


def test_there_is_no_package_at_the_top_of_a_folder() -> None:
    assert not [top for top in FOLDERS.values() if (ROOT / top / "__init__.py").exists()]


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function and its number of lines, without those of its docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or 0) - node.lineno + 1
            yield node.name, length - (len(doc.splitlines()) if doc else 0)


@pytest.mark.parametrize("package", FOLDERS)
def test_files_and_functions_are_short(package: str) -> None:
    paths = sources(package)
    assert not [f"{path.name}: {lines_of(path)}" for path in paths if lines_of(path) > MAX_FILE]
    assert not [
        f"{path.name}:{name}: {length} lines"
        for path in paths
        for name, length in functions(path)
        if length > MAX_FUNCTION
    ]


def test_tests_are_short_too() -> None:
    paths = {path.relative_to(ROOT).as_posix(): lines_of(path) for path in SCRIPTS}
    assert len(paths) > 100
    assert {name for name, lines in paths.items() if lines > MAX_FILE} == LONG


def test_every_file_begins_with_what_it_is() -> None:
    """An empty `__init__.py` has nothing to say."""
    paths = [*SCRIPTS, *module_names().values()]
    texts = {path: path.read_text() for path in paths}
    assert not [p.name for p, text in texts.items() if text and not text.startswith('"""')]
    for folder in ("javascript/src", "vae_runtime/studio/ui", "vae_runtime/studio/boot"):
        scripts = list((ROOT / "runtime" / folder).glob("*.js"))
        assert scripts
        for path in scripts:
            assert path.read_text().startswith(("/**", "//")), path
    for path in (ROOT / "scripts").iterdir():
        assert re.match(r"#!/usr/bin/env (bash|python3)\n(# |\"\"\")\w", path.read_text()), path


def figures(root: Path) -> Iterator[tuple[str, object]]:
    """Return the measures of a checkout, by name."""
    paths = list(module_names(root).values())
    lines = [lines_of(path) for path in paths]
    lengths = sorted(length for path in paths for _, length in functions(path))
    graph = import_graph(root)
    scripts = [
        path
        for path in (root / "runtime").rglob("*.js")
        if not {"node_modules", "assets", "dist"} & set(path.parts)
    ]
    yield "Python files", len(paths)
    yield "Python lines", sum(lines)
    yield "lines per file, median / max", f"{statistics.median(lines):g} / {max(lines)}"
    tenth = lengths[int(0.9 * len(lengths))]
    yield (
        "lines per function, median / p90 / max",
        f"{statistics.median(lengths):g} / {tenth} / {lengths[-1]}",
    )
    yield "JavaScript files", len(scripts)
    yield "JavaScript lines", sum(map(lines_of, scripts))
    yield "circles of modules", [sorted(circle) for circle in circles(graph)]
    yield "circles of rooms", [sorted(circle) for circle in circles(rooms(graph))]
    yield "imports of another package's command line", foreign_command_lines(graph)
    yield f"modules under {SMALL} lines with one caller", small_with_one_caller(graph, root)


def test_versions_are_in_step() -> None:
    package = json.loads((ROOT / "runtime/javascript/package.json").read_text())
    (newest, *_) = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert package["version"] == newest == __version__


if __name__ == "__main__":
    for name, value in figures(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).resolve()):
        print(f"{name}: {len(value) if isinstance(value, list) else value}")
        if isinstance(value, list):
            print(*(f"    {item}" for item in value), sep="\n")
