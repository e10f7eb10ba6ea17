"""Output sizes of layers: convolution, pooling, products, normalisation, resampling, quantisation.

Shapes are N×C×… for the layers that have channels. Each rule takes a `Call`; see `shapes`.
"""

from __future__ import annotations

import math
import re

import numpy as np

from .call import Call, Rule, Shape, broadcast, elements

_MAX_PRODUCTS = 1 << 38  # multiplications of one Einsum, which runs without blocking or threads
# Terms of letters; an ellipsis may stand at the start of a term for the batch axes.
_EQUATION = re.compile(r"(\.\.\.)?[a-zA-Z]*(,(\.\.\.)?[a-zA-Z]*)*->(\.\.\.)?[a-zA-Z]*")


# Convolution and pooling


def _window(call: Call, kernel: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
    """Return strides, dilations and pads of a sliding window, after checking their number."""
    rank = len(kernel)
    strides = list(call.integers("strides") or [1] * rank)
    dilations = list(call.integers("dilations") or [1] * rank)
    pads = list(call.integers("pads") or [0] * 2 * rank)
    fits = rank <= 3 and len(strides) == len(dilations) == rank and len(pads) == 2 * rank
    call.check(fits, "kernel, strides, dilations or pads do not fit the axes")
    plain = call.word("auto_pad", "NOTSET") == "NOTSET"
    call.check(plain or (not any(pads) and set(dilations) == {1}), "auto_pad and pads or dilations")
    return strides, dilations, pads


def _slide(call: Call, sizes: Shape, kernel: tuple[int, ...], ceil: bool = False) -> Shape:
    """Return the spatial sizes after a window has moved over the image."""
    call.check(len(kernel) == len(sizes), f"a kernel of {len(kernel)} axes")
    strides, dilations, pads = _window(call, kernel)
    mode, found = call.word("auto_pad", "NOTSET"), []
    for i, size in enumerate(sizes):
        if mode.startswith("SAME"):
            found.append(-(-size // strides[i]))
            continue
        before, after = pads[i], pads[i + len(kernel)]
        room = size + before + after - (dilations[i] * (kernel[i] - 1) + 1)
        call.check(room >= 0, "the kernel is larger than the image")
        steps = -(-room // strides[i]) if ceil else room // strides[i]
        # A window that would start in the padding after the image is left out.
        found.append(steps + (not ceil or steps * strides[i] < size + before))
    return tuple(found)


def _check_kernel(call: Call) -> tuple[Shape, Shape, int]:
    """Return the shapes of image and weight, and the number of groups."""
    image, weight, groups = call.shape(), call.shape(1), call.attribute("group", 1)
    call.check(3 <= len(image) <= 5 and len(weight) == len(image), "expected N×C×… twice")
    call.check(call.integers("kernel_shape") in (None, weight[2:]), "kernel_shape differs")
    return image, weight, groups


def _conv(call: Call) -> list[Shape]:
    call.check(not call.has(2) or call.shape(2) == call.shape(1)[:1], "the bias does not fit")
    return _conv_integer(call)


def _conv_integer(call: Call) -> list[Shape]:
    image, weight, groups = _check_kernel(call)
    channels = weight[0]
    call.check(
        image[1] == weight[1] * groups and channels % groups == 0, f"channels in {groups} groups"
    )
    if call.node.op == "ConvInteger":
        _check_zero_points(call)
    return [(image[0], channels, *_slide(call, image[2:], weight[2:]))]


def _conv_transpose(call: Call) -> list[Shape]:
    image, weight, groups = _check_kernel(call)
    channels, kernel = weight[1] * groups, weight[2:]
    strides, dilations, pads = _window(call, kernel)
    extra = call.integers("output_padding") or (0,) * len(kernel)
    call.check(
        image[1] == weight[0] and weight[0] % groups == 0 and len(extra) == len(kernel)
        and (not call.has(2) or call.shape(2) == (channels,)),
        f"channels in {groups} groups, or the bias, do not fit",
    )  # fmt: skip
    plain = call.integers("output_shape") is None and call.word("auto_pad", "NOTSET") == "NOTSET"
    call.check(plain, "output_shape and auto_pad are not supported")
    sizes = []
    for i, size in enumerate(image[2:]):
        call.check(extra[i] < max(strides[i], dilations[i]), "a large output_padding")
        full = strides[i] * (size - 1) + extra[i] + dilations[i] * (kernel[i] - 1) + 1
        sizes.append(full - pads[i] - pads[i + len(kernel)])
    call.check(min(sizes) > 0, "the padding is larger than the image")
    return [(image[0], channels, *sizes)]


def _pool(call: Call) -> list[Shape]:
    image, kernel = call.shape(), call.integers("kernel_shape") or ()
    call.check(len(image) >= 3, "expected N×C×…")
    pads = call.integers("pads") or ()
    call.check(all(p < k for p, k in zip(pads, (*kernel, *kernel), strict=False)), f"pads {pads}")
    sizes = _slide(call, image[2:], kernel, bool(call.attribute("ceil_mode")))
    return [(*image[:2], *sizes)] * 2


def _global_pool(call: Call) -> list[Shape]:
    image = call.shape()
    call.check(len(image) >= 3, "expected N×C×…")
    return [(*image[:2], *[1] * (len(image) - 2))]


# Products


def _gemm(call: Call) -> list[Shape]:
    call.check(len(call.shape()) == len(call.shape(1)) == 2, "expected two matrices")
    m, k = call.shape()[:: -1 if call.attribute("transA") else 1]
    inner, n = call.shape(1)[:: -1 if call.attribute("transB") else 1]
    call.check(k == inner, "the matrices do not fit")
    if call.has(2):
        call.check(broadcast(call, (m, n), call.shape(2)) == (m, n), "the bias does not fit")
    return [(m, n)]


def _matmul(call: Call) -> list[Shape]:
    a, b = call.shape(), call.shape(1)
    call.check(bool(a and b), "expected no scalars")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    call.check(left[-1] == right[-2], "the matrices do not fit")
    batch = broadcast(call, left[:-2], right[:-2])
    return [(*batch, *left[-2:-1][: len(a) - 1], *right[-1:][: len(b) - 1])]


def _matmul_integer(call: Call) -> list[Shape]:
    _check_zero_points(call)
    return _matmul(call)


def _check_zero_points(call: Call) -> None:
    """Check the zero points: one for the input; one for the weight, or one per output channel."""
    channels = call.shape(1)[0 if call.node.op == "ConvInteger" else -1 :][:1]
    for index, allowed in ((2, ((), (1,))), (3, ((), (1,), channels))):
        fits = not call.has(index) or call.shape(index) in allowed
        call.check(fits, "a zero point does not fit")


def _einsum(call: Call) -> list[Shape]:
    equation = call.word("equation").replace(" ", "")
    call.check(len(equation) <= 256 and bool(_EQUATION.fullmatch(equation)), "equation")
    left, result = equation.split("->")
    terms = left.split(",")
    call.check(len(terms) == len(call.inputs), f"{len(terms)} terms")
    sizes: dict[str, int] = {}
    batches: list[Shape] = []
    for index, term in enumerate(terms):
        letters, shape = term.removeprefix("..."), call.shape(index)
        start = len(shape) - len(letters)
        call.check(start >= 0 and (start == 0 or letters != term), f"the term {term}")
        call.check(len(set(letters)) == len(letters), f"a letter occurs twice in {term}")
        batches.append(shape[:start])
        for letter, size in zip(letters, shape[start:], strict=True):
            call.check(sizes.setdefault(letter, size) == size, f"the sizes of {letter} differ")
    batch, kept = broadcast(call, *batches), result.removeprefix("...")
    call.check(set(kept) <= sizes.keys() and len(set(kept)) == len(kept), f"the result {result}")
    call.check(kept != result or not batch, "the batch axes are missing from the result")
    products = math.prod(sizes.values()) * elements(batch)
    call.check(products <= _MAX_PRODUCTS, f"more than {_MAX_PRODUCTS:,} products")
    return [(*batch, *(sizes[letter] for letter in kept))]


# Normalisation


def _channels(call: Call) -> list[Shape]:
    """InstanceNormalization and BatchNormalization: every parameter has one number per channel."""
    shape, least = call.shape(), 3 if call.node.op == "InstanceNormalization" else 2
    call.check(len(shape) >= least, "expected N×C×…")
    ok = all(one is not None and one.shape == shape[1:2] for one in call.inputs[1:])
    call.check(ok, f"parameters for {shape[1]} channels")
    return [shape]


def _group_norm(call: Call) -> list[Shape]:
    shape, groups = call.shape(), call.attribute("num_groups")
    call.check(len(shape) >= 3 and shape[1] % groups == 0, f"channels in {groups} groups")
    call.check(call.shape(1) == call.shape(2) == shape[1:2], "the parameters do not fit")
    return [shape]


def _layer_norm(call: Call) -> list[Shape]:
    shape, axis = call.shape(), call.axis(call.attribute("axis", -1))
    for one in call.inputs[1:]:
        call.check(one is None or one.shape == shape[axis:], "the parameters do not fit")
    means = (*shape[:axis], *[1] * (len(shape) - axis))
    return [shape, means, means]


def _lrn(call: Call) -> list[Shape]:
    call.check(len(call.shape()) == 4 and call.attribute("size") % 2 == 1, "expected N×C×H×W")
    return [call.shape()]


# Resampling


def _resize(call: Call) -> list[Shape]:
    shape = list(call.shape())
    given = call.integers("axes")
    axes = list(range(len(shape))) if given is None else call.axes(given)
    by_size = call.has(3) and call.shape(3) != (0,)
    by_scale = call.has(2) and call.shape(2) != (0,)
    call.check(by_size != by_scale, "expected either scales or sizes")
    call.check(not call.has(1) or elements(call.shape(1)) == 0, "a region is not supported")
    call.check(call.word("keep_aspect_ratio_policy", "stretch") == "stretch", "an aspect ratio")
    if by_size:
        sizes = call.ints(3)
        call.check(len(sizes) == len(axes) and all(n > 0 for n in sizes), f"sizes {sizes}")
    else:
        sizes = _scaled(call, [shape[axis] for axis in axes])
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return [tuple(shape)]


def _scaled(call: Call, sizes: list[int]) -> list[int]:
    scales = call.array(2).value
    if scales is None:
        raise call.fail("a size depends on the values of the graph's input")
    call.check(scales.shape == (len(sizes),), f"{scales.size} scales")
    call.check(bool((scales > 0).all() and (scales < 1 << 24).all()), "a scale that is no size")
    found = [int(np.float32(n) * np.float32(s)) for n, s in zip(sizes, scales, strict=True)]
    call.check(min(found, default=1) > 0, "no pixels are left")
    return found


def _grid_sample(call: Call) -> list[Shape]:
    image, grid = call.shape(), call.shape(1)
    axes = len(image) - 2
    call.check(
        axes in (2, 3) and len(grid) == len(image) and grid[-1] == axes and grid[0] == image[0],
        "the shapes do not fit",
    )
    call.check(axes == 2 or call.word("mode", "linear") in ("linear", "nearest"), "the mode")
    return [(*image[:2], *grid[1:-1])]


# Quantisation


def _quantise_dynamically(call: Call) -> list[Shape]:
    return [call.shape(), (), ()]


def _quantise(call: Call) -> list[Shape]:
    shape, scale = call.shape(), call.shape(1)
    call.check(call.attribute("block_size") == 0, "blocks are not supported")
    if elements(scale) > 1:
        axis = call.axis(call.attribute("axis", 1))
        call.check(scale == (shape[axis],), "the scale does not fit")
    call.check(len(scale) <= 1, "expected one scale, or one per channel")
    call.check(not call.has(2) or call.shape(2) == scale, "the zero point does not fit")
    return [shape]


RULES: dict[str, Rule] = {
    "AveragePool": _pool, "BatchNormalization": _channels, "Conv": _conv,
    "ConvInteger": _conv_integer, "ConvTranspose": _conv_transpose, "DequantizeLinear": _quantise,
    "DynamicQuantizeLinear": _quantise_dynamically, "Einsum": _einsum, "Gemm": _gemm,
    "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool, "GridSample": _grid_sample,
    "GroupNormalization": _group_norm, "InstanceNormalization": _channels, "LRN": _lrn,
    "LayerNormalization": _layer_norm, "MatMul": _matmul, "MatMulInteger": _matmul_integer,
    "MaxPool": _pool, "QuantizeLinear": _quantise, "RMSNormalization": _layer_norm,
    "Resize": _resize,
}  # fmt: skip
