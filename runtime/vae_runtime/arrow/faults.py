"""What is wrong with single rows: the first reason against each, kept until the table is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Faults:
    """The rows of one table that cannot be used.

    Attributes:
        reasons: one line for each bad row, by its number in the table.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.reasons: dict[int, str] = {}

    def add(self, bad: NDArray[np.bool_], reason: str | Callable[[int], str]) -> None:
        """Note a reason, or one made from the row's number, against all rows of a mask."""
        for row in np.flatnonzero(bad).tolist():
            self.set(row, reason if isinstance(reason, str) else reason(row))

    def set(self, row: int, reason: str) -> None:
        """Note a reason against one row; an earlier one stands."""
        self.reasons.setdefault(row, reason)

    def mask(self) -> NDArray[np.bool_] | None:
        """bool[N], true where a row is bad; None where all are good."""
        if not self.reasons:
            return None
        bad = np.zeros(self.n, bool)
        bad[list(self.reasons)] = True
        return bad

    def to_arrow(self) -> Any:
        """The column `error`: a line for a bad row, null for a good one."""
        if not self.reasons:
            return pa.nulls(self.n, pa.string())
        return pa.array([self.reasons.get(row) for row in range(self.n)], pa.string())
