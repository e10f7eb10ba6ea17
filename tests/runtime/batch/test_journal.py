"""What a job notes and counts, without a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from vae_runtime.errors import NotFound, UsageError

pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra dask")

from vae_runtime.arrow import journal, plan
from vae_runtime.arrow.part import Done

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("source", ["0", str(2**63)])
def test_a_count_of_no_rows_or_of_too_many_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match=f"^{source}: a number of rows .* and at least 1$"):
        plan.parse_source(source, "sample", 4, limit=3)
    assert plan.parse_source(str(2**63 - 1), "sample", 4, limit=3).rows == 3
    with pytest.raises(UsageError, match="a number of rows"):
        plan.parse_source("9" * 200, "sample", 4, limit=3)
    with pytest.raises(NotFound):  # a digit to Python, and no number
        plan.parse_source("²", "sample", 4, limit=3)


def test_a_finished_part_is_on_the_disk_when_it_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = journal.Journal(tmp_path, {"format": 1}, resume=False)
    lines, seen = tmp_path / journal.LINES, list[bytes]()
    monkeypatch.setattr("os.fsync", lambda _: seen.append(lines.read_bytes()))
    noted.add(Done("part-000000.parquet", 3, 0, 9, "ab"))
    assert seen == [lines.read_bytes()]
    assert b'"part-000000.parquet"' in seen[0]
