"""Parquet files as a data set: what is read and when, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.datasets.dataset import LazyImages
from vae_runtime.errors import InputError, NotFound

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

import pyarrow.parquet as pq  # noqa: E402

from vae_runtime.datasets import parquet as stored  # noqa: E402
from vae_runtime.datasets.parquet import write_dataset  # noqa: E402

pytestmark = pytest.mark.torch_free

Column = Any


def made(n: int = 100, shape: tuple[int, int, int] = (1, 4, 4)) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, *shape), np.uint8)
    return Dataset("made", images, np.arange(n) % 12, tuple(str(k) for k in range(12)))


def write(path: Path, image: Column, group: int = 10, **columns: Column) -> str:
    pq.write_table(pa.table({"image": image, **columns}), path, row_group_size=group)
    return str(path)


def lists(images: Any) -> Column:
    return pa.array([row.tolist() for row in images.reshape(len(images), -1)], pa.list_(pa.uint8()))


def png(image: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "png")
    return out.getvalue()


def test_a_data_set_survives_a_round_trip_through_parquet(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    for split in ("train", "test"):
        write_dataset(load_dataset("digits", split), tmp_path / f"{split}-0.parquet")
    for split in ("train", "test"):
        one, other = load_dataset("digits", split), load_dataset(tmp_path, split)
        assert isinstance(other.images, np.ndarray)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.classes == other.classes


def test_classes_named_by_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    data = made()
    write_dataset(data, tmp_path / "rows.parquet")
    found = load_dataset(tmp_path / "rows.parquet")
    assert found.classes == data.classes  # 10 after 9
    np.testing.assert_array_equal(found.labels, data.labels)
    names = ["pear", "apple", "10", "fig"]
    path = write(tmp_path / "names.parquet", lists(data.images[:4]), label=pa.array(names))
    found = load_dataset(path)
    assert found.classes == ("10", "apple", "fig", "pear")
    assert found.labels is not None
    assert [found.classes[k] for k in found.labels] == names
    odd = ["10", "9", "²", "9"]  # Python considers the third a digit, but int() does not
    column = pa.array(odd, pa.large_string())
    found = load_dataset(write(tmp_path / "odd.parquet", lists(data.images[:4]), label=column))
    assert found.classes == ("10", "9", "²")
    assert found.labels is not None
    assert [found.classes[k] for k in found.labels] == odd


def test_only_the_row_groups_that_are_used_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made()
    source = write(tmp_path / "a.parquet", lists(data.images[:60]))
    write(tmp_path / "b.parquet", lists(data.images[60:]), group=7)
    seen: list[tuple[str, int]] = []
    column = stored._column

    def recorded(file: str, group: int, *rest: Any) -> Any:
        seen.append((Path(file).name, group))
        return column(file, group, *rest)

    read_batches = stored.read_batches

    def batches(place: str, file: str, **options: Any) -> Any:
        seen.append((file, *options["groups"]))
        return read_batches(place, file, **options)

    monkeypatch.setattr(stored, "_column", recorded)
    monkeypatch.setattr(stored, "read_batches", batches)
    found = load_dataset(tmp_path, lazy=True)
    assert seen == [("a.parquet", 0)]  # one image tells the shape
    seen.clear()
    part = found.take(slice(35, 45)).take(np.array([9, 0, 3]))
    assert isinstance(part.images, LazyImages)
    assert (part.images.shape, part.images.size, part.images.ndim) == ((3, 1, 4, 4), 48, 4)
    assert seen == []
    np.testing.assert_array_equal(part.read().images, data.images[[44, 35, 38]])
    assert seen == [("a.parquet", 3), ("a.parquet", 4)]
    np.testing.assert_array_equal(found.images[np.array([99, 60, 99])], data.images[[99, 60, 99]])
    seen.clear()
    np.testing.assert_array_equal(np.concatenate(list(found.batches(3))), data.images)
    assert len(seen) == 6 + 6  # in their order, each group once
    assert load_dataset(source, lazy=True).image_shape == (1, 4, 4)


def test_images_may_be_floats_files_and_colour(tmp_path: Path) -> None:
    grey, colour = made(5), made(5, (3, 6, 6))
    floats = pa.array([(row.ravel() / 255).astype("f4").tolist() for row in grey.images],
                      pa.list_(pa.float32()))  # fmt: skip
    found = load_dataset(write(tmp_path / "f.parquet", floats))
    np.testing.assert_array_equal(found.images, grey.images)
    found = load_dataset(write(tmp_path / "c.parquet", lists(colour.images)))
    np.testing.assert_array_equal(found.images, colour.images)
    files = [{"bytes": png(row.transpose(1, 2, 0)), "path": None} for row in colour.images]
    found = load_dataset(write(tmp_path / "p.parquet", pa.array(files)))
    np.testing.assert_array_equal(found.images, colour.images)
    oblong = made(5, (1, 6, 4))
    path = write(tmp_path / "o.parquet", lists(oblong.images), label=pa.array(range(5)))
    found = load_dataset(path, size=(6, 4))
    np.testing.assert_array_equal(found.images, oblong.images)
    assert found.classes == ("0", "1", "2", "3", "4")


def forms(images: Any) -> dict[str, Column]:
    """Columns of the same images u8[N, C, H, W], in every form without files."""
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray
    size = images[0].size
    return {
        "tensors C×H×W": tensor(images),
        "tensors H×W×C": tensor(last),
        "nested lists C×H×W": pa.array(images.tolist()),
        "nested lists H×W×C": pa.array(last.tolist()),
        "float64": pa.array((last / 255).tolist()),
        "float16": pa.array((images.reshape(-1, size) / 255).astype("f2").tolist(),
                            pa.list_(pa.float16(), size)),
        "bytes": pa.array([row.tobytes() for row in images], pa.binary(size)),
        "structs": pa.array([{"data": row.ravel().tolist(), "shape": list(row.shape)}
                             for row in images]),
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 6, 5)])
@pytest.mark.parametrize("form", forms(np.zeros((1, 1, 1, 1), np.uint8)))
def test_images_have_the_forms_that_batch_jobs_read(
    tmp_path: Path, form: str, shape: tuple[int, int, int]
) -> None:
    images = made(4, shape).images
    size = {"size": shape[1:]} if form in ("float16", "bytes") else {}  # their shape is unknown
    for labels in (pa.array([3.0, 1.0, 3.0, 0.0]), pa.array([3, 1, 3, 0], pa.decimal128(4, 0))):
        path = write(tmp_path / "rows.parquet", forms(images)[form], label=labels)
        found = load_dataset(path, **size)
        np.testing.assert_array_equal(found.images, images)
        assert found.labels is not None
        assert [found.classes[k] for k in found.labels] == ["3", "1", "3", "0"]


def test_grey_images_may_have_no_axis_of_channels(tmp_path: Path) -> None:
    images = made(4, (1, 6, 5)).images
    columns = (pa.array(images[:, 0].tolist()), pa.array((images[:, 0] > 99).tolist()))
    for column, white in zip(columns, (images, 255 * (images > 99)), strict=True):
        found = load_dataset(write(tmp_path / "rows.parquet", column))
        np.testing.assert_array_equal(found.images, white)
    flat = write(tmp_path / "wide.parquet", pa.array(np.zeros((2, 5, 6, 7), np.uint8).tolist()))
    with pytest.raises(InputError, match="images of shape 5×6×7, expected H×W, H×W×C or C×H×W"):
        load_dataset(flat)


@pytest.mark.parametrize(
    ("columns", "options", "error", "message"),
    [
        ({"image": lists(made(3, (1, 6, 4)).images)}, {}, InputError, "24 numbers, expected sq"),
        ({"image": lists(made(3).images)}, {"size": (4, 5)}, InputError, "expected 4x5 images"),
        ({"image": lists(made(3).images)}, {"mode": "RGB"}, InputError, "16 numbers, expected"),
        ({"pixels": lists(made(3).images)}, {}, InputError, "no column 'image', found pixels"),
        ({"image": pa.array([1, 2])}, {}, InputError, "the first image is int64"),
        ({"image": pa.array([[], [1]])}, {}, InputError, "the first image is list<"),
        ({"image": pa.array([[1] * 16, [1] * 15])}, {}, InputError,
         "row 1 of the data set: image: 15 numbers, expected 16"),
        ({"image": pa.array([[1] * 16, [256] * 16])}, {}, InputError, "row 1 of .*: image: numb"),
        ({"image": pa.array([[1] * 16, None])}, {}, InputError, "row 1 of .*: image: missing"),
        ({"image": pa.array([b"not an image"])}, {}, InputError, "image: "),
        ({"image": lists(made(2).images), "label": pa.array(["a", None])}, {}, InputError,
         "1 missing labels"),
        ({"image": lists(made(2).images), "label": pa.array([0.5, 1])}, {}, InputError,
         "row 0: label: 0.5, expected a whole number"),
        ({"image": lists(made(2).images), "label": pa.array([[1], [2]])}, {}, InputError,
         "label: column type list.*, expected integers or names"),
        ({"image": pa.array([[1] * 16])[:0]}, {}, InputError, "no rows"),
    ],
)  # fmt: skip
def test_malformed_data_is_refused(
    tmp_path: Path, columns: dict[str, Column], options: Any, error: Any, message: str
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(error, match=message):
        load_dataset(path, **options)


def test_encoded_images_of_any_size_are_resized(tmp_path: Path) -> None:
    files = [png(made(1, (1, side, side)).images[0, 0]) for side in (5, 8, 20)]
    path = write(tmp_path / "rows.parquet", pa.array(files), label=pa.array([-1, 1, 1]))
    data = load_dataset(path, size=(6, 7))
    assert (data.images.shape, data.classes) == ((3, 1, 6, 7), ("-1", "1"))
    with pytest.raises(InputError, match="row 1 of the data set: image: 8×8 pixels, expected 5×5"):
        load_dataset(path)


def test_grey_first_images_do_not_make_colour_images_grey(tmp_path: Path) -> None:
    colour = made(1, (3, 6, 6)).images[0]
    files = [png(made(1, (1, 6, 6)).images[0, 0]), png(colour.transpose(1, 2, 0))]
    data = load_dataset(write(tmp_path / "rows.parquet", pa.array(files)))
    np.testing.assert_array_equal(data.images[1], colour)


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", lists(made(3).images))
    for source in (path, tmp_path):
        with pytest.raises(NotFound, match=r"no Parquet file named test\*\.parquet"):
            load_dataset(source, "test")
    with pytest.raises(NotFound, match="no Parquet file"):
        load_dataset(str(tmp_path / "*.no.parquet"))
    write(tmp_path / "train-1.parquet", lists(made(2).images))
    assert len(load_dataset(tmp_path)) == 2  # now only files named after a split count


def test_files_with_other_columns_and_damaged_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", lists(made(3).images), label=pa.array([0, 1, 2]))
    second = write(tmp_path / "b.parquet", lists(made(3).images))
    with pytest.raises(InputError, match=r"b\.parquet: no column 'label'"):
        load_dataset(tmp_path)
    Path(second).write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match=r"b\.parquet: not a readable Parquet file"):
        load_dataset(tmp_path)
    write_dataset(made(3), tmp_path / "c.parquet")  # with checksums
    raw = bytearray((tmp_path / "c.parquet").read_bytes())
    raw[60] ^= 255
    (tmp_path / "c.parquet").write_bytes(raw)
    with pytest.raises(InputError, match=r"c\.parquet: row group 0 is damaged"):
        load_dataset(tmp_path / "c.parquet")


def test_the_shape_of_images_is_found_without_reading_a_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row group may hold gigabytes: opening 60,000 digits took 790 MB, and takes 290."""
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(3, 64)
    pq.write_table(pa.table({"image": pa.array(pixels.tolist())}), tmp_path / "a.parquet")
    monkeypatch.delattr(pq.ParquetFile, "read_row_group")
    data = load_dataset(tmp_path / "a.parquet")
    assert data.image_shape == (1, 8, 8)
    assert np.array_equal(np.asarray(data.images).reshape(3, 64), pixels)
