"""Damage twenty graphs in every way that fits, and count what the parity check catches.

    python -m tests.parity.mutations --seeds 0 1 2 --out docs

A right graph must pass, with random weights of every seed. A damaged one must be refused, unless
the damage changes less than rounding does: both graphs are then run in float64, and a change below
the rounding error of torch in float32 is counted as equivalent. With --out, the command writes
parity-results.md and parity-results.json to that folder. It exits with 1 if a right graph was
refused or a damaged one was missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.parity.damage import KINDS, copy_of
from tests.parity.subjects import NAMES, Subject, make_subject
from vae_export.cost import row_cost
from vae_export.options import untracked
from vae_export.parity import FACTOR, FLOOR, TYPICAL, ParityResult, measure_parity
from vae_export.reference import Reference, row_rms, run_reference
from vae_export.trace import trace
from vae_runtime.errors import InputError, IntegrityError

_ROWS = 8  # that are run in float64 to tell whether damage changes anything


@dataclass(frozen=True)
class Verdict:
    """What the parity check found in one graph.

    Attributes:
        graph, seed: the graph, and the seed of its weights and rows.
        kind, place: the kind of damage and where; both empty for the right graph.
        found: `passed`, `largest error`, `typical error`, `output` (not finite, or another shape),
            or `onnxruntime` (which refuses the graph).
        largest, typical: the two errors relative to those of torch in float32, before the factors.
        effect: how much the damage changes the outputs in float64, relative to the same; only if
            the damaged graph passed.
    """

    graph: str
    seed: int
    kind: str
    place: str
    found: str
    largest: float
    typical: float
    effect: float | None = None

    @property
    def outcome(self) -> str:
        """`right`, `refused`, `caught`, `equivalent` or `missed`."""
        if not self.kind:
            return "right" if self.found == "passed" else "refused"
        if self.found != "passed":
            return "caught"
        return "equivalent" if self.effect is not None and self.effect < 1 else "missed"


def run(names: Sequence[str], seed: int, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Verdict]:
    """Check each graph, and each damaged copy of it."""
    for name in names:
        subject = make_subject(name, seed)
        graph = subject.graph
        example = {key: torch.from_numpy(values[:2]) for key, values in subject.rows.items()}
        cost = row_cost(graph.module, *example.values())
        reference = run_reference(graph, subject.rows, cost, untracked)
        model = trace(graph, example)
        yield _judge(subject, seed, model, reference)
        for kind in kinds:
            for place, damaged in KINDS[kind](model):
                if damaged == model:  # such as a weight of ones, rounded to float16
                    continue
                verdict = _judge(subject, seed, damaged, reference, kind, place)
                if verdict.found == "passed":
                    effect = _effect(subject, model, damaged, reference)
                    verdict = Verdict(**asdict(verdict) | {"effect": effect})
                yield verdict


def _judge(
    subject: Subject,
    seed: int,
    model: onnx.ModelProto,
    reference: Reference,
    kind: str = "",
    place: str = "",
) -> Verdict:
    """Run the parity check on one graph."""
    found, errors = "passed", (float("inf"), float("inf"))
    try:
        result = measure_parity(subject.graph, model.SerializeToString(), reference)
        errors = _ratios(result)
        if any(case.error > case.tolerance for case in result.worst):
            found = "largest error"
        elif any(case.ratio > 1 for case in result.worst):
            found = "typical error"
    except InputError:
        found = "onnxruntime"
    except IntegrityError:
        found = "output"
    return Verdict(subject.name, seed, kind, place, found, *errors)


def _ratios(result: ParityResult) -> tuple[float, float]:
    largest = max((case.error - FLOOR) / case.torch_error for case in result.worst)
    return max(0.0, largest), max(case.typical for case in result.worst)


def _effect(
    subject: Subject, right: onnx.ModelProto, damaged: onnx.ModelProto, reference: Reference
) -> float:
    """Return how much damage changes the outputs in float64, relative to torch's rounding error.

    That is the larger of two ratios, of the typical and of the largest change.
    """
    rows = {
        key: values[:_ROWS].astype(np.float64) if values.dtype == np.float32 else values[:_ROWS]
        for key, values in subject.rows.items()
    }
    names = list(subject.graph.outputs)
    before, after = (ReferenceEvaluator(in_double(m)).run(names, rows) for m in (right, damaged))
    effect = 0.0
    for name, a, b in zip(names, before, after, strict=True):
        rounding = reference.rounding[name]
        typical = row_rms(b - a) / rounding.typical[:_ROWS]
        largest = float(np.abs(b - a).max()) / rounding.largest
        effect = max(effect, float(np.sqrt(np.square(typical).mean())), largest)
    return effect


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model with all weights and casts in float64."""
    copied = copy_of(model)
    tensors = [*copied.graph.initializer]
    for node in copied.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            tensors += [attribute.t] if attribute.HasField("t") else []
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return copied


def page(verdicts: Sequence[Verdict], date: str) -> str:
    """Render the results as a page."""
    seeds = sorted({v.seed for v in verdicts})
    versions = f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime "
    right = [v for v in verdicts if not v.kind]
    damaged = [v for v in verdicts if v.kind]
    count = Counter(v.outcome for v in verdicts)
    kinds = [
        (kind, *_counts([v for v in damaged if v.kind == kind]))
        for kind in dict.fromkeys(v.kind for v in damaged)
    ]
    graphs = [
        (name, f"{max(v.largest for v in right if v.graph == name):.2f}",
         f"{max(v.typical for v in right if v.graph == name):.2f}",
         *_counts([v for v in damaged if v.graph == name]))
        for name in dict.fromkeys(v.graph for v in verdicts)
    ]  # fmt: skip
    head = ("damaged", "caught by largest error", "by typical error", "otherwise", "equivalent",
            "missed")  # fmt: skip
    command = f"python -m tests.parity.mutations --seeds {' '.join(map(str, seeds))} --out docs"
    by_kind, by_graph = (
        _table(("damage", *head), kinds),
        _table(("graph", "largest error", "typical error", *head), graphs),
    )
    return f"""# What the parity check catches

Written by `{command}` on {date}, with {versions}{onnxruntime.__version__} on {platform.machine()}.

[The parity check](export.md#the-parity-check) allows {FACTOR:g} times the largest rounding error of
torch in float32, plus {FLOOR:g}, and {TYPICAL:g} times its typical error. Damage is equivalent if
it changes the outputs, computed in float64, by less than the rounding error of torch in float32, in
the largest and in the typical case.

| graphs | number |
| --- | --- |
| right, passed | {count["right"]} |
| right, refused | {count["refused"]} |
| damaged, caught | {count["caught"]} |
| damaged, equivalent | {count["equivalent"]} |
| damaged, missed | {count["missed"]} |

## By kind of damage

{by_kind}

## By graph

The first two columns are the errors of the right graph relative to those of torch, the largest of
all seeds. The largest error is taken after the {FLOOR:g} that is always allowed.

{by_graph}
"""


def _counts(verdicts: Sequence[Verdict]) -> tuple[int, ...]:
    found = Counter(v.found for v in verdicts if v.outcome == "caught")
    outcome = Counter(v.outcome for v in verdicts)
    largest, typical = found.pop("largest error", 0), found.pop("typical error", 0)
    return (len(verdicts), largest, typical, found.total(), outcome["equivalent"],
            outcome["missed"])  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main() -> None:
    """Run all graphs, print what was refused or missed, and write the results with --out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--graphs", nargs="+", default=list(NAMES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    verdicts = []
    for seed in options.seeds:
        for verdict in run(options.graphs, seed):
            verdicts.append(verdict)
            if verdict.outcome in ("refused", "missed", "equivalent"):
                print(verdict.outcome, verdict, flush=True)
    count = Counter(v.outcome for v in verdicts)
    print(", ".join(f"{n} {outcome}" for outcome, n in count.items()))
    if options.out:
        date = time.strftime("%Y-%m-%d")
        (options.out / "parity-results.md").write_text(page(verdicts, date))
        (options.out / "parity-results.json").write_text(_as_json(verdicts, date))
    sys.exit(1 if count["refused"] or count["missed"] else 0)


def _as_json(verdicts: Sequence[Verdict], date: str) -> str:
    def finite(value: Any) -> Any:
        return float(f"{value:.3g}") if isinstance(value, float) and np.isfinite(value) else (
            None if isinstance(value, float) else value)  # fmt: skip

    rows = [{k: finite(x) for k, x in asdict(v).items()} | {"outcome": v.outcome} for v in verdicts]
    versions = {"torch": str(torch.__version__), "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__, "machine": platform.machine()}  # fmt: skip
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{"date": "{date}", "versions": {json.dumps(versions)}, "verdicts": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    main()
