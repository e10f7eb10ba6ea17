"""Arrays that callers may pass, and the exact errors for all others."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime.arrays import as_latents, check_images, to_float32
from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.errors import InputError, UsageError
from vae_runtime.labels import as_labels, check_labels

pytestmark = pytest.mark.torch_free

GREY = ImageSpec(1, 4, 6)
COLOUR = ImageSpec(3, 4, 6)
OK = np.full((2, 1, 4, 6), 0.5, np.float32)


def as_images(images: Any, spec: ImageSpec) -> Any:
    """Check and scale images, as `Encoder` does."""
    return to_float32(check_images(images, spec))


def with_pixel(value: float) -> Any:
    array = OK.copy()
    array[1, 0, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (OK.astype(np.float64), "images: float64, expected float32 or uint8. "
         "Convert: images.astype(np.float32)"),
        (OK.astype(">f4"), "images: big-endian >f4, expected native float32. "
         "Convert: images.astype(np.float32)"),
        (OK.astype(">i8"), "images: big-endian >i8, expected native float32. "
         "Convert: images.astype(np.float32)"),
        (OK.astype(np.int64), "images: int64, expected float32 or uint8. "
         "Convert: images.astype(np.float32)"),
        (OK.astype(bool), "images: bool, expected float32 or uint8. "
         "Convert: images.astype(np.float32)"),
        (with_pixel(np.nan), "images: nan at [1, 0, 2, 3], expected finite"),
        (with_pixel(-np.inf), "images: -inf at [1, 0, 2, 3], expected finite"),
        (with_pixel(255), "images: values run from 0.5 to 255, expected [0, 1]. "
         "Divide by 255, or pass uint8."),
        (with_pixel(-0.1), "images: values run from -0.1 to 0.5, expected [0, 1]. "
         "Divide by 255, or pass uint8."),
        (OK[..., :5], "images: shape [2, 1, 4, 5], expected [N, 1, 4, 6] or [N, 4, 6, 1]"),
        (np.zeros(24, np.uint8), "images: shape [24], expected [N, 1, 4, 6] or [N, 4, 6, 1]"),
        (np.zeros((2, 4, 6, 3), np.uint8),
         "images: shape [2, 4, 6, 3], expected [N, 1, 4, 6] or [N, 4, 6, 1]"),
    ],
)  # fmt: skip
def test_wrong_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        as_images(images, GREY)
    assert str(caught.value) == message


def test_colour_images_may_be_channels_first_or_last() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6)).astype(np.uint8)
    expected = planes.astype(np.float32) / np.float32(255)
    for given in (planes, planes.transpose(0, 2, 3, 1)):
        found = as_images(given, COLOUR)
        assert np.array_equal(found, expected)
        assert found.flags.c_contiguous
    for given in (planes[0], planes[0].transpose(1, 2, 0)):
        assert np.array_equal(as_images(given, COLOUR), expected[:1])
    with pytest.raises(InputError, match=r"^images: shape \[2, 4, 6\], expected \[N, 3, 4, 6\]"):
        as_images(planes[:, 0], COLOUR)


def test_the_caller_s_array_is_not_modified() -> None:
    pixels = np.full((1, 1, 4, 6), 200, np.uint8)
    floats = OK.copy()
    as_images(pixels, GREY)
    as_images(floats, GREY)
    assert (pixels == 200).all()
    assert np.array_equal(floats, OK)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.zeros((2, 3)), "z: float64, expected float32. Convert: z.astype(np.float32)"),
        (np.zeros((2, 3), ">f4"),
         "z: big-endian >f4, expected native float32. Convert: z.astype(np.float32)"),
        (np.zeros((2, 4), np.float32), "z: shape [2, 4], expected [N, 3]"),
        (np.zeros((2, 3, 1), np.float32), "z: shape [2, 3, 1], expected [N, 3]"),
        (np.float32([[0, np.nan, 0]]), "z: nan at [0, 1], expected finite"),
    ],
)  # fmt: skip
def test_wrong_latents_are_refused(z: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        as_latents(z, (3,))
    assert str(caught.value) == message


def test_latents_may_be_a_row_a_list_or_a_strided_array() -> None:
    assert as_latents(np.zeros(3, np.float32), (3,)).shape == (1, 3)
    assert as_latents([[0.5, 1, 2]], (3,)).dtype == np.float32
    assert as_latents(np.zeros((4, 6), np.float32)[:, ::2], (3,)).flags.c_contiguous


def test_latents_of_several_axes_may_be_flattened() -> None:
    z = np.arange(24, dtype=np.float32)
    for shape in ((2, 12), (2, 3, 4)):
        assert np.array_equal(as_latents(z.reshape(shape), (3, 4)), z.reshape(2, 3, 4))
    assert as_latents(z[:12].reshape(3, 4), (3, 4)).shape == (1, 3, 4)
    for shape in ((24,), (4, 6), (2, 4, 3), (1, 2, 3, 4)):
        with pytest.raises(InputError, match=re.escape("expected [N, 3, 4]")):
            as_latents(z.reshape(shape), (3, 4))


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (10, InputError, "label: 10 is out of range, expected 0 to 9"),
        (-1, InputError, "label: -1 is out of range, expected 0 to 9"),
        ("10", InputError, "label: 10 is out of range, expected 0 to 9"),
        ("cat", UsageError,
         "label: unknown class 'cat', expected one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("1,2", UsageError,
         "label: unknown class '1,2', expected one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9. "
         "For several, repeat --label, or pass a list in Python"),
        ([1, 2, 3], InputError,
         "label: 3 labels for 2 items, expected one for all or one per item. "
         "To sample one of each, pass n=3."),
        ([], InputError,
         "label: 0 labels for 2 items, expected one for all or one per item"),
        (3.0, InputError, "label: 3.0, expected a class index or name, or int64[2], one per item"),
        ([1.0, 2.0], InputError,
         "label: [1.0, 2.0], expected a class index or name, or int64[2], one per item"),
        (np.zeros((2, 1), np.int64), InputError,
         "label: int64[2, 1], expected a class index or name, or int64[2], one per item"),
        (np.zeros(2, ">i8"), InputError,
         "label: >i8[2], expected a class index or name, or int64[2], one per item"),
        ([True, False], InputError,
         "label: [True, False], expected a class index or name, or int64[2], one per item"),
    ],
)  # fmt: skip
def test_wrong_labels_are_refused(
    cvae: vae.Autoencoder, label: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        as_labels(label, 2, cvae.spec)
    assert str(caught.value) == message


def test_an_endless_stream_takes_a_single_label(cvae: vae.Autoencoder) -> None:
    assert check_labels(None, None, cvae.spec) is None
    assert check_labels("3", None, cvae.spec) == 3
    labels = check_labels([1, 2], 2, cvae.spec)
    assert isinstance(labels, np.ndarray)
    assert labels.tolist() == [1, 2]
    with pytest.raises(UsageError, match=r"^an endless stream takes a single label$"):
        check_labels([1, 2], None, cvae.spec)


def test_a_model_without_classes_takes_no_label(vae_path: Any) -> None:
    with vae.load(vae_path) as model:
        for call in (model.sample, model.encode, model.decode):
            argument = 1 if call == model.sample else np.zeros((1, 8, 8), np.float32)
            if call == model.decode:
                argument = np.zeros((1, model.spec.latent_dim), np.float32)
            with pytest.raises(UsageError, match=r"^this vae takes no label$"):
                call(argument, 3)  # type: ignore[operator]


def test_a_valid_array_is_not_copied() -> None:
    z = np.zeros((2, 3), np.float32)
    assert as_latents(z, (3,)) is z
    huge = np.full((1, 3), 3e38, np.float32)  # its square is beyond float32
    assert np.array_equal(as_latents(huge, (3,)), huge)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_latents_that_are_not_finite_are_refused(bad: float) -> None:
    z = np.zeros((1, 3), np.float32)
    z[0, 1] = bad
    with pytest.raises(InputError, match=r"at \[0, 1\], expected finite"):
        as_latents(z, (3,))


def test_the_cached_label_of_one_item_is_read_only(cvae: vae.Autoencoder) -> None:
    one = as_labels(1, 1, cvae.spec)
    assert one.tolist() == [1]
    assert as_labels(None, 1, cvae.spec).tolist() == [len(cvae.spec.classes)]
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 0
