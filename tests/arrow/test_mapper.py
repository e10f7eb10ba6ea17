"""`Mapper` gives the same numbers as the library for every form of a column, and keeps bad rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

from vae_runtime.arrow import Mapper  # noqa: E402
from vae_runtime.images import encode_image  # noqa: E402

from .tables import fixed, in_parts, matrix  # noqa: E402

pytestmark = pytest.mark.torch_free

VERBS = ("encode", "reconstruct", "score", "sample")
N = 300


@pytest.mark.parametrize("verb", VERBS)
def test_results_have_the_same_bits_as_one_call_of_the_library(verb: str, any_bundle: Path) -> None:
    with vae.load(any_bundle, device="cpu") as model:
        labels = np.arange(N) % 10 if model.spec.classes else None
        images = model.sample(N, labels, seed=1)
        found: dict[str, Any] = {}
        if verb == "encode":
            found["z"], log_var = model.posterior(images, labels)
            found |= {} if log_var is None else {"log_var": log_var}
        elif verb == "score":
            scores = model.score(images, labels, samples=2, seed=9)
            found = dict(zip(scores._fields, scores, strict=True))
        elif verb == "reconstruct":
            found["image"] = model.reconstruct(images, labels)
        else:
            found["image"] = model.sample(N, labels, seed=9)
    rows = pa.table({"image": fixed(images)} | ({} if labels is None else {"label": labels}))
    options = {"score": {"samples": 2, "seed": 9}, "sample": {"seed": 9}}.get(verb, {})
    mapper = Mapper(verb, any_bundle, dtype="float32", **options)
    for n, parts in ((N, 1), (N, 2), (N, 5), (20, 20)):
        done = in_parts(mapper, rows.slice(0, n), parts)
        assert done["error"].null_count == n
        assert done["row"].to_pylist() == list(range(n))
        for name, expected in found.items():
            got = matrix(done, name) if expected.ndim > 1 else done[name].to_numpy()
            assert np.array_equal(got, expected[:n].reshape(got.shape)), (name, parts)


def test_images_are_returned_as_bytes_or_png_files(
    cvae: vae.Autoencoder, cvae_path: Path, table: Any
) -> None:
    images = matrix(table, "image").reshape(-1, 1, 8, 8)
    again = cvae.reconstruct(images, np.arange(60) % 10, dtype="uint8")
    done = Mapper("reconstruct", cvae_path)(table)
    assert done.schema.field("image").type == pa.list_(pa.uint8(), 64)
    assert np.array_equal(matrix(done, "image"), again.reshape(60, 64))
    plain = Mapper("reconstruct", cvae_path, fixed=False)(table)
    assert plain.schema.field("image").type == pa.list_(pa.uint8())
    assert plain["image"].to_pylist() == done["image"].to_pylist()
    files = Mapper("reconstruct", cvae_path, dtype="png")(table)["image"].to_pylist()
    assert files == [encode_image(image) for image in again]


def columns_of(images: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The same images in every form that a column may have."""
    flat = images.reshape(len(images), -1)
    files = [encode_image(image) for image in images]
    return {
        "fixed": fixed(images),
        "plain": pa.array(flat.tolist(), pa.list_(pa.uint8())),
        "large": pa.array(flat.tolist(), pa.large_list(pa.uint8())),
        "shorts": pa.array(flat.tolist(), pa.list_(pa.int16())),
        "floats": fixed(images.astype(np.float32) / np.float32(255)),
        "files": pa.array(files, pa.binary()),
        "large files": pa.array(files, pa.large_binary()),
        "structs": pa.array([{"path": "x", "bytes": raw} for raw in files]),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images)),
        "chunks": pa.chunked_array([fixed(images[:7]), fixed(images[7:])]),
    }


def test_every_form_of_a_column_gives_the_same_result(cvae_path: Path, table: Any) -> None:
    images = matrix(table, "image").reshape(-1, 1, 8, 8)
    encode = Mapper("encode", cvae_path)
    expected = matrix(encode(table), "z")
    for form, column in columns_of(images).items():
        done = encode(pa.table({"image": column, "label": table["label"]}))
        assert done["error"].null_count == len(images), form
        assert np.array_equal(matrix(done, "z"), expected), form
    for labels in (
        pa.array([str(k % 10) for k in range(60)]),
        pa.array([str(k % 10) for k in range(60)]).dictionary_encode(),
        pa.array(np.arange(60) % 10, pa.uint8()),
    ):
        done = encode(pa.table({"image": table["image"], "label": labels}))
        assert np.array_equal(matrix(done, "z"), expected)
    batch = table.combine_chunks().to_batches()[0]
    assert np.array_equal(matrix(encode(batch), "z"), expected)
    (out,) = encode.batches([batch])
    assert out.schema == encode.schema(table.schema)


def test_the_columns_of_results(cvae_path: Path, ae_path: Path, table: Any) -> None:
    def names(verb: str, bundle: Path) -> list[str]:
        numbered = table.append_column("row", pa.array(np.arange(60)))
        return Mapper(verb, bundle).schema(numbered.schema).names  # type: ignore[no-any-return]

    kept = ["name", "label", "row"]
    assert names("encode", cvae_path) == [*kept, "z", "log_var", "error"]
    assert names("encode", ae_path) == [*kept, "z", "error"]
    assert names("reconstruct", cvae_path) == [*kept, "image", "error"]
    assert names("sample", cvae_path) == [*kept, "image", "error"]
    scores = ["mse", "kl", "negative_elbo"]
    assert names("score", cvae_path) == [*kept, *scores, "error"]


GOOD = np.full((1, 8, 8), 7, np.uint8)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (pa.array([[7] * 64, None], pa.list_(pa.uint8())), "image: missing"),
        (pa.array([[7] * 64, None], pa.list_(pa.uint8(), 64)), "image: missing"),
        (pa.array([[7] * 64, [7] * 63]), "image: 63 numbers, expected 64"),
        (pa.array([[7] * 64, []]), "image: 0 numbers, expected 64"),
        (pa.array([[7] * 64, [7] * 63 + [None]]), "image: a number is missing"),
        (pa.array([[7] * 64, [7] * 63 + [256]]), "image: numbers from 7 to 256, expected 0 to 255"),
        (pa.array([[7] * 64, [7] * 63 + [-1]]), "image: numbers from -1 to 7, expected 0 to 255"),
        (
            pa.array([[7 / 255] * 64, [0.5] * 63 + [float("nan")]], pa.list_(pa.float32())),
            "image: numbers from nan to nan, expected 0 to 1",
        ),
        (
            pa.array([[7 / 255] * 64, [0.5] * 63 + [1.5]], pa.list_(pa.float32())),
            "image: numbers from 0.5 to 1.5, expected 0 to 1",
        ),
        (pa.array([encode_image(GOOD), None]), "image: missing"),
        (
            pa.array([encode_image(GOOD), b"no image"]),
            "image: not an image. Expected PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM",
        ),
        (
            pa.array([encode_image(GOOD), encode_image(GOOD)[:45]]),
            "image: truncated: the end of the PNG is missing",
        ),
        (
            pa.array([encode_image(GOOD), encode_image(np.zeros((1, 5000, 5000), np.uint8))]),
            "image: 5000x5000 pixels, limit 16000000. Make it smaller.",
        ),
        (
            pa.array([encode_image(GOOD), encode_image(GOOD[:, :7])]),
            "image: 7×8 pixels, expected 8×8",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["encode", "reconstruct", "score"])
def test_a_bad_image_affects_only_its_row(
    images: Any, reason: str, verb: str, vae_path: Path
) -> None:
    rows = pa.table({"image": images, "row": [0, 1], "kept": ["a", "b"]})
    mapper = Mapper(verb, vae_path)
    done = mapper(rows)
    assert done["error"].to_pylist() == [None, reason]
    assert done["kept"].to_pylist() == ["a", "b"]
    made = [name for name in done.column_names if name not in ("row", "kept", "error")]
    assert [done[name][1].as_py() for name in made] == [None] * len(made)
    alone = mapper(pa.table({"image": fixed(GOOD[None]), "row": [0]}))
    assert [done[name][0] for name in made] == [alone[name][0] for name in made]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (pa.array([3, None]), "label: missing"),
        (pa.array([3, 10]), "label: 10 is out of range, expected 0 to 9"),
        (pa.array([3, -1]), "label: -1 is out of range, expected 0 to 9"),
        (pa.array([3, 2**64 - 1], pa.uint64()), "label: -1 is out of range, expected 0 to 9"),
        (pa.array(["3", None]), "label: missing"),
        (
            pa.array(["3", "9" * 40]),
            "label: 99999999999999999999… is out of range, expected 0 to 9",
        ),
        (
            pa.array(["3", "three"]),
            "label: unknown class 'three', expected one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_bad_label_affects_only_its_row(
    labels: Any, reason: str, verb: str, cvae_path: Path
) -> None:
    rows = pa.table({"image": fixed(np.stack([GOOD, GOOD])), "row": [0, 1], "label": labels})
    done = Mapper(verb, cvae_path)(rows)
    assert done["error"].to_pylist() == [None, reason]
