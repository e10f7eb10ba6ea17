"""Arrays to Arrow columns, null where a row could not be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..images import encode_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .faults import Faults


def lists(values: NDArray[Any], faults: Faults, *, fixed: bool) -> Any:
    """[N, …] → lists of each row's numbers, of a fixed size or not; the memory is shared."""
    n, bad = len(values), faults.mask()
    size = int(np.prod(values.shape[1:]))
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    mask = None if bad is None else pa.array(bad)
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, size, mask=mask)
    if n * size < 2**31:
        offsets = np.arange(n + 1, dtype=np.int32) * np.int32(size)
        return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=mask)
    return pa.LargeListArray.from_arrays(pa.array(np.arange(n + 1) * size), flat, mask=mask)


def numbers(values: NDArray[np.float64], faults: Faults) -> Any:
    """f64[N] → a column of numbers."""
    return pa.array(values, mask=faults.mask())


def pictures(images: NDArray[np.uint8], faults: Faults) -> Any:
    """[N, C, H, W] → PNG files as bytes."""
    bad = faults.reasons
    files = (None if i in bad else encode_image(image) for i, image in enumerate(images))
    return pa.array(files, pa.binary())
