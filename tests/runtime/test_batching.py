"""Running a graph in batches: their sizes, their padding on CUDA, and the checks of the results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_runtime.errors import InputError
from vae_runtime.inference.batching import BATCH_SIZE, Output, rows_per_batch, run_batched

pytestmark = pytest.mark.torch_free


class OnDevice:
    """A session that records its calls."""

    name = "x.onnx"

    def __init__(self, where: str) -> None:
        self.device = where
        self.threads = 1
        self.batches: list[int] = []

    def run(self, outputs: Any, x: Any) -> Any:
        self.batches.append(len(x))
        return [x * 2]


@pytest.mark.parametrize(
    ("where", "n", "batches"),
    [
        ("cuda:0", 3, [4]),
        ("cuda:0", 4, [4]),
        ("cuda:0", 17, [64]),
        ("cuda:0", BATCH_SIZE + 2, [256, 4]),
        ("cpu", 3, [3]),
        ("cpu", BATCH_SIZE + 2, [256, 2]),
        ("cpu", 0, []),
    ],
)
def test_batches_are_padded_only_on_cuda(where: str, n: int, batches: list[int]) -> None:
    fake: Any = OnDevice(where)
    x = np.arange(n, dtype=np.float32)[:, None]
    (out,) = run_batched(fake, {"x": x}, {"y": Output((1,), x.dtype)})
    assert fake.batches == batches
    assert np.array_equal(out, 2 * x)


def test_batches_are_larger_on_cuda() -> None:
    sizes = [
        (rows_per_batch(784, where), rows_per_batch(4 * 784, where)) for where in ("cpu", "cuda:1")
    ]
    assert sizes == [(256, 64), (1024, 256)]
    fake: Any = OnDevice("cuda:1")
    x = np.zeros((1500, 1), np.float32)
    run_batched(fake, {"x": x}, {"y": Output((1,), x.dtype)}, 1024)
    assert fake.batches == [1024, 1024]  # the rest is padded


class Returns(OnDevice):
    """A session that returns the same array, whatever it is given."""

    def __init__(self, result: Any) -> None:
        super().__init__("cpu")
        self.result = result

    def run(self, outputs: Any, x: Any) -> Any:
        return [self.result]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.zeros((1, 2), np.float32),
         "x.onnx: returned y float32[1, 2], expected [3, 2]. "
         "Check the bundle with vae-run verify."),
        (np.zeros((6, 2), np.float32),
         "x.onnx: returned y float32[6, 2], expected [3, 2]. "
         "Check the bundle with vae-run verify."),
        (np.zeros((3, 2, 1), np.float32), "x.onnx: returned y float32[3, 2, 1], expected [3, 2]. "
         "Check the bundle with vae-run verify."),
        (np.array([[0, 0], [0, np.nan], [0, 0]], np.float32), "x.onnx: computed NaN or infinity in "
         "y, row 1. Check its inputs, and the bundle with vae-run verify."),
        (np.array([[0, 0], [0, 0], [-np.inf, 0]], np.float32), "x.onnx: computed NaN or infinity "
         "in y, row 2. Check its inputs, and the bundle with vae-run verify."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [3, 256])
def test_what_a_graph_returns_is_checked(result: Any, message: str, batch_size: int) -> None:
    fake: Any = Returns(result)
    x = np.zeros((3, 1), np.float32)
    with pytest.raises(InputError) as caught:
        run_batched(fake, {"x": x}, {"y": Output((2,), x.dtype)}, batch_size)
    assert str(caught.value) == message


def test_large_finite_numbers_are_returned() -> None:
    large: Any = Returns(np.full((3, 2), 3e38, np.float32))
    x = np.zeros((3, 1), np.float32)
    (found,) = run_batched(large, {"x": x}, {"y": Output((2,), x.dtype)})
    assert (found == np.float32(3e38)).all()
