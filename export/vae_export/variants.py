"""Variants of the decoders: other precisions or output types, measured before they are written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vae_runtime.bundle.spec import GraphSpec
from vae_runtime.errors import IntegrityError, UsageError
from vae_runtime.images import to_uint8 as levels
from vae_runtime.inference.session import Session

from .fp16 import to_fp16
from .graphs import Graph
from .int8 import to_int8
from .parity import Arrays, run_batches
from .uint8 import to_uint8

# From a float32 decoder, and inputs as users have them, to the variant.
VARIANTS: dict[str, Callable[[onnx.ModelProto, Arrays], onnx.ModelProto]] = {
    "fp16": to_fp16,
    "int8": to_int8,
    "uint8": to_uint8,
}
LOWEST_PSNR = 45.0  # dB
_BATCH = 64  # of the timing
_RUNS = 60  # at most
_SECONDS = 0.5  # a variant's timing takes no longer than this


@dataclass(frozen=True)
class Measured:
    """A variant against the float32 graph, both in onnxruntime on the same latents.

    Attributes:
        graph: `decoder.int8` …
        bytes, bytes_fp32: of the files.
        psnr: peak signal-to-noise ratio in dB; of `uint8`, whose only error is the rounding that
            is asked for, with the float32 pixels rounded as well (infinite where the bytes agree).
        differ: the share of pixels whose nearest of 256 levels is another, 0 to 1.
        largest_step: by how many levels at most.
        ms, ms_fp32: milliseconds a batch of 64 on one thread, medians of runs in turns.
    """

    graph: str
    bytes: int
    bytes_fp32: int
    psnr: float
    differ: float
    largest_step: int
    ms: float
    ms_fp32: float

    def facts(self) -> dict[str, Any]:
        """What the manifest says: all but the timings, which no two exports share."""
        psnr = None if np.isinf(self.psnr) else round(self.psnr, 1)
        return {
            "psnr_db": psnr,
            "pixels_that_differ": float(f"{self.differ:.3g}"),
            "largest_step": self.largest_step,
        }

    def line(self) -> str:
        """In words."""
        pixels = (
            "the same pixels"
            if np.isinf(self.psnr)
            else f"{self.psnr:.1f} dB, {self.differ:.2%} of pixels differ by at most "
            f"{self.largest_step} of 255"
        )
        return (
            f"{self.graph}: {self.bytes:,} bytes ({self.bytes / self.bytes_fp32:.0%} of fp32), "
            f"{pixels}, "
            f"{self.ms_fp32 / self.ms:.2f} times the speed ({self.ms:.3f} ms a batch of {_BATCH})"
        )


def check_names(names: tuple[str, ...]) -> None:
    """Refuse an unknown variant before any work is done.

    Raises:
        UsageError: with the known ones.
    """
    for name in names:
        if name not in VARIANTS:
            raise UsageError(f"variant is {name!r}, expected one of {', '.join(VARIANTS)}")


def measure(
    graph: Graph,
    raw: bytes,
    spec: GraphSpec,
    fp32: bytes,
    drawn: Arrays,
    extreme: Arrays,
    allow_lossy: bool,
) -> Measured:
    """Run a variant in every batch of the gate, then compare it with the float32 graph.

    Args:
        graph: the decoder.
        raw: the variant's file.
        spec: what the manifest says of it.
        fp32: the bytes of the float32 graph.
        drawn: inputs as users have them, that quality and time are measured with.
        extreme: inputs of the gate, which must give finite pixels.
        allow_lossy: accept less than LOWEST_PSNR.

    Raises:
        IntegrityError: wrong shape or dtype, not finite, too lossy, or of `uint8` not the bytes
            that the float32 graph gives.
    """
    name = f"{graph.role}.{spec.variant}"
    with Session(fp32, device="cpu") as a, Session(raw, device="cpu") as b:
        _check_batches(name, graph, raw, spec, a, extreme)
        first, second = (s.run(graph.outputs, **drawn)[0] for s in (a, b))
        small = {key: np.resize(v, (_BATCH, *v.shape[1:])) for key, v in drawn.items()}
        ms_fp32, ms = _time(graph, small, a, b)
    steps = np.abs(levels(first).astype(np.int64) - levels(second))
    found = Measured(
        name,
        len(raw),
        len(fp32),
        _psnr(first, second),
        float((steps > 0).mean()),
        int(steps.max()),
        ms,
        ms_fp32,
    )
    if found.psnr < LOWEST_PSNR and not allow_lossy:
        raise IntegrityError(
            f"{name}: {found.psnr:.1f} dB against fp32, expected {LOWEST_PSNR:g} or more. "
            "Leave this variant out, or accept it with --allow-lossy."
        )
    return found


def _check_batches(
    name: str, graph: Graph, raw: bytes, spec: GraphSpec, fp32: Session, rows: Arrays
) -> None:
    """Shape, dtype and finite values in each batch; for `uint8`, the very bytes."""
    dtype = spec.outputs[0].dtype
    for batch, index, (image,) in run_batches(graph, raw, rows):
        shape = (batch, *spec.outputs[0].shape[1:])
        if image.shape != shape or image.dtype != dtype:
            raise IntegrityError(
                f"{name}: {image.dtype}{list(image.shape)} in a batch of {batch}, expected "
                f"{dtype}{list(shape)}"
            )
        if not np.isfinite(image).all():
            raise IntegrityError(f"{name}: not finite in a batch of {batch}")
        if dtype == "uint8":
            inputs = {key: np.ascontiguousarray(values[index]) for key, values in rows.items()}
            expected = levels(fp32.run(graph.outputs, **inputs)[0])
            if not np.array_equal(image, expected):
                count = int((image != expected).sum())
                raise IntegrityError(
                    f"{name}: {count} pixels in a batch of {batch} differ from the rounded fp32 "
                    "graph, expected none"
                )


def _psnr(a: NDArray[np.float32], b: NDArray[Any]) -> float:
    """Of two images, the second float32 in [0, 1] or uint8; in dB, infinite where they agree."""
    first: NDArray[Any] = a
    if b.dtype == np.uint8:
        first, b = levels(a) / 255, b / 255
    error = float(np.square(first.astype(np.float64) - b).mean())
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def _time(graph: Graph, inputs: Arrays, *sessions: Session) -> list[float]:
    """Milliseconds of one run of each session: the median of runs that take turns."""
    times: list[list[float]] = [[] for _ in sessions]
    end = time.perf_counter() + _SECONDS
    for turn in range(_RUNS):
        if turn > 2 and time.perf_counter() > end:
            break
        for session, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(graph.outputs, **inputs)
            own.append(time.perf_counter() - start)
    return [1e3 * float(np.median(own)) for own in times]
