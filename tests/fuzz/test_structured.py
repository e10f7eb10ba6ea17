"""Graphs from the schemas: none that passes the checks does harm, and sizes are right."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.structured import OPERATORS, Generator, hunt, report
from vae_runtime.errors import InputError, VaeError
from vae_runtime.graph_checks import check_graph
from vae_runtime.graph_checks.check import infer_shapes
from vae_runtime.inference.session import Session

pytestmark = pytest.mark.torch_free


def harmless(count: int, seed: int) -> None:
    counts = hunt(count, seed)
    print(f"\n{dict(counts.total)}")
    assert counts.findings == []
    assert counts.total["ran"] > count // 2, "most graphs that pass must run"


def test_graphs_that_pass_the_checks_do_no_harm() -> None:
    harmless(150, seed=0)


@pytest.mark.slow
def test_many_graphs_that_pass_the_checks_do_no_harm() -> None:
    harmless(3_000, seed=1)


def sizes_agree(count: int, seed: int) -> int:
    """Compare the inferred types, shapes and values with onnxruntime's; return how many values."""
    generator, compared = Generator(random.Random(seed)), 0
    state = generator.chance.getstate()
    for _ in range(count):
        state = generator.chance.getstate()
        raw, _ = generator.graph()
        try:
            check_graph(raw, "x.onnx")
        except InputError:
            continue
        expected = infer_shapes(raw, 3)
        generator.chance.setstate(state)
        exposed, _ = generator.graph(expose=True)
        try:
            with Session(exposed, device="cpu") as session:
                shape = [3, *session.inputs["x"].shape[1:]]
                x = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
                inputs = {"x": x, "label": np.arange(3) % 4}
                names = list(session.outputs)
                found = session.run(names, **{n: inputs[n] for n in session.inputs})
        except VaeError:
            continue  # an index out of range, or an element type without a kernel
        for name, value in zip(names, found, strict=True):
            assert value.shape == expected[name].shape, name
            known = expected[name].value
            if known is not None:
                np.testing.assert_array_equal(value, known)
            compared += 1
    return compared


def test_inferred_sizes_are_those_of_onnxruntime() -> None:
    assert sizes_agree(200, seed=5) > 200


@pytest.mark.slow
def test_many_inferred_sizes_are_those_of_onnxruntime() -> None:
    compared = sizes_agree(3_000, seed=6)
    print(f"\n{compared} values")
    assert compared > 3_000


def test_the_same_seed_gives_the_same_graphs() -> None:
    a, b = (Generator(random.Random(3)) for _ in range(2))
    assert [a.graph() for _ in range(5)] == [b.graph() for _ in range(5)]


def test_the_report_lists_every_operator() -> None:
    text = report(hunt(3, 0), 3, 0, 1.0)
    assert all(f"| {op} | " in text for op in OPERATORS)
    assert "`python -m tests.fuzz.structured 3 0 REPORT`" in text


def test_the_table_of_operators_is_generated() -> None:
    pytest.importorskip("onnx")
    script = Path(__file__).parents[2] / "scripts" / "operators"
    done = subprocess.run([sys.executable, script, "--check"], check=False)
    assert done.returncode == 0, "run scripts/operators"
