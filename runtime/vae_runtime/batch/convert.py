"""A data set as a Parquet file that every engine reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..datasets import Dataset
from ..files import writing

_GROUP_ROWS = 16_384  # row groups are what a job is cut along


def write_dataset(data: Dataset, path: Path) -> None:
    """Write `image`, C·H·W bytes a row, and `label`, the class's name, where there are labels.

    Raises:
        FileError: it cannot be written; a previous file is kept.
    """
    size = int(np.prod(data.image_shape))
    pixels = pa.array(np.ascontiguousarray(data.images).reshape(-1))
    columns = {"image": pa.FixedSizeListArray.from_arrays(pixels, size)}
    if data.labels is not None:
        codes = pa.array(data.labels.astype(np.int32))
        columns["label"] = pa.DictionaryArray.from_arrays(
            codes, list(data.classes)
        ).dictionary_decode()
    options: dict[str, Any] = {
        "row_group_size": _GROUP_ROWS,
        "use_dictionary": ["label"],
        "write_page_checksum": True,
    }
    with writing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, **options)
