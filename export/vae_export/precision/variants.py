"""Make variants of the decoders, and measure each against the float32 graph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vae_runtime.bundle.spec import GraphSpec
from vae_runtime.errors import IntegrityError
from vae_runtime.images import to_uint8
from vae_runtime.inference.session import Session

from ..graphs import Graph
from ..parity import check_output, run_batches
from ..reference import Arrays, Reference
from .fp16 import to_fp16
from .int8 import to_int8

MIN_PSNR = 45.0  # dB
_BATCH = 64  # maximum number of images per timed run
_MAX_RUNS = 60
_MAX_SECONDS = 0.5  # seconds of timing per variant


@dataclass(frozen=True)
class VariantResult:
    """Comparison of a variant with the float32 graph, both run by onnxruntime on the same latents.

    Attributes:
        graph: name of the graph, for example `decoder.int8`.
        bytes, bytes_fp32: sizes of the two files.
        psnr: peak signal-to-noise ratio in dB, infinite if all pixels are equal. For `uint8`, the
            float32 pixels are also rounded first, since the rounding itself is intended.
        differ: fraction (0 to 1) of the pixels that differ after rounding to 256 levels.
        largest_step: the largest such difference, in levels.
        ms, ms_fp32: median milliseconds per batch on one thread; the two graphs are run
            alternately.
        batch: number of images per batch, 64 unless they cost too much.
    """

    graph: str
    bytes: int
    bytes_fp32: int
    psnr: float
    differ: float
    largest_step: int
    ms: float
    ms_fp32: float
    batch: int

    def to_json(self) -> dict[str, Any]:
        """Return the manifest entry. It omits the times, since they vary between exports."""
        psnr = None if np.isinf(self.psnr) else round(self.psnr, 1)
        return {
            "psnr_db": psnr,
            "pixels_that_differ": float(f"{self.differ:.3g}"),
            "largest_step": self.largest_step,
        }

    def line(self) -> str:
        """Describe the result in one line."""
        pixels = (
            "the same pixels"
            if np.isinf(self.psnr)
            else f"{self.psnr:.1f} dB, {self.differ:.2%} of pixels differ by at most "
            f"{self.largest_step} of 255"
        )
        return (
            f"{self.graph}: {self.bytes:,} bytes ({self.bytes / self.bytes_fp32:.0%} of fp32), "
            f"{pixels}, {self.ms_fp32 / self.ms:.2f}× as fast ({self.ms:.3f} ms per batch of "
            f"{self.batch})"
        )


def make_variant(name: str, model: onnx.ModelProto, samples: Arrays) -> onnx.ModelProto:
    """Make a variant of a decoder.

    Args:
        name: one of `vae_export.options.VARIANTS`.
        model: the float32 decoder; it is not changed.
        samples: typical inputs for calibrating int8.

    Raises:
        UsageError: the variant does not fit this model.
    """
    if name == "int8":
        return to_int8(model, samples)
    return to_fp16(model) if name == "fp16" else to_uint8_output(model)


def to_uint8_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a copy of a decoder so that it outputs `image` as u8[N, C, H, W], 0 to 255.

    The image is multiplied by 255; QuantizeLinear with scale 1 then rounds half to even and
    saturates. The bytes equal those of `vae_runtime.images.to_uint8` on the float32 graph. This
    takes a single pass and is faster than Clip, Round and Cast.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "image":
                    names[index] = "unit_image"
    for name, value in (
        ("pixel_levels", np.array(255, np.float32)),
        ("pixel_step", np.array(1, np.float32)),
        ("pixel_zero", np.array(0, np.uint8)),
    ):
        graph.initializer.append(numpy_helper.from_array(value, name))
    make = helper.make_node
    quantise = ["levels", "pixel_step", "pixel_zero"]
    graph.node.append(make("Mul", ["unit_image", "pixel_levels"], ["levels"], name="scale"))
    graph.node.append(make("QuantizeLinear", quantise, ["image"], name="quantise"))
    graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    return result


def measure(
    graph: Graph,
    raw: bytes,
    spec: GraphSpec,
    fp32: bytes,
    samples: Arrays,
    reference: Reference,
    allow_lossy: bool,
) -> VariantResult:
    """Run a variant on every batch of the parity check, then compare it with the float32 graph.

    Args:
        graph: the decoder.
        raw: the bytes of the variant.
        spec: the variant's entry in the manifest.
        fp32: the bytes of the float32 graph.
        samples: typical inputs for measuring quality and time.
        reference: the parity check's, for its rows; the decoded pixels must be finite.
        allow_lossy: accept a PSNR below MIN_PSNR.

    Raises:
        IntegrityError: an output has the wrong shape or dtype or is not finite; the PSNR is too
            low; or a `uint8` variant differs from the rounded float32 graph.
    """
    name = f"{graph.role}.{spec.variant}"
    with Session(fp32, device="cpu") as a, Session(raw, device="cpu") as b:
        _check_batches(name, graph, raw, spec, a, reference)
        first, second = (s.run(graph.outputs, **samples)[0] for s in (a, b))
        small = {key: values[:_BATCH] for key, values in samples.items()}
        ms_fp32, ms = _time(graph, small, a, b)
    steps = np.abs(to_uint8(first).astype(np.int64) - to_uint8(second))
    result = VariantResult(
        name,
        len(raw),
        len(fp32),
        _psnr(first, second),
        float((steps > 0).mean()),
        int(steps.max()),
        ms,
        ms_fp32,
        min(_BATCH, len(first)),
    )
    if result.psnr < MIN_PSNR and not allow_lossy:
        raise IntegrityError(
            f"{name}: {result.psnr:.1f} dB against fp32, expected {MIN_PSNR:g} or more. "
            "Leave this variant out, or accept it with --allow-lossy."
        )
    return result


def _check_batches(
    name: str, graph: Graph, raw: bytes, spec: GraphSpec, fp32: Session, reference: Reference
) -> None:
    """Check the dtype, shape and finiteness of every batch; for `uint8`, also check every byte."""
    dtype, shape = spec.outputs[0].dtype, spec.outputs[0].shape
    rows = reference.rows
    for index, (image,) in run_batches(graph, raw, reference):
        check_output(name, image, dtype, (len(index), *shape[1:]))
        if dtype == "uint8":
            inputs = {key: np.ascontiguousarray(values[index]) for key, values in rows.items()}
            expected = to_uint8(fp32.run(graph.outputs, **inputs)[0])
            if not np.array_equal(image, expected):
                count = int((image != expected).sum())
                raise IntegrityError(
                    f"{name}: {count} pixels in a batch of {len(index)} differ from the rounded "
                    "fp32 graph, expected none"
                )


def _psnr(a: NDArray[np.float32], b: NDArray[Any]) -> float:
    """Return the PSNR in dB; `b` is float32 in [0, 1] or uint8. Equal images give infinity."""
    first: NDArray[Any] = a
    if b.dtype == np.uint8:
        first, b = to_uint8(a) / 255, b / 255
    error = float(np.square(first.astype(np.float64) - b).mean())
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def _time(graph: Graph, inputs: Arrays, *sessions: Session) -> list[float]:
    """Time the sessions in turn; return the median milliseconds per run of each."""
    times: list[list[float]] = [[] for _ in sessions]
    end = time.perf_counter() + _MAX_SECONDS
    for turn in range(_MAX_RUNS):
        if turn > 2 and time.perf_counter() > end:
            break
        for session, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(graph.outputs, **inputs)
            own.append(time.perf_counter() - start)
    return [1e3 * float(np.median(own)) for own in times]
