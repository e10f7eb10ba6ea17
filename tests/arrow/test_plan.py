"""Dividing a number of rows into parts."""

from __future__ import annotations

import pytest

from vae_runtime.errors import NotFound, UsageError

pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

from vae_runtime.arrow import plan

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("source", ["0", str(2**63)])
def test_a_number_of_rows_out_of_range_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match=rf"^{source}: number of rows, expected 1 to 2\*\*63 - 1$"):
        plan.parse_source(source, "sample", 4, limit=3)
    assert plan.parse_source(str(2**63 - 1), "sample", 4, limit=3).rows == 3
    with pytest.raises(UsageError, match="number of rows"):
        plan.parse_source("9" * 200, "sample", 4, limit=3)
    with pytest.raises(NotFound):  # Python considers it a digit, but int() does not
        plan.parse_source("²", "sample", 4, limit=3)


def test_a_number_of_rows_is_divided_into_parts() -> None:
    found = plan.plan_rows(10, 4)
    assert [(p.number, p.start, p.rows, p.name) for p in found.parts] == [
        (0, 0, 4, "part-000000.parquet"),
        (1, 4, 4, "part-000001.parquet"),
        (2, 8, 2, "part-000002.parquet"),
    ]
    assert found.rows == 10
