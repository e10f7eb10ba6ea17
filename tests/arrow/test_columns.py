"""Image and label columns as engines make them: right arrays, or a reason in the row."""

from __future__ import annotations

import decimal
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

import pyarrow.parquet as pq  # noqa: E402

from tests.runtime.conftest import Run  # noqa: E402
from vae_runtime.arrow import Mapper, columns  # noqa: E402
from vae_runtime.bundle.spec import ImageSpec  # noqa: E402
from vae_runtime.errors import InputError  # noqa: E402

from .tables import fixed, matrix, read  # noqa: E402
from .test_job import Write  # noqa: E402

pytestmark = pytest.mark.torch_free

N, H, W = 9, 4, 5
Column = Any


def forms(images: np.ndarray[Any, Any]) -> dict[str, Column]:
    """The images u8[N, C, H, W] in all forms that a column may have."""
    hwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    flat = images.reshape(len(images), -1)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray
    lists = pa.list_(pa.list_(pa.list_(pa.uint8())))
    fixed_lists = pa.list_(pa.list_(pa.list_(pa.uint8(), W), H), images.shape[1])
    found = {
        "flat": fixed(images),
        "lists C×H×W": pa.array(images.tolist(), lists),
        "lists H×W×C": pa.array(hwc.tolist(), lists),
        "fixed lists": pa.array(images.tolist(), fixed_lists),
        "list view": pa.array(flat.tolist(), pa.list_view(pa.uint8())),
        "large list view": pa.array(flat.tolist(), pa.large_list_view(pa.int32())),
        "float16": pa.array(list((flat / 255).astype(np.float16)), pa.list_(pa.float16())),
        "float64": pa.array((flat / 255).tolist()),
        "bytes": pa.array([row.tobytes() for row in flat], pa.binary(flat.shape[1])),
        "sliced bytes": pa.array([b"x" * flat.shape[1], *(row.tobytes() for row in flat)],
                                 pa.binary(flat.shape[1]))[1:],
        "tensor C×H×W": tensor(images),
        "tensor H×W×C": tensor(hwc),
        "tensor, strides of H×W×C": tensor(hwc.transpose(0, 3, 1, 2)),
        "tensor, Fortran strides": tensor(
            np.ascontiguousarray(images.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)),
        "dictionary": pa.DictionaryArray.from_arrays(
            pa.array(range(len(images))), pa.array([row.tobytes() for row in flat],
                                                   pa.binary(flat.shape[1]))),
        "several shapes": pa.array(
            [{"data": row.ravel().tolist(), "shape": list(row.shape)} for row in hwc],
            pa.struct({"data": pa.list_(pa.uint8()), "shape": pa.list_(pa.int64())})),
    }  # fmt: skip
    if images.shape[1] == 1:
        plane = images[:, 0]
        found |= {
            "lists H×W": pa.array(plane.tolist(), pa.list_(pa.list_(pa.int64()))),
            "tensor H×W": tensor(np.ascontiguousarray(plane)),
            "tensor H×W, Fortran": tensor(
                np.ascontiguousarray(plane.transpose(0, 2, 1)).transpose(0, 2, 1)),
        }  # fmt: skip
    mode = {1: "L", 3: "RGB"}[images.shape[1]]
    found["files"] = pa.array([png(row, mode) for row in images], pa.binary_view())
    return found


def png(image: np.ndarray[Any, Any], mode: str) -> bytes:
    pixels = image[0] if mode == "L" else image.transpose(1, 2, 0)
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "PNG")
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("channels", [1, 3])
def test_every_form_gives_the_same_pixels(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (N, channels, H, W), np.uint8)
    spec = ImageSpec(channels, H, W)
    for form, column in forms(images).items():
        errors = columns.RowErrors(N)
        found = columns.read_images(column, spec, errors)
        assert not errors.reasons, form
        if found.dtype == np.float32:
            assert np.array_equal(found, (images / 255).astype(np.float32)), form
        else:
            assert np.array_equal(found, images), form
        for start, stop in ((0, 0), (4, 7)):  # slices and no rows
            part = columns.read_images(column[start:stop], spec, columns.RowErrors(stop - start))
            assert part.shape == (stop - start, channels, H, W), form
            assert np.array_equal(part, found[start:stop]), form


def test_a_tensor_type_that_is_not_registered_is_in_the_field() -> None:
    """A process without Ray reads its tensors as lists, with the shape in the field's metadata."""
    images = np.random.default_rng(0).integers(0, 256, (N, 3, H, W), np.uint8)
    hwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    for told in ([H, W, 3], {"shape": [H, W, 3]}, {"shape": [3, H, W], "permutation": [1, 2, 0]}):
        stored = images if isinstance(told, dict) and "permutation" in told else hwc
        metadata = {"ARROW:extension:name": "ray.data.arrow_tensor_v2",
                    "ARROW:extension:metadata": json.dumps(told)}  # fmt: skip
        field = pa.field("image", fixed(stored).type, metadata=metadata)
        found = columns.read_images(fixed(stored), ImageSpec(3, H, W), columns.RowErrors(N), field)
        assert np.array_equal(found, images), told


def test_booleans_and_decimals_are_pixels() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (N, H * W)).astype(bool)
    spec = ImageSpec(1, H, W)
    found = columns.read_images(pa.array(bits.tolist()), spec, columns.RowErrors(N))
    assert np.array_equal(found.reshape(N, -1), bits * np.uint8(255))
    decimals = pa.array([[decimal.Decimal("0.25")] * (H * W)])
    found = columns.read_images(decimals, spec, columns.RowErrors(1))
    assert (found.dtype, found.tolist()) == (np.float32, [[[[0.25] * W] * H]])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 4, 4), np.uint8)),
         "image: shape 4×4, expected 1×4×5 or 4×5×1 or 20 or 4×5"),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 5, 4), np.uint8)),
         "image: shape 5×4, expected"),
        (pa.array([[[[[1]]]]]), "image: column type list<item: list<item: list<item: list"),
        (pa.array([["a"]]), "image: column type list<item: string>, expected numbers as lists or"),
        (pa.array([{"x": 1}]), "image: column type struct<x: int64>, expected"),
    ],
)  # fmt: skip
def test_a_column_that_fits_no_form_is_refused(column: Column, message: str) -> None:
    with pytest.raises(InputError) as raised:
        columns.read_images(column, ImageSpec(1, H, W), columns.RowErrors(len(column)))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (None, "image: missing"),
        ([[1] * W] * (H - 1), "image: a list of 3, expected 4×5"),
        ([[1] * W, [1] * W, [1] * (W + 1), [1] * W], "image: a list of 6, expected 4×5"),
        ([[1] * W, None, [1] * W, [1] * W], "image: missing"),
        ([[1] * W, [1] * W, [1, 1, 1, 1, None], [1] * W], "image: a number is missing"),
        ([[1] * W, [1] * W, [1, 1, 1, 1, 300], [1] * W],
         "image: numbers from 1 to 300, expected 0 to 255"),
    ],
)  # fmt: skip
def test_a_bad_nested_list_affects_only_its_row(rows: Any, reason: str) -> None:
    errors = columns.RowErrors(3)
    good = [[7] * W] * H
    found = columns.read_images(pa.array([good, rows, good]), ImageSpec(1, H, W), errors)
    assert errors.reasons == {1: reason}
    assert found[[0, 2]].tolist() == [[good]] * 2


def test_a_tensor_of_another_shape_affects_only_its_row() -> None:
    rows = [{"data": [7] * 20, "shape": [4, 5, 1]}, {"data": [7] * 15, "shape": [3, 5, 1]}, None]
    errors = columns.RowErrors(3)
    found = columns.read_images(pa.array(rows), ImageSpec(1, H, W), errors)
    assert errors.reasons == {1: "image: shape 3×5×1, expected 4×5×1", 2: "image: missing"}
    assert found[:, 0, 0, 0].tolist() == [7, 0, 0]


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([3.0, 1.0, 0.0]),
        pa.array([3, 1, 0], pa.float16()),
        pa.array([decimal.Decimal(3), decimal.Decimal(1), decimal.Decimal(0)]),
        pa.array([decimal.Decimal(3), decimal.Decimal(1), decimal.Decimal(0)], pa.decimal128(9, 2)),
        pa.array([3, 1, 0], pa.uint64()),
        pa.array(["3", "1", "0"], pa.string_view()),
        pa.RunEndEncodedArray.from_arrays([1, 2, 3], [3, 1, 0]),
    ],
)
def test_labels_may_have_any_type_that_holds_whole_numbers(
    labels: Column, cvae_path: Path, table: Any
) -> None:
    rows = table.slice(0, 3).select(["image"])
    encode = Mapper("encode", cvae_path)
    expected = encode(rows.append_column("label", pa.array([3, 1, 0])))
    found = encode(rows.append_column("label", labels))
    assert found["error"].null_count == 3
    assert np.array_equal(matrix(found, "z"), matrix(expected, "z"))


def test_labels_that_are_not_whole_and_booleans(cvae_path: Path, table: Any) -> None:
    rows = table.slice(0, 4).select(["image"])
    encode = Mapper("encode", cvae_path)
    found = encode(rows.append_column("label", pa.array([1.0, 1.5, float("nan"), None])))
    assert found["error"].to_pylist() == [
        None, "label: 1.5, expected a whole number", "label: nan, expected a whole number",
        "label: missing",
    ]  # fmt: skip
    found = encode(rows.append_column("label", pa.array([True, False, True, False])))
    expected = encode(rows.append_column("label", pa.array([1, 0, 1, 0])))
    assert np.array_equal(matrix(found, "z"), matrix(expected, "z"))


def test_tensors_go_through_a_job(run: Run, parquet: Write, table: Any, cvae_path: Path) -> None:
    """Tensor columns are read, and others are kept; float64 pixels are said to be rounded."""
    images = matrix(table, "image").reshape(-1, 8, 8)
    fortran = np.ascontiguousarray(images.transpose(0, 2, 1)).transpose(0, 2, 1)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray
    rows = table.set_column(1, "image", tensor(fortran))
    rows = rows.append_column("mask", tensor(fortran))
    assert run("batch", "encode", parquet(rows), "out", "-b", cvae_path).code == 0
    done = pq.read_table("out")
    assert np.array_equal(matrix(done, "z"), matrix(Mapper("encode", cvae_path)(table), "z"))
    assert np.array_equal(done["mask"].combine_chunks().to_numpy_ndarray(), images)
    rows = table.set_column(1, "image", tensor(images / 255))
    done = run("batch", "encode", parquet(rows), "double", "-b", cvae_path)
    assert done.err.splitlines()[0] == (
        "the column image is float64; its numbers are rounded to float32"
    )
    assert np.array_equal(matrix(read(Path("double")), "z"), matrix(pq.read_table("out"), "z"))
