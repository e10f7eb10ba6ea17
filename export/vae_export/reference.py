"""What torch computes for the parity check, and how much rounding in float32 changes it.

The reference is torch in float64. How far float32 may deviate is measured: torch runs each row in
several orders of summation, whose results differ by rounding alone.

Batches of one row take matrix-vector products in place of matrix products. Without oneDNN,
convolutions are products too. A linear layer with few outputs, computed as a part of a wider one,
sums in sequence, as onnxruntime does. The number of threads changes nothing. Two other switches
would change more than the order: convolutions in NNPACK (Winograd) made up to 14 times the error,
and group normalisation in channels-last up to 19 times.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vae_runtime.bundle.spec import ModelSpec
from vae_runtime.errors import InputError
from vae_runtime.verification import MAX_TOLERANCE, TOLERANCE

from .cost import RowCost
from .graphs import Graph
from .options import Track
from .user_code import user_line

Arrays = dict[str, NDArray[Any]]

_BATCH = 256
_IMPRECISE = 1e-3  # relative to the largest value of an output, or to 1
_WIDE = 64  # outputs from which on torch sums in sequence
_ALONE = 64  # maximum number of rows to run one at a time
_GOLDEN_ROWS = 24  # maximum number of rows per graph
_GOLDEN_BYTES = 16 << 20  # maximum size of one array of golden vectors


@dataclass(frozen=True)
class Rounding:
    """Errors of torch in float32, in the worst of several orders of summation, for one output.

    Attributes:
        largest: the largest error of any element.
        typical: the root mean square error of each row, f64[R].
    """

    largest: float
    typical: NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """torch's outputs for the distinct input rows of one graph.

    Attributes:
        rows: the values of each input, by name.
        single, double: each output in float32 and in float64, one row for each of `rows`.
        rounding: the errors of float32 for each output.
        cost: what one row costs.
    """

    rows: Arrays
    single: Arrays
    double: Arrays
    rounding: dict[str, Rounding]
    cost: RowCost

    def warnings(self, role: str) -> Iterator[str]:
        """Describe each output that float32 gives with fewer than three digits."""
        for name, rounding in self.rounding.items():
            largest = float(np.abs(self.double[name]).max(initial=1))
            if rounding.largest > _IMPRECISE * largest:
                yield (
                    f"warning: {role}.{name}: float32 differs from float64 by "
                    f"{rounding.largest:.1e}; the module magnifies rounding, or relies on float64, "
                    "in which no graph computes"
                )


def run_reference(graph: Graph, rows: Arrays, cost: RowCost, track: Track) -> Reference:
    """Run the torch module on `rows` in float64, and in float32 in several orders.

    Raises:
        InputError: the module cannot run in float64, or an output is not finite.
    """
    double = _run_in_double(graph, rows, cost, track)
    for name in graph.outputs:
        if not np.isfinite(double[name]).all():
            where = np.argwhere(~np.isfinite(double[name]))[0].tolist()
            raise InputError(
                f"{graph.role}.{name}: torch returns {double[name][tuple(where)]} at {where}, "
                "expected finite outputs. Train or clamp the module."
            )
    batch, count = cost.batch(_BATCH), len(rows[graph.inputs[0]])
    single = _run_torch(graph.module, graph, rows, torch.float32, batch, track)
    everything = np.arange(count)
    orders = [(everything, single)]
    if batch > 1:
        few = np.unique(np.linspace(0, count - 1, min(count, _ALONE)).astype(int))
        alone = {name: values[few] for name, values in rows.items()}
        orders.append((few, _run_torch(graph.module, graph, alone, torch.float32, 1, track)))
    with _plain_products(), _WideLinear():
        # These convolutions unfold their input, as those in float64 do.
        batch = cost.batch(_BATCH, torch.float64)
        plain = _run_torch(graph.module, graph, rows, torch.float32, batch, track)
        orders.append((everything, plain))
    rounding = {
        name: _worst([(index, found[name]) for index, found in orders], double[name])
        for name in graph.outputs
    }
    return Reference(rows, single, double, rounding, cost)


class _WideLinear(TorchFunctionMode):
    """Mode in which small linear layers are computed as parts of wider ones."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not F.linear or len(args) < 2 or len(args[1]) >= _WIDE:
            return func(*args, **(kwargs or {}))
        inputs, weight, *bias = args
        wide = F.pad(weight, (0, 0, 0, _WIDE - len(weight)))
        products = F.linear(inputs, wide)[..., : len(weight)]
        bias = [*bias, *(kwargs or {}).values()]
        return products if not bias or bias[0] is None else products + bias[0]


@contextlib.contextmanager
def _plain_products() -> Iterator[None]:
    """Compute convolutions as matrix products, without oneDNN or NNPACK."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TF32 on GPUs, which the first flags set as well
        with (
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.nnpack.flags(enabled=False),
        ):
            yield


def _worst(
    orders: list[tuple[NDArray[np.intp], NDArray[Any]]], double: NDArray[np.float64]
) -> Rounding:
    """Return the worst errors over several float32 results of the rows at an index."""
    largest, typical = 0.0, np.zeros(len(double))
    for index, single in orders:
        error = single - double[index]
        largest = max(largest, float(np.abs(error).max(initial=0)))
        typical[index] = np.maximum(typical[index], row_rms(error))
    # An output may happen to be exact, but no other order need give it more precisely than float32.
    unit = np.finfo(np.float32).eps / 4 * row_rms(double)
    return Rounding(largest, np.maximum(typical, unit))


def row_rms(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the root mean square of each row, f64[R]."""
    rms: NDArray[np.float64] = np.sqrt(np.square(values.reshape(len(values), -1)).mean(1))
    return rms


def _run_in_double(graph: Graph, rows: Arrays, cost: RowCost, track: Track) -> Arrays:
    module = copy.deepcopy(graph.module).double()
    try:
        return _run_torch(
            module, graph, rows, torch.float64, cost.batch(_BATCH, torch.float64), track
        )
    except RuntimeError as error:
        raise InputError(
            f"{graph.role}: the module cannot run in float64, which the parity check needs: "
            f"{user_line(error)}"
        ) from error


@torch.no_grad()
def _run_torch(
    module: nn.Module, graph: Graph, rows: Arrays, dtype: torch.dtype, batch: int, track: Track
) -> Arrays:
    """Run all rows in batches and return each output."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in graph.outputs}
    count = len(rows[graph.inputs[0]])
    noun = f"rows of {graph.role} in torch {str(dtype).removeprefix('torch.')}"
    for start in track(range(0, count, batch), count, batch, noun):
        tensors = [torch.from_numpy(rows[n][start : start + batch]) for n in graph.inputs]
        tensors = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
        found: Tensor | tuple[Tensor, ...] = module(*tensors)
        outputs = found if isinstance(found, tuple) else (found,)
        for name, tensor in zip(graph.outputs, outputs, strict=True):
            parts[name].append(tensor.numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def golden_arrays(references: dict[str, Reference], differences: dict[str, float]) -> Arrays:
    """Collect inputs and torch's float32 outputs, to verify parity without torch.

    Args:
        references: what torch computes, by role.
        differences: the largest difference between onnxruntime and torch in float32 for each
            `ROLE.NAME`. An output with a large one gets a tolerance of its own, four times as much.

    Returns:
        `ROLE.in.NAME` and `ROLE.out.NAME` for each tensor of each graph, and any
        `ROLE.tolerance.NAME`.
    """
    arrays: Arrays = {}
    for role, reference in references.items():
        tensors = {f"{role}.in.{name}": values for name, values in reference.rows.items()}
        tensors |= {f"{role}.out.{name}": values for name, values in reference.single.items()}
        count = min(len(values) for values in tensors.values())
        largest = max(values[:1].nbytes for values in tensors.values())
        kept = max(1, min(count, _GOLDEN_ROWS, _GOLDEN_BYTES // largest))
        index = np.linspace(0, count - 1, kept).astype(int)
        arrays |= {name: np.ascontiguousarray(values[index]) for name, values in tensors.items()}
    for name, difference in differences.items():
        if difference > TOLERANCE / 2:
            role, _, output = name.partition(".")
            allowed = min(4 * difference, MAX_TOLERANCE)
            arrays[f"{role}.tolerance.{output}"] = np.array([allowed], np.float32)
    return arrays


@torch.no_grad()
def sampler_golden(decoder: Graph, spec: ModelSpec, rows: Arrays, golden: Arrays) -> Arrays:
    """Compute the golden vectors of a sampler: the prior in NumPy, and the decoder in torch.

    The image has the tolerance of the decoder's image in `golden`.
    """
    size = spec.image.channels * spec.image.height * spec.image.width
    kept = {
        name: v[: max(1, min(_GOLDEN_ROWS, _GOLDEN_BYTES // (4 * size)))]
        for name, v in rows.items()
    }
    z = spec.prior.transform(kept["noise"], kept.get("label")).reshape(-1, *spec.latent_shape)
    label = [torch.from_numpy(kept["label"])] if "label" in kept else []
    image = decoder.module(torch.from_numpy(z), *label).numpy()
    inputs = {f"sampler.in.{name}": values for name, values in kept.items()}
    found = inputs | {"sampler.out.image": image, "sampler.out.z": z}
    tolerance = golden.get(f"{decoder.role}.tolerance.image")
    return found if tolerance is None else found | {"sampler.tolerance.image": tolerance}


def pack_golden(arrays: Arrays) -> bytes:
    """Pack golden vectors as an uncompressed `.npz`, whose bytes depend only on the values."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
