"""Generate small graphs from the operators' schemas, and run those that pass the checks.

    python -m tests.fuzz.structured [COUNT] [SEED] [REPORT] [SECONDS]

Each graph has two to six operators, chosen and connected at random, with edge cases as constants
and attributes. Graphs that pass `check_graph` are loaded and run in a subprocess, which may crash
or hang in our place. REPORT is a Markdown file to write the counts to; graphs that did harm are
written beside it. After SECONDS, the run ends with what it has.
"""

from __future__ import annotations

import random
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.fuzz.child import Child
from tests.security import build
from vae_runtime.errors import InputError
from vae_runtime.graph_checks import check_graph
from vae_runtime.graph_checks.nodes import DTYPES
from vae_runtime.graph_checks.operators import BOUNDS, OTHER, names, signature
from vae_runtime.inference.session import onnxruntime

OPERATORS = sorted(names())
OPSETS = (7, 11, 13, 17, *[18] * 6, 19, 20, 21, 22, 23, 24)
FLOAT, INT64, BOOL = 1, 7, 9
_TIMEOUT_S = 5.0
_INTEGERS = (0, 1, -1, 2, 3, -2, 4, 7, 16, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63))
_REALS = (0.0, 1.0, -1.0, 0.5, 2.0, 1e-45, 3e38, -3e38, float("inf"), float("-inf"), float("nan"))
_SHAPES = ((), (1,), (2,), (3,), (4,), (0,), (1, 1), (2, 3), (4, 4), (1, 4), (1, 1, 4),
           (2, 4, 3), (1, 2, 4, 4), (4, 2, 3, 3), (2, 1, 1, 1), (1, 0, 2))  # fmt: skip


def _fitting(op: str, index: int, last: list[int]) -> list[tuple[int, ...]]:
    """Return shapes that a constant of this operator is likely to need; `last` is the input's."""
    rank, channels, depth = len(last), tuple(last[1:2]), last[-1] if last else 1
    kernel = ((3, 2, 1)[rank % 3],) * (rank - 2)
    per_axis = [(rank,), (1,), (2,), (max(0, rank - 1),)]
    first: dict[str, list[tuple[int, ...]]] = {
        "Conv": [(4, *channels, *kernel), (4, 1, *kernel)],
        "ConvTranspose": [(*channels, 2, *kernel)],
        "Pad": [(2 * rank,)], "Resize": [(0,)], "OneHot": [()],
        "ScatterND": [(1, 1), (2, 1), (1, rank)], "GridSample": [(1, 3, 3, 2)],
        "Gemm": [(depth, 3), (3, depth)], "MatMul": [(depth, 3), (3, depth)],
    }  # fmt: skip
    later: dict[str, list[tuple[int, ...]]] = {
        "Conv": [(4,)], "ConvTranspose": [(2,)], "Pad": [()], "Resize": [(rank,)], "OneHot": [(2,)],
        "ScatterND": [(1, *last[1:]), (1,)], "Gemm": [(3,)],
    }  # fmt: skip
    always: dict[str, list[tuple[int, ...]]] = {
        "BatchNormalization": [channels], "InstanceNormalization": [channels],
        "GroupNormalization": [channels], "LayerNormalization": [(depth,), tuple(last[1:])],
        "RMSNormalization": [(depth,), tuple(last[1:])], "Slice": [(1,), (1,), ()],
        "TopK": [(1,), ()], "CumSum": [(1,), ()], "Range": [()], "Clip": [()],
        "QuantizeLinear": [(), channels], "DequantizeLinear": [(), channels],
        **dict.fromkeys(("Reshape", "Expand", "Tile", "Split", "Squeeze", "Unsqueeze"), per_axis),
    }  # fmt: skip
    if op.startswith("Reduce"):
        return per_axis
    return (first if index == 1 else later).get(op) or always.get(op, [])


class Known(NamedTuple):
    """A value: its name, element type, and shape where `-1` stands for the batch."""

    name: str
    kind: int
    shape: tuple[int, ...]


@dataclass
class Generator:
    """Generate one graph after another from a seed."""

    chance: random.Random
    values: list[Known] = field(default_factory=list)
    nodes: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    operators: list[str] = field(default_factory=list)
    opset: int = 18

    def graph(self, *, expose: bool = False) -> tuple[bytes, list[str]]:
        """Return the bytes of a graph, and its operators.

        Args:
            expose: let the graph return all its values, and not only `y`. The checks refuse this.
        """
        self.opset = self.chance.choice(OPSETS)
        self.nodes, self.tensors, self.operators = [], [], []
        shape = self.chance.choice(
            ((-1, 4), (-1, 4, 3), (-1, 2, 4, 4), (-1, 4, 2, 2), (-1, 1, 5, 3))
        )
        self.values = [Known("x", FLOAT, shape), Known("label", INT64, (-1,))]
        for _ in range(self.chance.randint(2, 6)):
            self._add_node()
        self._finish(self.values[-1])
        wanted = build.value("x", ["batch", *shape[1:]])
        label, y = build.value("label", ["batch"], INT64), build.value("y", ["batch", *shape[1:]])
        body = (
            b"".join(build.field(1, n) for n in self.nodes) + build.field(2, "g")
            + b"".join(build.field(5, t) for t in self.tensors)
            + build.field(11, wanted) + build.field(11, label) + build.field(12, y)
        )  # fmt: skip
        if expose:
            for one in self.values[2:]:
                kind = build.field(2, build.field(1, build.field(1, one.kind)))
                body += build.field(12, build.field(1, one.name) + kind)
        opset = build.field(1, "") + build.field(2, self.opset)
        return build.model(body, opset=opset), self.operators

    def _finish(self, last: Known) -> None:
        """Make the output `y` = x + 0 · sum of the last value."""
        self.tensors.append(build.tensor("zero", [], struct.pack("<f", 0.0)))
        self.nodes += [
            build.node("Cast", last.name, "last", to=FLOAT),
            build.node("ReduceSum", "last", "total", keepdims=0),
            build.node("Mul", "total zero", "nothing"),
            build.node("Add", "x nothing", "y"),
        ]

    def _add_node(self) -> None:
        """Add a node that mostly fits; after several misfits, one that may not."""
        op = ""
        for attempt in range(24):
            before = len(self.tensors)
            op = self.chance.choice(OPERATORS) if attempt % 8 == 0 else op
            known = signature(op, max(18, min(self.opset, 23)))
            if known is None:
                continue
            bound: dict[str, int] = {}
            inputs = [self._input(i, known, op, bound) for i in range(self._count(known))]
            outputs = self._output_names(known.outputs)
            node = self._node(op, inputs, outputs, known)
            found = self._results(node, outputs)
            if found or (attempt == 23 and self.chance.random() < 0.3):
                self.nodes.append(node)
                self.operators.append(op)
                self.values += found
                return
            del self.tensors[before:]

    def _count(self, known: Any) -> int:
        most = len(known.inputs)
        if known.inputs and known.inputs[-1].endswith("*"):
            most = self.chance.randint(1, 3)
        count = self.chance.randint(min(known.min_inputs, most), most)
        return max(0, count + self.chance.choice((-1, 1))) if self.chance.random() < 0.03 else count

    def _input(self, index: int, known: Any, op: str, bound: dict[str, int]) -> str:
        kind = known.inputs[min(index, len(known.inputs) - 1)] if known.inputs else "1"
        name = kind.rstrip("?*")
        if self.chance.random() < (0.15 if kind.endswith("?") else 0.01):
            return "''"
        kinds = (
            {int(name)} if name.isdigit() else {bound[name]} if name in bound else known.types[name]
        )
        fits = [v for v in self.values if v.kind in kinds]
        if fits and self.chance.random() < (0.9 if index == 0 else 0.45):
            chosen = fits[-1] if self.chance.random() < 0.6 else self.chance.choice(fits)
            bound[name] = chosen.kind
            return chosen.name
        wanted = [k for k in (FLOAT, FLOAT, INT64, 6, 2, 3, 10, 11, BOOL, 12, 13) if k in kinds]
        bound[name] = self.chance.choice(wanted or sorted(kinds))
        return self._constant(bound[name], op, index)

    def _constant(self, kind: int, op: str, index: int) -> str:
        """Add a constant of edge cases, of a shape that is common or that a value has."""
        name = f"c{len(self.tensors)}"
        shapes = [*_SHAPES, *[(), (1,), (2,), (4,)] * 2]
        last = [abs(n) for n in self.values[-1].shape]
        shapes += [tuple(last), tuple(last[-1:]), tuple(last[1:]), (len(last),), (2 * len(last),),
                   tuple(last[1:2]), (5, *last[1:2], 3, 3), (*last[1:2], 2, 2, 2)]  # fmt: skip
        if self.chance.random() < 0.7:
            shapes = _fitting(op, index, last) or shapes
        shape = self.chance.choice(shapes)
        count, dtype = int(np.prod(shape, dtype=int)), DTYPES.get(kind)
        if dtype is None:
            raw = bytes(2 * count)
        elif dtype.kind == "f":
            plain = self.chance.random() < 0.7
            values = [self.chance.choice(_REALS[:5] if plain else _REALS) for _ in range(count)]
            with np.errstate(all="ignore"):
                raw = np.array(values, np.float64).astype(dtype).tobytes()
        else:
            edge = self.chance.random() < 0.25
            numbers = [
                self.chance.choice(_INTEGERS if edge else _INTEGERS[:7]) for _ in range(count)
            ]
            raw = np.array([n % (1 << 64) for n in numbers], np.uint64).astype(dtype).tobytes()
        self.tensors.append(build.tensor(name, list(shape), raw, kind))
        return name

    def _output_names(self, known: tuple[str, ...]) -> list[str]:
        count = (
            self.chance.randint(1, 3)
            if known[-1].endswith("*")
            else self.chance.randint(1, len(known))
        )
        start = len(self.nodes)
        return [f"v{start}_{i}" for i in range(count)]

    def _node(self, op: str, inputs: list[str], outputs: list[str], known: Any) -> bytes:
        given = b"".join(
            build.field(5, self._attribute(name, kind, known))
            for name, kind in known.attributes.items()
            if name in known.required or self.chance.random() < 0.4
        )
        names = b"".join(build.field(1, "" if n == "''" else n) for n in inputs)
        return names + b"".join(build.field(2, n) for n in outputs) + build.field(4, op) + given

    def _attribute(self, name: str, kind: str, known: Any) -> bytes:
        chance = self.chance
        if kind == "int":
            flag = BOUNDS.get(name, OTHER)[1] <= 1
            common = [0, 1] if flag or name == "num_groups" else [0, 1, 2, -1, 1, 2]
            common += [1, 6, 7, 9, 10, 11] if name in ("to", "dtype") else []
            return build.attribute(
                name, chance.choice(common if chance.random() < 0.95 else [3, 8, 512])
            )
        if kind == "ints":
            rank = len(self.values[-1].shape)
            if name == "perm":
                return build.attribute(name, chance.sample(range(rank), rank))
            count = chance.choice((1, 2, 2, 4, 2, rank, max(0, rank - 2), 2 * max(0, rank - 2)))
            return build.attribute(name, [chance.choice((1, 1, 2, 3, 0, 1)) for _ in range(count)])
        if kind == "float":
            number = struct.pack("<f", chance.choice(_REALS))
            return build.field(1, name) + build.varint(2 << 3 | 5) + number + build.field(20, 1)
        if kind == "string":
            words = known.words[name] or self._equations()
            word = chance.choice(words) if chance.random() < 0.98 else "ä"
            return build.field(1, name) + build.field(4, word) + build.field(20, 3)
        return build.attribute(name, build.tensor("", [1], struct.pack("<f", 1.0)))

    def _equations(self) -> list[str]:
        rank = len(self.values[-1].shape)
        a = "bijkl"[:rank]
        return [
            f"{a}->{a}", f"{a},{a}->{a}", f"{a},{a}->b", f"{a},{a}->", f"{a}->{a[::-1]}",
            "...i,...i->...", f"{a},{a[-1:]}m->{a[:-1]}m", "...ij,...jk->...ik",
            f"{a},{a},{a}->{a}", "i,j->ij", "ii->i",
        ]  # fmt: skip

    def _results(self, node: bytes, outputs: list[str]) -> list[Known]:
        """Return the outputs of a node as the checks infer them; nothing if they refuse it."""
        from vae_runtime.graph_checks.check import infer_shapes
        from vae_runtime.graph_checks.protobuf import Malformed

        body = [*self.nodes, node]
        shape = self.values[0].shape
        raw = build.model(
            b"".join(build.field(1, n) for n in body) + build.field(2, "g")
            + b"".join(build.field(5, t) for t in self.tensors)
            + build.field(11, build.value("x", ["batch", *shape[1:]]))
            + build.field(11, build.value("label", ["batch"], INT64)),
            opset=build.field(1, "") + build.field(2, max(18, min(self.opset, 23))),
        )  # fmt: skip
        try:
            one, two = (infer_shapes(raw, rows) for rows in (1, 5))
        except Malformed:
            return []
        if any(len(one[name].shape) != len(two[name].shape) for name in outputs):
            return []  # the rank depends on the batch
        shapes = (zip(one[name].shape, two[name].shape, strict=True) for name in outputs)
        return [
            Known(name, one[name].kind, tuple(n if n == m else -1 for n, m in pairs))
            for name, pairs in zip(outputs, shapes, strict=True)
        ]


@dataclass
class Counts:
    """What happened to the graphs, in all and by operator."""

    total: Counter[str] = field(default_factory=Counter)
    by_operator: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[tuple[str, bytes, list[str]]] = field(default_factory=list)

    @property
    def passed(self) -> int:
        """The number of graphs that passed the checks."""
        return self.total["graphs"] - self.total["refused"]

    def add(self, verdict: str, raw: bytes, operators: list[str]) -> None:
        self.total[verdict] += 1
        for op in set(operators):
            self.by_operator.setdefault(op, Counter())[verdict] += 1
        if verdict.startswith(("died", "hung")):
            self.findings.append((verdict, raw, operators))


def hunt(count: int, seed: int, keep: Path | None = None, seconds: float = float("inf")) -> Counts:
    """Generate `count` graphs that pass the checks, and load and run each in a subprocess."""
    generator, counts = Generator(random.Random(seed)), Counts()
    end = time.monotonic() + seconds
    with Child(_TIMEOUT_S) as child:
        while counts.passed < count and time.monotonic() < end:
            raw, operators = generator.graph()
            counts.total["graphs"] += 1
            try:
                check_graph(raw, "x.onnx")
            except InputError:
                counts.add("refused", raw, operators)
                continue
            verdict = child.try_graph(raw)
            counts.add(verdict, raw, operators)
            if keep and verdict.startswith(("died", "hung")):
                number = len(counts.findings)
                (keep / f"{verdict.replace(' ', '-')}-{number}.onnx").write_bytes(raw)
    return counts


def report(counts: Counts, count: int, seed: int, seconds: float) -> str:
    """Return the counts as a Markdown page."""
    found = (
        f"{counts.passed:,} graphs passed the checks, and {len(counts.findings):,} of them did harm"
    )
    lines = [
        "# What structured graphs do",
        "",
        "Graphs of two to six operators, generated from the operators' schemas with edge cases as",
        "constants, attributes and inputs, in the opsets 7 to 24. Those that",
        "[the checks](../SECURITY.md) accept are loaded and run in a subprocess on 1, 3 and 64",
        "rows, within five seconds and 8 GiB.",
        "",
        f"Written by `python -m tests.fuzz.structured {count} {seed} REPORT` on "
        f"{time.strftime('%Y-%m-%d')}, with Python {sys.version.split()[0]},",
        f"NumPy {np.__version__} and onnxruntime {onnxruntime().__version__}, in {seconds:,.0f} "
        f"seconds: {found}.",
        "",
        "| verdict | graphs |",
        "| --- | ---: |",
        *(f"| {name} | {n:,} |" for name, n in sorted(counts.total.items())),
        "",
    ]
    lines += [f"- {verdict}: {', '.join(ops)}" for verdict, _, ops in counts.findings]
    lines += [
        "*Refused* by the checks; *refused by onnxruntime* while loading, for want of a kernel;",
        "*failed* with an error of onnxruntime while running, such as an index out of range. A",
        "graph counts for each of its operators.",
        "",
    ]
    columns = ["refused", "ran", "refused by onnxruntime", "failed", "died loading",
               "died running", "hung loading", "hung running"]  # fmt: skip
    lines += ["| operator | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for op in OPERATORS:
        found = counts.by_operator.get(op, Counter())
        lines.append(f"| {op} | " + " | ".join(f"{found[name]:,}" for name in columns) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Hunt, and print or write the report."""
    arguments = sys.argv[1:]
    count = int(arguments[0]) if arguments else 1000
    seed = int(arguments[1]) if len(arguments) > 1 else 0
    began = time.perf_counter()
    keep = Path(arguments[2]).parent if len(arguments) > 2 else None
    counts = hunt(count, seed, keep, float(arguments[3]) if len(arguments) > 3 else float("inf"))
    text = report(counts, count, seed, time.perf_counter() - began)
    if len(arguments) > 2:
        Path(arguments[2]).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
