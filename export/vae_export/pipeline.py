"""From a source to a bundle: trace, check, write. Nothing is left behind by a failure."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import torch

from vae_runtime import __version__
from vae_runtime.bundle.manifest import Manifest
from vae_runtime.bundle.spec import GraphSpec, ModelSpec
from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError
from vae_runtime.inference.session import onnxruntime
from vae_train import Checkpoint

from .bundle import check_target, write_bundle
from .golden import golden_vectors
from .graphs import Graph
from .inputs import gate_inputs, sampled_latents
from .parity import Arrays, Checked, Truth, check_parity, summary, torch_truth
from .source import Source, from_checkpoint
from .trace import IR_VERSIONS, OPSET, trace
from .variants import VARIANTS, Measured, check_names, measure
from .writer import digest, file_spec, write_model

_DRAWN = 1000  # latents that a variant is measured with


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        opset: of `ai.onnx`, 18 to 23.
        variants: any of `fp16`, `int8`, `uint8`, of the decoders.
        allow_lossy: accept a variant under 45 dB.
        say: called with a line on each graph that passed.
    """

    opset: int = OPSET
    variants: Sequence[str] = ()
    allow_lossy: bool = False
    say: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        if self.opset not in IR_VERSIONS:
            raise UsageError(f"opset is {self.opset}, expected 18 to 23")
        check_names(tuple(self.variants))


@dataclass
class Exported:
    """What one export made: the manifest, the files it lists, what was measured."""

    manifest: Manifest
    files: dict[str, bytes] = field(default_factory=dict)
    checked: list[Checked] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)


def export_checkpoint(
    checkpoint: Checkpoint,
    out: Path | None,
    *,
    data: Dataset | None = None,
    opset: int = OPSET,
    variants: Sequence[str] = (),
    allow_lossy: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Export every graph of a checkpoint, compare each with torch, write the bundle to `out`.

    Args:
        checkpoint: a trained model.
        out: a folder, or a path that ends in `.zip`; a previous bundle there is replaced. None
            writes nothing.
        data: real images for the gate; else those at hand.
        opset: see `Options`.
        variants: likewise.
        allow_lossy: likewise.
        say: likewise.

    Raises:
        IntegrityError: a graph breaks the contract or differs from torch; `out` is untouched.
        UsageError: `data` has another shape, or a variant does not fit the model.
        FileError: `out` cannot be written, or is something else than a bundle.
    """
    options = Options(opset, variants, allow_lossy, say)
    return export_source(from_checkpoint(checkpoint, data), out, options)


def export_source(source: Source, out: Path | None, options: Options) -> Exported:
    """Export a source; see `export_checkpoint`."""
    if out is not None:
        check_target(out)
    models, truths = [], {}
    for graph in source.graphs:
        rows = gate_inputs(
            graph, source.images, source.labels, source.spec.prior, len(source.spec.classes)
        )
        example = {name: torch.from_numpy(_two(values)) for name, values in rows.items()}
        models.append(trace(graph, example, options.opset))
        truths[graph.role] = torch_truth(graph, rows)
    spec = replace(source.spec, id=digest(models, source.spec))
    exported = _write_all(source, spec, models, truths, options)
    if out is not None:
        write_bundle(exported.manifest, exported.files, out)
    return exported


def _two(values: Any) -> Any:
    """The first two rows; a single one twice, for torch would take a batch of one as fixed."""
    return values[[0, min(1, len(values) - 1)]]


def _write_all(
    source: Source,
    spec: ModelSpec,
    models: list[onnx.ModelProto],
    truths: dict[str, Truth],
    options: Options,
) -> Exported:
    """Every file but the manifest, each graph through the gate."""
    files: dict[str, bytes] = {}
    specs: list[GraphSpec] = []
    checked, measured = [], []
    # Made before the spec is stamped on, and first: a variant may not fit the model.
    changed = {
        graph.role: {
            name: VARIANTS[name](model, _drawn(graph, spec, seed=1))
            for name in dict.fromkeys(options.variants)
            if graph.role != "encoder"
        }
        for graph, model in zip(source.graphs, models, strict=True)
    }
    for graph, model in zip(source.graphs, models, strict=True):
        raw, graph_spec = write_model(model, graph, spec, opset=options.opset)
        found = check_parity(graph, raw, truths[graph.role])
        options.say(_passed(graph.role, found))
        checked.append(found)
        specs.append(graph_spec)
        files[graph_spec.file.file] = raw
        for name, variant in changed[graph.role].items():
            other, graph_spec = write_model(variant, graph, spec, name, options.opset)
            drawn, rows = _drawn(graph, spec, seed=0), truths[graph.role].rows
            quality = measure(graph, other, graph_spec, raw, drawn, rows, options.allow_lossy)
            options.say(quality.line())
            measured.append(quality)
            specs.append(graph_spec)
            files[graph_spec.file.file] = other
    files["golden.npz"] = golden_vectors(truths)
    manifest = Manifest(
        spec,
        tuple(specs),
        file_spec("golden.npz", files["golden.npz"]),
        training=source.training,
        parity=_parity(checked, measured),
        producer=_producer(),
        checkpoint_sha256=source.sha256,
    )
    return Exported(manifest, files, checked, measured)


def _drawn(graph: Graph, spec: ModelSpec, seed: int) -> Arrays:
    """Inputs of a decoder as users have them: draws from the prior, each class in turn."""
    z, label = sampled_latents(spec.prior, len(spec.classes), _DRAWN, seed)
    return {"z": z, "label": label} if "label" in graph.inputs else {"z": z}


def _passed(role: str, checked: Checked) -> str:
    case = max(checked.worst, key=lambda w: w.error / w.tolerance)
    return f"{role}: as torch, max error {case.error:.1e} (allowed {case.tolerance:.1e})"


def _parity(checked: list[Checked], measured: list[Measured]) -> dict[str, Any]:
    found = summary(checked)
    if measured:
        found["variants"] = {m.graph: m.facts() for m in measured}
    return found


def _producer() -> dict[str, Any]:
    return {
        "vae-onnx": __version__,
        "torch": str(torch.__version__),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime().__version__,
        "python": platform.python_version(),
    }
