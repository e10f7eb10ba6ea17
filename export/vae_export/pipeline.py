"""Export a model: trace each graph, compare it with torch, write the bundle."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from numpy.typing import NDArray

from vae_models import AE, CVAE, VAE
from vae_runtime import __version__
from vae_runtime.bundle.manifest import Manifest
from vae_runtime.bundle.spec import GraphSpec, ModelSpec
from vae_runtime.datasets import Dataset, ReadOptions, read_split
from vae_runtime.errors import UsageError
from vae_runtime.inference.session import onnxruntime
from vae_train import Checkpoint

from .calling_convention import Modules
from .contract import bundle_id, file_spec, write_model
from .cost import RowCost, row_cost
from .custom_module import from_custom_module
from .graphs import Graph
from .options import DEFAULT_OPSET, CustomModuleOptions, ExportOptions
from .parity import (
    RUNS,
    ParityResult,
    check_parity,
    parity_inputs,
    parity_summary,
    sample_inputs,
    thin,
)
from .precision.variants import VariantResult, make_variant, measure
from .reference import Arrays, Reference, golden_arrays, pack_golden, run_reference, sampler_golden
from .sampler import MAX_DECODER, make_samplers, sampler_rows
from .source import Source, from_checkpoint
from .trace import trace
from .writer import check_target, learn_normality, try_bundle, write_bundle

NORMALITY = "normality.npz"
_SAMPLER_ROWS = 256  # maximum number of rows to check a sampler with
_SAMPLES = 1000  # maximum number of latents for calibrating or measuring a variant


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        manifest: the manifest of the bundle.
        files: contents of the files that the manifest lists, by name.
        parity: what the parity check measured for each graph.
        variants: what was measured for each variant.
    """

    manifest: Manifest
    files: dict[str, bytes]
    parity: list[ParityResult]
    variants: list[VariantResult]

    def __repr__(self) -> str:
        size = sum(map(len, self.files.values()))
        return f"<Exported {self.manifest.spec.summary}: {len(self.files)} files, {size:,} bytes>"


def export_checkpoint(
    checkpoint: Checkpoint,
    out: Path | str | None,
    *,
    data: Dataset | None = None,
    opset: int = DEFAULT_OPSET,
    variants: Sequence[str] = (),
    allow_lossy: bool = False,
    log: Callable[[str], None] = lambda line: None,
    tolerance: float = 1.0,
    sampler: bool | None = None,
    normal: NDArray[Any] | None = None,
) -> Exported:
    """Export a checkpoint from vae-train.

    Args:
        checkpoint: a trained model.
        out: a folder, or a path that ends in `.zip`; a previous bundle there is replaced. None
            writes nothing.
        data: images for the parity check. Defaults to images that are available offline.
        opset: version of the `ai.onnx` operator set, 18 to 23.
        variants: variants of the decoders to write as well: any of `fp16`, `int8`, `uint8`.
        allow_lossy: accept a variant with a PSNR below 45 dB.
        log: called with a one-line message for each graph that passed its checks.
        tolerance: multiplies the errors that the parity check allows.
        sampler: whether to write the sampler graph; None leaves it out if the decoder is large.
        normal: normal images u8 or f32 [N, C, H, W] that the model was not trained on: the bundle
            learns from them what is normal, in place of the images that vae-train held out.

    Raises:
        IntegrityError: a graph violates the contract or differs from torch; `out` is unchanged.
        UsageError: the images of `data` have the wrong shape, or a variant does not fit the model.
        InputError: there are too few images in `normal`, or they have the wrong shape.
        FileError: `out` cannot be written, or exists but is not a bundle.
    """
    options = ExportOptions(opset, variants, allow_lossy, log, tolerance, sampler)
    return export_source(replace(from_checkpoint(checkpoint, data), normal=normal), out, options)


def export(
    module: Modules,
    out: Path | str | None,
    data: Dataset | Path | str,
    *,
    opset: int = DEFAULT_OPSET,
    variants: Sequence[str] = (),
    allow_lossy: bool = False,
    log: Callable[[str], None] = lambda line: None,
    tolerance: float = 1.0,
    sampler: bool | None = None,
    normal: NDArray[Any] | None = None,
    sha256: str = "",
    compare_forward: bool = True,
    **custom: Any,
) -> Exported:
    """Export a custom module.

    Args:
        module: an `nn.Module` with methods `encode` and `decode` or submodules `encoder` and
            `decoder`, or a pair of modules. It is copied, not changed.
        out: a folder, or a path that ends in `.zip`; a previous bundle there is replaced. None
            writes nothing.
        data: the module's training images, for the parity check and for fitting the prior; or what
            `--data` accepts, of which the training split is read.
        opset: version of the `ai.onnx` operator set, 18 to 23.
        variants: variants of the decoders to write as well: any of `fp16`, `int8`, `uint8`.
        allow_lossy: accept a variant with a PSNR below 45 dB.
        log: called with a one-line message for each graph that passed its checks.
        tolerance: multiplies the errors that the parity check allows.
        sampler: whether to write the sampler graph; None leaves it out if the decoder is large.
        normal: at least 40 normal images u8 or f32 [N, C, H, W] that the module was not trained on,
            so that the bundle can `detect` anomalies.
        sha256: checksum of the weights file, for the manifest.
        compare_forward: whether to compare reconstructions with those of the module's `forward`.
        custom: fields of `vae_export.options.CustomModuleOptions`.

    Example:
        ``export(model, "bundle", "photos/", activation="sigmoid")``

    Raises:
        UsageError: an option is unknown or invalid, or the module does not fit the data.
        NotFound: the data does not exist.
        InputError: the data is malformed, or the module cannot be traced or is random.
        IntegrityError: a graph violates the contract or differs from torch, or `forward` gives
            different reconstructions; `out` is unchanged.
        FileError: `out` cannot be written, or exists but is not a bundle.
    """
    if isinstance(module, Checkpoint | AE | VAE | CVAE):
        raise UsageError(
            f"module is a {type(module).__name__} of vae-train, whose checkpoint has all that a "
            "bundle needs. Use vae_export.export_checkpoint(checkpoint, out)"
        )
    options = ExportOptions(opset, variants, allow_lossy, log, tolerance, sampler)
    described = CustomModuleOptions.from_keywords(**custom)
    if isinstance(data, Path | str):
        data = read_split(data, "train", ReadOptions(alpha=True))
    source = from_custom_module(module, data, described, sha256, compare=compare_forward, log=log)
    return export_source(replace(source, normal=normal), out, options)


def export_source(source: Source, out: Path | str | None, options: ExportOptions) -> Exported:
    """Export a model; raise the same errors as `export_checkpoint`.

    Args:
        source: the model.
        out: path of the bundle; None writes nothing.
        options: how graphs are exported.
    """
    if out is not None:
        out = Path(out)
        check_target(out)
    models, references = [], {}
    for graph in source.graphs:
        rows = parity_inputs(
            graph, source.images, source.labels, source.spec.prior, len(source.spec.classes)
        )
        rows = _shaped(rows, source.spec)
        # Repeat a single row, because torch.export would fix a batch size of one.
        example = {
            name: torch.from_numpy(values[[0, min(1, len(values) - 1)]])
            for name, values in rows.items()
        }
        models.append(trace(graph, example, options.opset))
        cost = row_cost(graph.module, *(example[name] for name in graph.inputs))
        count = len(next(iter(rows.values())))
        if (limit := cost.rows(count, RUNS)) < count:
            rows = thin(rows, limit)
            options.log(f"{graph.role}: checks {limit} of {count} rows, since {cost.line()}")
        references[graph.role] = run_reference(graph, rows, cost, options.track)
        for line in references[graph.role].warnings(graph.role):
            options.log(line)
    spec = replace(source.spec, id=bundle_id(models, source.spec))
    exported = _export_graphs(replace(source, spec=spec), models, references, options)
    if source.normal is not None:
        exported = _with_normality(exported, source.normal, options)
    try_bundle(exported.manifest, exported.files, source.images)
    if out is not None:
        write_bundle(exported.manifest, exported.files, out)
    return exported


def _export_graphs(
    source: Source,
    models: list[onnx.ModelProto],
    references: dict[str, Reference],
    options: ExportOptions,
) -> Exported:
    """Finish and check every graph and variant in memory."""
    spec = source.spec
    files: dict[str, bytes] = {}
    specs: list[GraphSpec] = []
    results: list[ParityResult] = []
    measured: list[VariantResult] = []
    # Make the variants first, so that one that does not fit fails before the parity check, and
    # while the models do not yet hold the spec.
    variants = _make_variants(source, models, references, options)
    for graph, model in zip(source.graphs, models, strict=True):
        raw, graph_spec = write_model(model, graph, spec, opset=options.opset)
        reference = references[graph.role]
        result = check_parity(graph, raw, reference, options.tolerance, options.track)
        options.log(result.line())
        results.append(result)
        specs.append(graph_spec)
        files[graph_spec.file.file] = raw
        for name, variant in variants[graph.role].items():
            variant_raw, graph_spec = write_model(variant, graph, spec, name, options.opset)
            samples = _decoder_inputs(graph, spec, reference.cost, seed=0)
            quality = measure(
                graph, variant_raw, graph_spec, raw, samples, reference, options.allow_lossy
            )
            options.log(quality.line())
            measured.append(quality)
            specs.append(graph_spec)
            files[graph_spec.file.file] = variant_raw
    parity = parity_summary(results, options.tolerance)
    golden = golden_arrays(references, parity["max_abs_difference_from_torch_float32"])
    decoder = source.graphs[-1]  # of a conditional model, the one that takes a label
    decoders = [(graph, files[graph.file.file]) for graph in specs if graph.role == decoder.role]
    if _wants_sampler(decoders[0][0], options):
        rows = sampler_rows(spec, _rows_within(references[decoder.role].cost, _SAMPLER_ROWS))
        samplers = make_samplers(decoder, decoders, spec, rows)
        options.log(samplers.line())
        specs += samplers.specs
        files |= samplers.files
        parity["sampler"] = samplers.errors
        golden |= sampler_golden(decoder, spec, rows, golden)
    files["golden.npz"] = pack_golden(golden)
    files |= {NORMALITY: source.normality} if source.normality else {}
    parity |= {"variants": {m.graph: m.to_json() for m in measured}} if measured else {}
    if source.forward:
        parity["forward"] = source.forward
    manifest = Manifest(
        spec,
        tuple(specs),
        file_spec("golden.npz", files["golden.npz"]),
        training=source.training,
        parity=parity,
        producer=_producer(),
        checkpoint_sha256=source.sha256,
        normality=file_spec(NORMALITY, files[NORMALITY]) if source.normality else None,
    )
    return Exported(manifest, files, results, measured)


def _with_normality(exported: Exported, normal: NDArray[Any], options: ExportOptions) -> Exported:
    """Let a finished bundle learn what is normal, and add that to it."""
    known = learn_normality(exported.manifest, exported.files, normal)
    options.log(f"normality: learned from {len(normal):,} images, {known.held_out:,} held out")
    files = exported.files | {NORMALITY: known.to_bytes()}
    manifest = replace(exported.manifest, normality=file_spec(NORMALITY, files[NORMALITY]))
    return replace(exported, manifest=manifest, files=files)


def _make_variants(
    source: Source,
    models: list[onnx.ModelProto],
    references: dict[str, Reference],
    options: ExportOptions,
) -> dict[str, dict[str, onnx.ModelProto]]:
    """Make the variants of the decoders, by role and name."""
    return {
        graph.role: {
            name: make_variant(
                name,
                model,
                _decoder_inputs(graph, source.spec, references[graph.role].cost, seed=1),
            )
            for name in dict.fromkeys(options.variants)
            if graph.role != "encoder"
        }
        for graph, model in zip(source.graphs, models, strict=True)
    }


def _decoder_inputs(graph: Graph, spec: ModelSpec, cost: RowCost, seed: int) -> Arrays:
    """Sample typical decoder inputs from the prior."""
    z, label = sample_inputs(spec.prior, len(spec.classes), _rows_within(cost, _SAMPLES), seed)
    return _shaped({"z": z, "label": label} if "label" in graph.inputs else {"z": z}, spec)


def _rows_within(cost: RowCost, wanted: int) -> int:
    """Return how many of `wanted` rows can be run at once, within the bounds of work and memory."""
    return min(cost.rows(wanted, RUNS), cost.batch(wanted))


def _wants_sampler(decoder: GraphSpec, options: ExportOptions) -> bool:
    """Return whether to write samplers: as chosen, else unless the decoder is large."""
    if options.sampler is None and decoder.file.bytes > MAX_DECODER:
        options.log(
            f"sampler: not written, since it would repeat the decoder's {decoder.file.bytes:,} "
            "bytes. Set sampler (--sampler) to write it."
        )
        return False
    return options.sampler is not False


def _shaped(rows: Arrays, spec: ModelSpec) -> Arrays:
    """Give the latents, if any, the shape that the graphs take: f32[N, *latent_shape]."""
    return {n: v.reshape(-1, *spec.latent_shape) if n == "z" else v for n, v in rows.items()}


def _producer() -> dict[str, Any]:
    """Collect the versions that an export depends on, for the manifest."""
    return {
        "vae-onnx": __version__,
        "torch": str(torch.__version__),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime().__version__,
        "python": platform.python_version(),
    }
