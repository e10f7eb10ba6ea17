"""Read golden vectors: inputs of each graph, and the outputs that torch computed for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..files.npz import read_npz
from .reader import Bundle
from .spec import ModelSpec, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = ("float32", "int64", "uint8")


def read_golden(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Read `golden.npz`: arrays named `ROLE.in.NAME` and `ROLE.out.NAME`.

    Returns:
        For every input and output of every graph an array f32[N, …], of a label i64[N]; N may
        differ between roles. Pixels are float32 in [0, 1] also for variants with byte output.

    Raises:
        InputError: not a `.npz` of this kind, or arrays that are missing or do not fit the graphs.
    """
    where = f"{bundle.name}/{bundle.manifest.golden.file}"
    arrays = read_npz(bundle.read(bundle.manifest.golden), where, numpy_only=True)
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise InputError(f"{where}: {name} is {array.dtype.str}, expected <f4, <i8 or |u1")
        if not (array.size and np.isfinite(array).all()):
            raise InputError(f"{where}: {name} is empty or not finite. Export the bundle again.")
    for graph in bundle.manifest.graphs:
        rows = set()
        for side, tensors in (("in", graph.inputs), ("out", graph.outputs)):
            for tensor in tensors:
                name = f"{graph.role}.{side}.{tensor.name}"
                if name not in arrays:
                    raise InputError(f"{where}: no golden vectors {name}. Export it again.")
                _check_fits(arrays[name], tensor, bundle.manifest.spec, f"{where}: {name}")
                rows.add(len(arrays[name]))
        if len(rows) > 1:
            raise InputError(f"{where}: {graph.role} has arrays of {sorted(rows)} rows")
    return arrays


def _check_fits(array: NDArray[Any], tensor: TensorSpec, spec: ModelSpec, where: str) -> None:
    dtype = "int64" if tensor.dtype == "int64" else "float32"
    if array.dtype.name != dtype or array.shape[1:] != tensor.shape[1:] or not array.ndim:
        raise InputError(
            f"{where} is {array.dtype}{list(array.shape)}, expected {dtype}{list(tensor.shape)}"
        )
    if dtype == "int64" and not (array.min() >= 0 and array.max() <= len(spec.classes)):
        raise InputError(f"{where} has labels outside 0 to {len(spec.classes)}")
