"""The callable that every engine maps over its tables."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..arrays import as_labels
from ..autoencoder import DEFAULT_BUNDLE, DEFAULT_VARIANT, Autoencoder
from ..bundle.reader import Bundle, open_bundle
from ..bundle.spec import ModelSpec
from ..errors import IntegrityError, UsageError
from ..prior import check_sampling, choose_prior
from .columns import read_images, read_index, read_labels
from .faults import Faults
from .work import WORK, Rows

VERBS = tuple(WORK)
FORMATS = ("uint8", "float32", "png")
ERROR = "error"

_models: dict[tuple[Any, ...], Autoencoder] = {}
_loading = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a `Mapper` does beside its verb and its bundle.

    Attributes:
        image: the column of the images.
        label_column: the column of their labels; None takes `label`, where there is one.
        label: one class for all in place of a column.
        row: the column with each row's number in the whole job, which `sample` and `score` draw by.
        dtype: of the images that come out: `uint8`, `float32`, or `png` for files as bytes.
        fixed: lists of a fixed size; False gives plain ones, which Spark needs.
        seed: of `sample` and `score`.
        samples: latents that `score` draws an image.
        prior: of `sample`: `fitted` or `normal`.
        temperature: likewise.
        truncation: likewise.
        variant: precision of the graphs, where the bundle has more than `fp32`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    image: str = "image"
    label_column: str | None = None
    label: int | str | None = None
    row: str = "row"
    dtype: str = "uint8"
    fixed: bool = True
    seed: int = 0
    samples: int = 1
    prior: str = "fitted"
    temperature: float = 1.0
    truncation: float | None = None
    variant: str = DEFAULT_VARIANT
    device: str = "auto"

    def check(self, spec: ModelSpec) -> None:
        """Refuse what no row could be worked on with.

        Raises:
            UsageError: an unknown name, a number out of its range.
            InputError: a label out of range.
        """
        if self.dtype not in FORMATS:
            raise UsageError(f"dtype is {self.dtype!r}, expected one of: {', '.join(FORMATS)}")
        if self.samples < 1:
            raise UsageError(f"samples is {self.samples}, expected 1 or more")
        if self.label is not None and self.label_column is not None:
            raise UsageError("label and label_column are both given, expected one of them")
        check_sampling(0, self.seed, self.temperature, self.truncation)
        choose_prior(spec.prior, self.prior)
        if self.label is not None:
            as_labels(self.label, 1, spec)


class Mapper:
    """Encode, reconstruct, score or sample the rows of an Arrow table.

    Pickles as the bundle's path and its sha256: a worker opens the bundle when its first table
    comes, once a process, one thread a run, and refuses one that is not the very same. Safe to
    share between threads.

    A call returns the table without the images that came in, with these columns added: `encode`
    `z` (and `log_var`, of a VAE); `reconstruct` and `sample` `image`; `score`
    `reconstruction_error`, `kl` and `negative_elbo`. A column of the same name is replaced. A row
    that cannot be used has nulls there and one line in `error`, which is null for all others.

    Attributes:
        verb: `encode`, `reconstruct`, `score` or `sample`.
        bundle: the absolute path, or an embedded bundle's name.
        sha256: of the bundle's manifest, which holds those of its other files.
        options: see `Options`.
    """

    def __init__(self, verb: str, bundle: str | Path = DEFAULT_BUNDLE, **options: Any) -> None:
        """Look at the bundle; no graph is loaded yet.

        Args:
            verb: what to do with each row.
            bundle: a folder or `.zip` that every worker finds at the same path, or the name of an
                embedded bundle.
            options: the fields of `Options`.

        Raises:
            UsageError: an unknown verb or option.
            NotFound: no such bundle.
        """
        if verb not in VERBS:
            raise UsageError(f"verb is {verb!r}, expected one of: {', '.join(VERBS)}")
        unknown = sorted(options.keys() - {field.name for field in fields(Options)})
        if unknown:
            raise UsageError(f"{unknown[0]}: no such option of a Mapper")
        opened = open_bundle(bundle)
        self.verb, self.sha256, self.options = verb, opened.sha256, Options(**options)
        # What could be opened and is no path is an embedded bundle's name.
        self.bundle = str(Path(bundle).resolve() if Path(bundle).exists() else bundle)
        self.options.check(opened.manifest.spec)
        self._wrap(opened).close()  # a variant that is not there is found now

    def __call__(self, table: pa.Table) -> pa.Table:
        """Work on one `pyarrow.Table` (or `RecordBatch`) of any number of rows.

        Raises:
            UsageError: a column that is needed is not there.
            InputError: a column of a type that holds no images, labels or row numbers.
            IntegrityError: the bundle here is not the one that the mapper was made with.
        """
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        work, options, model = WORK[self.verb], self.options, self.model()
        faults = Faults(table.num_rows)
        rows = Rows(table.num_rows, self._labels(table, model.spec, faults))
        if work.reads_images:
            column = _column(table, options.image)
            rows.images = read_images(column, model.spec.image, faults)
        if work.draws and not (self.verb == "score" and model.spec.family == "ae"):
            rows.index = read_index(_column(table, options.row), options.row, faults)
        made = work.run(model, rows, faults, options)
        made[ERROR] = faults.to_arrow()
        gone = {*made, options.image} if work.reads_images else {*made}
        kept = table.select([name for name in table.column_names if name not in gone])
        for name, column in made.items():
            kept = kept.append_column(name, column)
        return kept.replace_schema_metadata(None)

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Work on an iterator of record batches, as Spark's `mapInArrow` hands them over."""
        for batch in batches:
            yield from self(batch).combine_chunks().to_batches()

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns that come out for tables of such columns."""
        return self(schema.empty_table()).schema

    def model(self) -> Autoencoder:
        """This process's model, loaded when first asked for.

        Raises:
            IntegrityError: the bundle here is not the one that the mapper was made with.
        """
        # A forked child must not use its parent's sessions.
        key = (os.getpid(), self.bundle, self.sha256, self.options.variant, self.options.device)
        with _loading:
            if key not in _models:
                _models[key] = self._wrap(self._open())
            return _models[key]

    def _open(self) -> Bundle:
        opened = open_bundle(self.bundle)
        if opened.sha256 != self.sha256:
            raise IntegrityError(
                f"{self.bundle}: another bundle (sha256 {opened.sha256[:12]}…) than the one that "
                f"this job began with ({self.sha256[:12]}…). Copy the same bundle to every worker."
            )
        return opened

    def _wrap(self, bundle: Bundle) -> Autoencoder:
        options = self.options
        return Autoencoder(bundle, device=options.device, threads=1, variant=options.variant)

    def _labels(
        self, table: pa.Table, spec: ModelSpec, faults: Faults
    ) -> np.ndarray[Any, Any] | None:
        options = self.options
        if options.label is not None:
            return as_labels(options.label, table.num_rows, spec)
        name = options.label_column or "label"
        if options.label_column is None and (not spec.classes or name not in table.column_names):
            return None
        if not spec.classes:
            raise UsageError(f"this {spec.family} takes no label")
        return read_labels(_column(table, name), spec, faults)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if table.column_names.count(name) != 1:
        known = ", ".join(table.column_names) or "none"
        raise UsageError(f"no column {name!r} in the table, or two of them; it has: {known}")
    return table.column(name)
