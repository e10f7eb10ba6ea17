"""IDX files, the format of MNIST: read exactly, or refused before any allocation."""

from __future__ import annotations

import gzip
import struct
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vae_runtime.datasets import load_dataset
from vae_runtime.datasets.dataset import LazyImages
from vae_runtime.datasets.idx import find_idx, read_idx
from vae_runtime.errors import FileError, InputError, LimitError, NotFound

pytestmark = pytest.mark.torch_free

Bytes = NDArray[np.uint8]


def idx(array: Bytes, *, shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    """An IDX file of `array`, whose header may state another shape."""
    told = array.shape if shape is None else shape
    return struct.pack(f">BBBB{len(told)}I", 0, 0, kind, len(told), *told) + array.tobytes()


def pictures(n: int = 6, *shape: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, (n, *(shape or (5, 4))), np.uint8)


def folder(
    path: Path,
    images: Bytes,
    labels: Bytes | None = None,
    *,
    split: str = "train",
    zipped: bool = True,
) -> Path:
    path.mkdir(exist_ok=True)
    parts = {f"{split}-images-idx{images.ndim}-ubyte": images}
    if labels is not None:
        parts[f"{split}-labels-idx1-ubyte"] = labels
    for name, array in parts.items():
        if zipped:
            (path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (path / name).write_bytes(idx(array))
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 5, 3), (2, 3, 4, 3)])
def test_a_file_is_read_exactly(shape: tuple[int, ...], zipped: bool, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "any-name"
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)
    found[:] = 0  # and is writable


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ((6, 5, 5), "declares 150 bytes of data, the file has only 120"),
        ((6, 5, 3), "declares 90 bytes of data, the file has more than that"),
        ((1000, 1000, 1000), "declares 1000000000 bytes of data, the file has only 120"),
        ((0, 5, 4), "declares 0 bytes of data, the file has more"),
    ],
)
def test_a_header_that_contradicts_the_data_is_refused(
    told: tuple[int, ...], seen: str, zipped: bool, tmp_path: Path
) -> None:
    path, raw = tmp_path / "file", idx(pictures(), shape=told)
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(InputError, match=rf"file: header {seen}"):
        read_idx(path)


def test_a_header_that_exceeds_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(idx(pictures(), shape=(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1)))
    with pytest.raises(LimitError, match="limit 4294967296"):
        read_idx(path)
    path.write_bytes(idx(pictures()))
    with pytest.raises(LimitError, match="declares 120 bytes, limit 119"):
        read_idx(path, max_bytes=119)
    assert read_idx(path, max_bytes=120).shape == (6, 5, 4)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x03",
        b"\0\0\x08\x03\0\0\0\x01\0\0\0\x01\0\0\0",
        b"\0\0\x08\x00",
        b"\0\0\x08\x05" + bytes(20),
        b"\0\x01\x08\x01\0\0\0\x00",
        b"\0\0\x0d\x01\0\0\0\x01" + bytes(4),  # floats
        b"\0\0\x0b\x01\0\0\0\x01" + bytes(2),  # shorts
        b"\x89PNG\r\n\x1a\n",
        b"hello, this is text",
    ],
)
def test_other_types_of_idx_are_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"file: .*IDX header"):
        read_idx(path)


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    head=st.binary(min_size=4, max_size=4) | st.integers(0, 5).map(lambda n: bytes([0, 0, 8, n])),
    dimensions=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 4), max_size=5),
    body=st.binary(max_size=70),
    zipped=st.booleans(),
)
def test_any_header_is_read_exactly_or_refused(
    head: bytes, dimensions: list[int], body: bytes, zipped: bool, tmp_path: Path
) -> None:
    raw = head + struct.pack(f">{len(dimensions)}I", *dimensions) + body
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    try:
        found = read_idx(path)
    except (InputError, LimitError):
        return
    count = raw[3]
    assert raw[:3] == b"\0\0\x08"
    assert found.shape == struct.unpack(f">{count}I", raw[4 : 4 + 4 * count])
    assert found.tobytes() == raw[4 + 4 * count :]
    assert found.size == prod(found.shape)


def test_a_truncated_gzip_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    raw = gzip.compress(idx(pictures(30, 9, 9)))
    path = tmp_path / "file.gz"
    for length in range(2, len(raw), 37):
        path.write_bytes(raw[:length])
        with pytest.raises(InputError):
            read_idx(path)


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    raw = bytearray(gzip.compress(idx(pictures(30, 9, 9))))
    path = tmp_path / "file.gz"
    for offset in range(10, len(raw), 29):
        raw[offset] ^= 0x55
        path.write_bytes(raw)
        with pytest.raises((InputError, LimitError)):
            read_idx(path)
        raw[offset] ^= 0x55


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="none: no such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(FileError, match="directory"):
        read_idx(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder_is_read_with_its_labels(zipped: bool, tmp_path: Path) -> None:
    images, labels = pictures(6), np.array([0, 3, 1, 1, 0, 2], np.uint8)
    path = folder(tmp_path / "squares", images, labels, zipped=zipped)
    assert find_idx(path)
    data = load_dataset(path)
    assert data.name == "squares"
    assert data.image_shape == (1, 5, 4)
    assert np.array_equal(data.images[:, 0], images)
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == labels.tolist()
    assert data.classes == ("0", "1", "2", "3")


def test_four_dimensions_are_images_of_channels(tmp_path: Path) -> None:
    images = pictures(3, 5, 4, 3)
    data = load_dataset(folder(tmp_path, images))
    assert data.image_shape == (3, 5, 4)
    assert np.array_equal(data.images, images.transpose(0, 3, 1, 2))
    assert data.images.flags.c_contiguous


def test_each_split_has_its_own_files(tmp_path: Path) -> None:
    folder(tmp_path, pictures(6), split="train")
    with pytest.raises(NotFound, match="no t10k-images"):
        load_dataset(tmp_path, "test")
    folder(tmp_path, pictures(2), split="t10k")
    assert len(load_dataset(tmp_path, "test")) == 2
    assert len(load_dataset(tmp_path)) == 6


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 3)])
def test_an_uncompressed_file_is_mapped_and_not_read(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    images = pictures(*shape)
    where = folder(tmp_path / "idx", images, np.arange(6, dtype=np.uint8) % 2, zipped=False)
    eager, lazy = load_dataset(where), load_dataset(where, lazy=True)
    assert isinstance(lazy.images, LazyImages)
    assert lazy.image_shape == eager.image_shape
    np.testing.assert_array_equal(lazy.labels, eager.labels)
    part = lazy.take(np.array([4, 1]))
    (file,) = where.glob("*images*")
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 255  # of the last image: the mapped array sees the change
    file.write_bytes(raw)
    np.testing.assert_array_equal(part.read().images, eager.images[[4, 1]])
    assert (np.asarray(lazy.images) != eager.images).sum() == 1
    zipped = load_dataset(folder(tmp_path / "gz", images), lazy=True)
    assert isinstance(zipped.images, np.ndarray)
    assert isinstance(load_dataset(where).images, np.ndarray)  # unless it is requested


@pytest.mark.parametrize(("told", "stored"), [(5, 6), (7, 6), (0, 6), (0, 0)])
def test_an_uncompressed_file_with_a_wrong_header_is_not_mapped(
    told: int, stored: int, tmp_path: Path
) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pictures(stored), shape=(told, 5, 4)))
    seen = f"header declares {20 * told} bytes of data, found {20 * stored}$"
    with pytest.raises(InputError, match=f"idx3-ubyte: {seen}"):
        load_dataset(tmp_path, lazy=True)


def test_labels_may_be_absent(tmp_path: Path) -> None:
    data = load_dataset(folder(tmp_path, pictures()))
    assert data.labels is None
    assert data.classes == ()


@pytest.mark.parametrize("labels", [np.zeros(5, np.uint8), np.zeros((6, 1), np.uint8)])
def test_labels_that_do_not_fit_the_images_are_refused(labels: Bytes, tmp_path: Path) -> None:
    folder(tmp_path, pictures(6))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(InputError, match=r"labels-idx1-ubyte: labels \[[56].* for 6 images"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("shape", [(24,), (6, 4)])
def test_images_of_other_dimensions_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.zeros(shape, np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    with pytest.raises(InputError, match=f"{len(shape)} dimensions, expected 3"):
        load_dataset(tmp_path)


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one image"):
        load_dataset(folder(tmp_path, np.zeros((0, 5, 4), np.uint8)))


def test_names_with_a_dot_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(pictures(4)))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(np.arange(4, dtype=np.uint8)))
    assert find_idx(tmp_path)
    data = load_dataset(tmp_path)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3]


def test_a_partial_download_is_not_read(tmp_path: Path) -> None:
    folder(tmp_path, pictures(4))
    (tmp_path / "train-images-idx3-ubyte.gz.part").write_bytes(b"half")
    (tmp_path / "train-labels-idx1-ubyte.bak").write_bytes(b"old")
    assert len(load_dataset(tmp_path)) == 4


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder(tmp_path / "squares", pictures()))
    assert load_dataset(".").name == "squares"


def test_other_folders_are_not_idx_folders(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    assert find_idx(tmp_path) is None


def test_real_mnist_is_read_whole(mnist_folder: Path) -> None:
    test = load_dataset(mnist_folder, "test")
    assert (len(test), test.image_shape, test.classes) == (10_000, (1, 28, 28), tuple("0123456789"))
    assert test.labels is not None
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # The published mean and standard deviation of the test pixels.
    assert test.images.mean() / 255 == pytest.approx(0.13251, abs=1e-5)
    assert test.images.std() / 255 == pytest.approx(0.31048, abs=1e-5)
