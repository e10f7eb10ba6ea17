"""A harmful graph that passes the checks crashes only a subprocess and is refused."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.security.build import SOUND, field, graph, integers, model, node
from tests.security.rechecksum import read_files
from vae_runtime.errors import InputError
from vae_runtime.graph_checks import check_graph
from vae_runtime.graph_checks import smoke_test as module
from vae_runtime.graph_checks.smoke_test import smoke_test

pytestmark = pytest.mark.torch_free

DATA = Path(__file__).parents[1] / "data"


def computed_zero() -> bytes:
    """1 / (Shape(x)[0] - 1) in integers: a division by zero for a batch of one."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Sub", "n one", "m"),
        node("Div", "one m", "d"), node("Cast", "d", "c", to=1), node("Mul", "x c", "y"),
    ]  # fmt: skip
    return model(graph(nodes, [integers("i", 0), integers("one", 1)]))


def doubling(times: int = 8) -> bytes:
    """x + xᵀ, flattened, repeatedly: each step squares the size."""
    nodes, name = [], "x"
    for i in range(times):
        nodes += [
            node("Reshape", f"{name} row", f"r{i}"), node("Reshape", f"{name} column", f"c{i}"),
            node("Add", f"r{i} c{i}", f"n{i}"),
        ]  # fmt: skip
        name = f"n{i}"
    nodes.append(node("Reshape", f"{name} row", "y"))
    return model(graph(nodes, [integers("row", 1, -1), integers("column", -1, 1)]))


@pytest.mark.parametrize("make", [computed_zero, doubling])
def test_a_harmful_graph_that_passes_the_checks_is_refused(make: object) -> None:
    assert callable(make)
    raw = make()
    check_graph(raw, "x.onnx")
    began = time.perf_counter()
    with pytest.raises(InputError, match=r"^b/x\.onnx: refused: a smoke test in a subprocess"):
        smoke_test({"b/sound.onnx": SOUND, "b/x.onnx": raw})
    print(f"\n{make.__name__}: {time.perf_counter() - began:.1f} s")


def test_good_graphs_pass_in_one_subprocess() -> None:
    files = read_files(DATA / "cvae_mlp.zip")
    graphs = {name: raw for name, raw in files.items() if name.endswith(".onnx")}
    began = time.perf_counter()
    smoke_test(graphs)
    print(f"\n{len(graphs)} graphs: {time.perf_counter() - began:.2f} s")


def test_modules_in_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("import pathlib; pathlib.Path('trap').touch()")
    monkeypatch.chdir(tmp_path)
    smoke_test({"sound": SOUND})
    assert not (tmp_path / "trap").exists()


def test_a_graph_cannot_report_that_it_passed() -> None:
    bad = node("Div", "one zero", "y", more=field(3, "passed\npassed\n"))
    raw = model(graph([bad, node("Relu", "x", "r")], [integers("one", 1), integers("zero", 0)]))
    with pytest.raises(InputError, match="refused: a smoke test"):
        smoke_test({"a": SOUND, "b": raw})


def test_an_endless_run_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.01)
    with pytest.raises(InputError, match=r"^a: refused: a smoke test took over 0\.01 seconds$"):
        smoke_test({"a": SOUND})


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_error_names_the_signal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -8 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(InputError, match=r"^a: refused: .* ended by signal 8$"):
        smoke_test({"a": SOUND})
