"""Output sizes of the operators that move, select, repeat or reduce elements.

Each rule takes a `Call` and returns the shapes of its outputs. A rule raises `Malformed` for what
onnxruntime would refuse or, in some version, does not survive.
"""

from __future__ import annotations

import math

from .call import Call, Rule, Shape, broadcast, elements


def _same(call: Call) -> list[Shape]:
    return [call.shape()]


def _broadcast(call: Call) -> list[Shape]:
    return [broadcast(call, *(one.shape for one in call.inputs if one))]


def _bounds(call: Call) -> list[Shape]:
    for index in (1, 2):
        call.check(not call.has(index) or call.shape(index) == (), "a bound is not a scalar")
    return _same(call)


def _one_sided(call: Call) -> list[Shape]:
    """PRelu: the slope is broadcast to the input, and not the other way round."""
    call.check(broadcast(call, call.shape(), call.shape(1)) == call.shape(), "a large slope")
    return _same(call)


def _along_axis(call: Call) -> list[Shape]:
    call.axis(call.attribute("axis", -1))
    return _same(call)


def _cumulate(call: Call) -> list[Shape]:
    call.axis(call.one_int(1))
    return _same(call)


# Reductions


def _reduce(call: Call) -> list[Shape]:
    axes = call.ints(1) if call.has(1) else list(call.integers("axes") or ())
    if not axes and call.attribute("noop_with_empty_axes"):
        return _same(call)
    rank = len(call.shape())
    return [_without(call, set(call.axes(axes)) if axes else set(range(rank)))]


def _arg(call: Call) -> list[Shape]:
    return [_without(call, {call.axis(call.attribute("axis"))})]


def _without(call: Call, axes: set[int]) -> Shape:
    if call.attribute("keepdims", 1):
        return tuple(1 if i in axes else n for i, n in enumerate(call.shape()))
    return tuple(n for i, n in enumerate(call.shape()) if i not in axes)


def _top_k(call: Call) -> list[Shape]:
    axis, sizes, shape = call.axis(call.attribute("axis", -1)), call.ints(1), call.shape()
    call.check(len(sizes) == 1, "expected a list of one size")
    k = sizes[0]
    call.check(1 <= k <= shape[axis], f"{k} of {shape[axis]} elements")
    return [(*shape[:axis], k, *shape[axis + 1 :])] * 2


# The same elements in another shape or order


def _reshape(call: Call) -> list[Shape]:
    source, sizes = call.shape(), call.ints(1)
    if not call.attribute("allowzero"):
        call.check(all(n or i < len(source) for i, n in enumerate(sizes)), "0 stands for no axis")
        sizes = [n or source[i] for i, n in enumerate(sizes)]
    call.check(all(n >= -1 for n in sizes) and sizes.count(-1) <= 1, f"sizes {sizes}")
    known = math.prod(n for n in sizes if n != -1)
    if -1 in sizes:
        call.check(known > 0 and elements(source) % known == 0, f"sizes {sizes}")
        sizes[sizes.index(-1)] = elements(source) // known
    call.check(math.prod(sizes) == elements(source), f"sizes {sizes}")
    return [tuple(sizes)]


def _flatten(call: Call) -> list[Shape]:
    axis = call.axis(call.attribute("axis", 1), extra=1)
    return [(elements(call.shape()[:axis]), elements(call.shape()[axis:]))]


def _transpose(call: Call) -> list[Shape]:
    shape = call.shape()
    order = call.integers("perm") or tuple(reversed(range(len(shape))))
    call.check(sorted(order) == list(range(len(shape))), f"perm {list(order)}")
    return [tuple(shape[i] for i in order)]


def _squeeze(call: Call) -> list[Shape]:
    shape = call.shape()
    ones = [i for i, n in enumerate(shape) if n == 1]
    axes = call.axes(call.ints(1)) if call.has(1) else ones
    call.check(set(axes) <= set(ones), "an axis to remove is longer than 1")
    return [tuple(n for i, n in enumerate(shape) if i not in axes)]


def _unsqueeze(call: Call) -> list[Shape]:
    shape, given = call.shape(), call.ints(1)
    rank = len(shape) + len(given)
    axes, rest = set(call.axes(given, rank)), iter(shape)
    return [tuple(1 if i in axes else next(rest) for i in range(rank))]


def _depth_to_space(call: Call) -> list[Shape]:
    call.check(len(call.shape()) == 4, "expected four axes")
    (n, c, h, w), b = call.shape(), call.attribute("blocksize", 1)
    call.check(c % (b * b) == 0, f"{c} channels in blocks of {b}")
    return [(n, c // (b * b), h * b, w * b)]


def _space_to_depth(call: Call) -> list[Shape]:
    call.check(len(call.shape()) == 4, "expected four axes")
    (n, c, h, w), b = call.shape(), call.attribute("blocksize", 1)
    call.check(h % b == 0 and w % b == 0, f"an image of {h}×{w} in blocks of {b}")
    return [(n, c * b * b, h // b, w // b)]


# Parts


def _concat(call: Call) -> list[Shape]:
    shapes = [one.shape for one in call.inputs if one]
    axis = call.axis(call.attribute("axis"))
    rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    call.check(len(rest) == 1 and len(set(map(len, shapes))) == 1, "the shapes do not fit")
    first = shapes[0]
    return [(*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])]


def _split(call: Call) -> list[Shape]:
    axis, count = call.axis(call.attribute("axis")), len(call.node.outputs)
    shape, given = call.shape(), call.attribute("num_outputs", count)
    call.check(given == count, f"num_outputs is {given} for {count} outputs")
    if call.has(1):
        sizes = call.ints(1)
    else:
        call.check("num_outputs" in call.node.attributes, "neither sizes nor num_outputs")
        size = -(-shape[axis] // count)
        sizes = [size] * (count - 1) + [shape[axis] - size * (count - 1)]
    call.check(
        len(sizes) == count and min(sizes) > 0 and sum(sizes) == shape[axis], f"parts {sizes}"
    )
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _slice(call: Call) -> list[Shape]:
    starts, ends, shape = call.ints(1), call.ints(2), list(call.shape())
    given = call.ints(3) if call.has(3) else range(len(starts))
    steps = call.ints(4) if call.has(4) else [1] * len(starts)
    call.check(len({len(starts), len(ends), len(steps), len(given)}) == 1, "lists of unequal size")
    call.check(all(0 < abs(step) < 1 << 31 for step in steps), f"steps {steps}")
    for axis, start, end, step in zip(call.axes(list(given)), starts, ends, steps, strict=True):
        size = len(range(*slice(start, end, step).indices(shape[axis])))
        # -1 before the first element; Python would take it for the last one.
        before = step < 0 and end < -shape[axis]
        shape[axis] = len(range(*slice(start, None, step).indices(shape[axis]))) if before else size
    return [tuple(shape)]


def _gather(call: Call) -> list[Shape]:
    shape, axis = call.shape(), call.axis(call.attribute("axis"))
    value = call.array(1).value
    size = shape[axis]
    call.check(value is None or bool((value >= -size).all() and (value < size).all()), "an index")
    return [(*shape[:axis], *call.shape(1), *shape[axis + 1 :])]


def _gather_elements(call: Call) -> list[Shape]:
    axis, found = call.axis(call.attribute("axis")), call.shape(1)
    fits = len(found) == len(call.shape()) and all(
        m <= n for i, (m, n) in enumerate(zip(found, call.shape(), strict=True)) if i != axis
    )
    call.check(fits, "the shapes do not fit")
    return [found]


def _gather_nd(call: Call) -> list[Shape]:
    data, indices, batch = call.shape(), call.shape(1), call.attribute("batch_dims")
    call.check(
        bool(indices) and batch < min(len(data), len(indices)) and data[:batch] == indices[:batch]
        and 1 <= indices[-1] <= len(data) - batch,
        "the shapes do not fit",
    )  # fmt: skip
    return [(*indices[:-1], *data[batch + indices[-1] :])]


def _scatter_elements(call: Call) -> list[Shape]:
    axis, data, indices = call.axis(call.attribute("axis")), call.shape(), call.shape(1)
    fits = len(indices) == len(data) and all(
        m <= n for i, (m, n) in enumerate(zip(indices, data, strict=True)) if i != axis
    )
    call.check(fits and call.shape(2) == indices, "the shapes do not fit")
    return _same(call)


def _scatter_nd(call: Call) -> list[Shape]:
    data, indices = call.shape(), call.shape(1)
    call.check(
        bool(indices) and 1 <= indices[-1] <= len(data)
        and call.shape(2) == (*indices[:-1], *data[indices[-1] :]),
        "the shapes do not fit",
    )  # fmt: skip
    return _same(call)


def _trilu(call: Call) -> list[Shape]:
    call.check(len(call.shape()) >= 2, "expected two axes or more")
    call.check(not call.has(1) or abs(call.one_int(1)) < 1 << 31, "a diagonal that is far away")
    return _same(call)


# More elements


def _expand(call: Call) -> list[Shape]:
    sizes = call.ints(1)
    call.check(all(n > 0 for n in sizes), f"sizes {sizes}")
    return [broadcast(call, call.shape(), tuple(sizes))]


def _tile(call: Call) -> list[Shape]:
    shape, times = call.shape(), call.ints(1)
    call.check(len(times) == len(shape) and all(n > 0 for n in times), f"repeats {times}")
    return [tuple(n * m for n, m in zip(shape, times, strict=True))]


def _pad(call: Call) -> list[Shape]:
    shape, pads = list(call.shape()), call.ints(1)
    axes = call.axes(call.ints(3)) if call.has(3) else list(range(len(shape)))
    call.check(len(pads) == 2 * len(axes), f"pads {pads}")
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        size, mode = shape[axis], call.word("mode", "constant")
        # Negative pads crop; onnxruntime's reflections read outside the tensor beyond one length.
        low = -size + 1 if mode == "constant" else 0
        high = {"constant": 1 << 24, "edge": 1 << 24, "reflect": size - 1, "wrap": size}[mode]
        call.check(low <= before <= high and low <= after <= high, f"pads {pads}")
        shape[axis] += before + after
    return [tuple(shape)]


def _range(call: Call) -> list[Shape]:
    values = [call.array(i).value for i in range(3)]
    for index, value in enumerate(values):
        call.check(value is not None, "a size depends on the values of the graph's input")
        call.check(call.shape(index) == (), "expected scalars")
    start, limit, delta = (float(value) for value in values if value is not None)
    call.check(all(map(math.isfinite, (start, limit, delta))) and delta != 0, "no finite steps")
    return [(max(0, math.ceil((limit - start) / delta)),)]


def _constant_of_shape(call: Call) -> list[Shape]:
    sizes, value = call.ints(0), call.tensor("value")
    call.check(value is None or value.shape == (1,), "the value is not a single number")
    call.check(all(n > 0 for n in sizes), f"sizes {sizes}")
    return [tuple(sizes)]


def _one_hot(call: Call) -> list[Shape]:
    shape, depth = call.shape(), call.one_int(1)
    axis = call.axis(call.attribute("axis", -1), len(shape) + 1)
    call.check(depth > 0 and call.shape(2) == (2,), f"depth {depth}")
    return [(*shape[:axis], depth, *shape[axis:])]


def _shape(call: Call) -> list[Shape]:
    rank = len(call.shape())
    return [
        (len(range(*slice(call.attribute("start"), call.attribute("end", rank)).indices(rank))),)
    ]


def _size(_: Call) -> list[Shape]:
    return [()]


def _constant(call: Call) -> list[Shape]:
    value = call.tensor("value")
    if value is None:
        raise call.fail("no value")
    return [value.shape]


_SAME = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Cos Cosh Elu Erf Exp
    Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu
    Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
_BROADCAST = """
    Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or Pow Sub Sum Where Xor
"""
_REDUCE = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
"""
RULES: dict[str, Rule] = (
    dict.fromkeys(_SAME.split(), _same)
    | dict.fromkeys(_BROADCAST.split(), _broadcast)
    | dict.fromkeys(_REDUCE.split(), _reduce)
    | dict.fromkeys(("Softmax", "LogSoftmax", "LpNormalization"), _along_axis)
    | {
        "ArgMax": _arg, "ArgMin": _arg, "Clip": _bounds, "Concat": _concat, "Constant": _constant,
        "ConstantOfShape": _constant_of_shape, "CumSum": _cumulate,
        "DepthToSpace": _depth_to_space, "Expand": _expand, "Flatten": _flatten,
        "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
        "OneHot": _one_hot, "PRelu": _one_sided, "Pad": _pad, "Range": _range,
        "Reshape": _reshape, "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd,
        "Shape": _shape, "Size": _size, "Slice": _slice, "SpaceToDepth": _space_to_depth,
        "Split": _split, "Squeeze": _squeeze, "Tile": _tile, "TopK": _top_k,
        "Transpose": _transpose, "Trilu": _trilu, "Unsqueeze": _unsqueeze,
    }
)  # fmt: skip
