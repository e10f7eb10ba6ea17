"""The guard in JavaScript beside Python's: the same graphs pass, the same are refused."""

from __future__ import annotations

import random
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.security.build import SOUND, bombs, hostile, layers
from tests.security.rechecksum import read_files
from tests.studio.conftest import Engine
from vae_runtime.errors import InputError
from vae_runtime.graph_checks import check_graph
from vae_runtime.graph_checks import operators as ops

DATA = Path(__file__).parents[1] / "data"


def guard(engine: Engine, graphs: list[bytes]) -> list[dict[str, Any]]:
    return engine(*({"job": "guard", "base64": b64encode(raw).decode()} for raw in graphs))


def test_the_tables_are_python_s(engine: Engine) -> None:
    found = engine({"job": "tables"})[0]["result"]
    assert found["ALLOWED"] == sorted(ops.ALLOWED)
    assert found["BOUNDS"] == {name: list(pair) for name, pair in ops.BOUNDS.items()}
    assert found["OTHER"] == list(ops.OTHER)
    assert found["ITEM_SIZES"] == {str(kind): size for kind, size in ops.ITEM_SIZES.items()}
    assert found["SIZES"] == {op: list(inputs) for op, inputs in ops.SIZES.items()}
    assert found["MAX_ELEMENTS"] == ops.MAX_ELEMENTS
    assert (set(found["PICKS"]), set(found["DIVIDES"])) == (ops.PICKS, ops.DIVIDES)


def test_every_hostile_graph_is_refused_for_its_reason(engine: Engine) -> None:
    cases = hostile()
    for (name, (_, reason)), found in zip(
        cases.items(), guard(engine, [raw for raw, _ in cases.values()]), strict=True
    ):
        assert found.get("error") == "InputError", (name, found)
        assert found["message"].startswith("x.onnx: refused: "), name
        assert reason in found["message"], (name, found)
    print(f"\n{len(cases)} hostile graphs")


def test_bombs_are_refused_for_what_they_ask(engine: Engine) -> None:
    for name, found in zip(bombs(), guard(engine, list(bombs().values())), strict=True):
        assert found.get("error") == "InputError", (name, found)


def test_sound_graphs_pass_with_their_properties(engine: Engine) -> None:
    graphs = [SOUND, layers()] + [
        raw
        for path in sorted(DATA.glob("*.zip"))
        for name, raw in read_files(path).items()
        if name.endswith(".onnx")
    ]
    for raw, found in zip(graphs, guard(engine, graphs), strict=True):
        assert found == {"result": check_graph(raw, "x.onnx")}


def test_both_guards_agree_on_changed_bytes(engine: Engine) -> None:
    chance = random.Random(0)
    graphs, expected = [], []
    for _ in range(1000):
        raw = bytearray(chance.choice([layers(), SOUND]))
        for _ in range(chance.randrange(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        graphs.append(bytes(raw))
        try:
            check_graph(bytes(raw), "x.onnx")
            expected.append(True)
        except InputError:
            expected.append(False)
    found = ["result" in one for one in guard(engine, graphs)]
    print(f"\n{sum(expected)} of {len(graphs)} changed graphs pass")
    assert [
        i for i, pair in enumerate(zip(found, expected, strict=True)) if len(set(pair)) > 1
    ] == []
    assert 0 < sum(expected) < len(graphs)
