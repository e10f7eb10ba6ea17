"""`Mapper`: a picklable function from Arrow table to Arrow table that any engine can map."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..arrays import check_whole
from ..autoencoder import Autoencoder
from ..bundle.reader import Bundle, open_bundle
from ..errors import IntegrityError, UsageError
from ..graph_set import DEFAULT_VARIANT
from ..labels import as_labels
from ..loading import DEFAULT_BUNDLE
from ..metrics import Scores
from ..prior import choose_prior
from ..rng import check_sampling
from .columns import RowErrors, read_images, read_integers, read_labels, to_lists, to_png

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ModelSpec

DTYPES = ("uint8", "float32", "png")
ERROR = "error"  # the column of reasons
DAMAGED = b"vae_onnx_error"  # in a table's metadata: why none of its rows could be read

_models: dict[tuple[Any, ...], Autoencoder] = {}
_loading = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a `Mapper`.

    Attributes:
        image: column of images.
        label_column: column of labels; None means `label` if the table has it.
        label: one label for all rows, instead of a column.
        row: column of row numbers within the whole job; with the seed, they determine the random
            numbers of `sample` and `score`.
        dtype: type of the resulting images: `uint8`, `float32` or `png` (files as bytes).
        fixed: produce fixed-size lists; Spark needs False.
        seed: seed for `sample` and `score`.
        samples: posterior samples per image for the negative ELBO of `score`.
        prior: prior for `sample`: `fitted` or `normal`.
        temperature: factor for the standard deviation of sampled latents.
        truncation: bound in standard deviations; noise values outside ± this bound are redrawn.
        variant: precision of the graphs; the bundle must have graphs of that precision.
        device: see `load`.
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
        """Validate the options for a model.

        Raises:
            UsageError: a name is unknown, or a number is out of range.
            InputError: a label is out of range.
        """
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype is {self.dtype!r}, expected one of: {', '.join(DTYPES)}")
        check_whole("samples", self.samples, 1)
        if self.label is not None and self.label_column is not None:
            raise UsageError("label and label_column are both given, expected at most one of them")
        check_sampling(0, self.seed, self.temperature, self.truncation)
        choose_prior(spec.prior, self.prior)
        if self.label is not None:
            as_labels(self.label, 1, spec)

    def label_name(self, spec: ModelSpec, names: Iterable[str]) -> str | None:
        """Return the column of labels among `names`, or None to run without labels.

        Raises:
            UsageError: a column is chosen, but the model takes no label.
        """
        if not spec.classes and self.label_column is not None:
            raise UsageError(f"this {spec.family} takes no label")
        found = self.label is None and spec.classes and "label" in names
        return self.label_column or ("label" if found else None)


class _Rows:
    """The rows of one table as arrays, in which bad rows are zeros.

    Attributes:
        errors: the bad rows and their reasons.
        labels: i64[N], or None to run without labels.
    """

    def __init__(self, table: pa.Table, spec: ModelSpec, options: Options) -> None:
        self._table, self._spec, self._options = table, spec, options
        self.errors = RowErrors(table.num_rows)
        if reason := (table.schema.metadata or {}).get(DAMAGED):
            self.errors.add(np.ones(table.num_rows, bool), reason.decode())
        self.labels = self._read_labels()

    def images(self) -> NDArray[Any]:
        """Read the images as u8 or f32 [N, C, H, W]."""
        name = self._options.image
        column = _column(self._table, name)
        return read_images(column, self._spec.image, self.errors, self._table.field(name))

    def numbers(self) -> NDArray[np.int64]:
        """Read the row numbers i64[N]."""
        name, highest = self._options.row, (2**63 - 1) // self._options.samples
        numbers = read_integers(_column(self._table, name), name, self.errors)
        self.errors.add(numbers < 0, lambda i: f"{name}: {numbers[i]}, expected 0 or more")
        self.errors.add(numbers > highest, f"{name}: expected at most {highest}")
        return np.where((numbers < 0) | (numbers > highest), 0, numbers)

    def _read_labels(self) -> NDArray[np.int64] | None:
        spec, options, table = self._spec, self._options, self._table
        if options.label is not None:
            return as_labels(options.label, table.num_rows, spec)
        name = options.label_name(spec, table.column_names)
        return None if name is None else read_labels(_column(table, name), spec, self.errors)


# Each verb calls the library and returns the columns that it adds.


def _encode(model: Autoencoder, rows: _Rows, options: Options) -> dict[str, Any]:
    z, log_var = model.posterior(rows.images(), rows.labels)
    arrays = {"z": z} if log_var is None else {"z": z, "log_var": log_var}
    return {
        name: to_lists(array, rows.errors, fixed=options.fixed) for name, array in arrays.items()
    }


def _reconstruct(model: Autoencoder, rows: _Rows, options: Options) -> dict[str, Any]:
    images = model.reconstruct(rows.images(), rows.labels, dtype=_pixel_dtype(options))
    return {"image": _to_images(images, rows.errors, options)}


def _score(model: Autoencoder, rows: _Rows, options: Options) -> dict[str, Any]:
    images = rows.images()
    # A plain autoencoder draws no samples, so it needs no row numbers.
    start = 0 if model.spec.family == "ae" else rows.numbers()
    scores = model.score(
        images, rows.labels, samples=options.samples, seed=options.seed, start=start
    )
    bad = rows.errors.mask()
    return {name: pa.array(row, mask=bad) for name, row in zip(Scores._fields, scores, strict=True)}


def _sample(model: Autoencoder, rows: _Rows, options: Options) -> dict[str, Any]:
    z = model.sample_latents(
        rows.errors.n,
        rows.labels,
        options.seed,
        start=rows.numbers(),
        prior=options.prior,
        temperature=options.temperature,
        truncation=options.truncation,
    )
    images = model.decode(z, rows.labels, dtype=_pixel_dtype(options))
    return {"image": _to_images(images, rows.errors, options)}


_VERBS: dict[str, Callable[[Autoencoder, _Rows, Options], dict[str, Any]]] = {
    "encode": _encode,
    "reconstruct": _reconstruct,
    "score": _score,
    "sample": _sample,
}


def _pixel_dtype(options: Options) -> str:
    return "uint8" if options.dtype == "png" else options.dtype


def _to_images(images: NDArray[Any], errors: RowErrors, options: Options) -> Any:
    if options.dtype == "png":
        return to_png(images, errors)
    return to_lists(images, errors, fixed=options.fixed)


class Mapper:
    """Encode, reconstruct, score or sample the rows of an Arrow table.

    A call returns the table without its images. It adds the columns below, and replaces any columns
    that have the same names.

    - `encode`: `z` and, for a VAE, `log_var`, lists of float32
    - `reconstruct` and `sample`: `image`
    - `score`: `mse` (squared error per pixel), `kl` and `negative_elbo` (nats)
    - all verbs: `error`, null for a good row; for a bad row, the reason, with null results

    A pickled mapper holds the bundle's path and checksum, and the options. Each process opens the
    bundle once, for its first table, and refuses it if its checksum has changed. Threads can share
    a mapper.

    Attributes:
        verb: `encode`, `reconstruct`, `score` or `sample`.
        bundle: an absolute path, or the name of an embedded bundle.
        sha256: checksum of the bundle's manifest, which holds the checksums of its other files.
        options: see `Options`.
    """

    def __init__(self, verb: str, bundle: str | Path = DEFAULT_BUNDLE, **options: Any) -> None:
        """Open the bundle and validate the options.

        Args:
            verb: what to do with each row.
            bundle: a folder or `.zip` that every worker finds at the same path, or the name of an
                embedded bundle.
            options: the fields of `Options`.

        Raises:
            UsageError: the verb or an option is unknown.
            NotFound: the bundle does not exist.
        """
        if verb not in _VERBS:
            raise UsageError(f"verb is {verb!r}, expected one of: {', '.join(_VERBS)}")
        known = [field.name for field in fields(Options)]
        for name in options:
            if name not in known:
                raise UsageError(f"option {name!r}, expected one of: {', '.join(known)}")
        opened = open_bundle(bundle)
        self.verb, self.sha256, self.options = verb, opened.sha256, Options(**options)
        # A bundle that opens without being a path is an embedded one.
        self.bundle = str(Path(bundle).resolve() if Path(bundle).exists() else bundle)
        self.options.check(opened.manifest.spec)
        self._load(opened).close()  # report a missing variant now, not in a worker

    def __call__(self, table: pa.Table) -> pa.Table:
        """Map one `pyarrow.Table` or `RecordBatch` with any number of rows.

        Raises:
            UsageError: a column is missing.
            InputError: a column's type cannot hold images, labels or row numbers.
            IntegrityError: the bundle has changed since the mapper was made.
        """
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        model = self.model()
        rows = _Rows(table, model.spec, self.options)
        made = _VERBS[self.verb](model, rows, self.options)
        made[ERROR] = rows.errors.to_arrow()
        dropped = {*made} if self.verb == "sample" else {*made, self.options.image}
        result = table.select([name for name in table.column_names if name not in dropped])
        for name, column in made.items():
            result = result.append_column(name, column)
        return result.replace_schema_metadata(None)

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Map an iterator of record batches, as Spark's `mapInArrow` passes them."""
        for batch in batches:
            yield from self(batch).combine_chunks().to_batches()

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of the result for tables with this schema."""
        return self(pa.Table.from_batches([], schema)).schema

    def columns(self, names: Sequence[str], kept: Sequence[str] | None = None) -> list[str]:
        """Return those of a table's columns that the mapper reads, or that the result keeps.

        Args:
            names: the table's columns.
            kept: the columns to keep; None means all.

        Raises:
            UsageError: the table lacks one of `kept`.
        """
        options = self.options
        for name in kept or ():
            if name not in names:
                raise UsageError(f"no column {name!r}. The columns are: {', '.join(names)}")
        read = {options.row, options.label_name(self.model().spec, names)}
        if self.verb != "sample":
            read.add(options.image)
            return [name for name in names if kept is None or name in read or name in kept]
        wanted = set(names if kept is None else kept) - {"image"}
        return [name for name in names if name in wanted or name in read]

    def needs_row_numbers(self) -> bool:
        """Return whether results depend on random numbers, and thus on row numbers."""
        family = self.model().spec.family
        return self.verb == "sample" or (self.verb == "score" and family != "ae")

    def model(self) -> Autoencoder:
        """Return this process's model, which is loaded on the first call.

        Raises:
            IntegrityError: the bundle has changed since the mapper was made.
        """
        # The key includes the process id: a forked child must not use its parent's sessions.
        key = (os.getpid(), self.bundle, self.sha256, self.options.variant, self.options.device)
        with _loading:
            if key not in _models:
                opened = open_bundle(self.bundle)
                if opened.sha256 != self.sha256:
                    raise IntegrityError(
                        f"{self.bundle}: sha256 {opened.sha256[:12]}…, expected "
                        f"{self.sha256[:12]}…, the bundle that this job began with. "
                        "Copy the same bundle to every worker."
                    )
                _models[key] = self._load(opened)
            return _models[key]

    def _load(self, bundle: Bundle) -> Autoencoder:
        options = self.options
        return Autoencoder(bundle, device=options.device, threads=1, variant=options.variant)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    count = table.column_names.count(name)
    if count != 1:
        found = f"{count} columns" if count else "no column"
        known = ", ".join(table.column_names) or "none"
        raise UsageError(f"{found} {name!r} in the table, expected one. Its columns: {known}")
    return table.column(name)
