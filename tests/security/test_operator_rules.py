"""What each operator must refuse: sizes, axes and parameters that do not fit its inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_runtime.graph_checks import layers, shapes
from vae_runtime.graph_checks.call import Array, Call, Shape
from vae_runtime.graph_checks.nodes import Node, Tensor
from vae_runtime.graph_checks.operators import FLOAT, signature
from vae_runtime.graph_checks.protobuf import Malformed
from vae_runtime.graph_checks.values import compute

pytestmark = pytest.mark.torch_free
INT64 = 7
IMAGE, NO = (2, 4, 6, 6), None
_KERNEL = (3, 4, 3, 3)


def array(given: Any) -> Array | None:
    """An input of unknown values by its shape, or a constant by its values: a list of integers."""
    if given is None or isinstance(given, Array):
        return given
    if isinstance(given, tuple):
        return Array(FLOAT, given)
    values = np.asarray(given, None if len(given) else np.int64)
    kind = INT64 if values.dtype.kind == "i" else FLOAT
    return Array(kind, values.shape, values, constant=True)


def call(op: str, *inputs: Any, opset: int = 22, outputs: int = 1, **attributes: Any) -> Call:
    found = signature(op, opset)
    assert found is not None
    given = [array(one) for one in inputs]
    names = tuple("" if one is None else f"x{i}" for i, one in enumerate(given))
    ends = tuple(f"y{i}" for i in range(outputs))
    return Call(Node(op, found, names, ends, attributes), given)


def sizes(one: Call) -> list[Shape]:
    return (shapes.RULES | layers.RULES)[one.node.op](one)


def scalar(value: float) -> Array:
    values = np.array(value)
    return Array(INT64 if values.dtype.kind == "i" else FLOAT, (), values, constant=True)


UNKNOWN = Array(INT64, (2,))
REFUSED: list[tuple[str, Call, str]] = [
    ("sizes in a table", call("Reshape", (4,), np.array([[2, 2]])), "a list of integers"),
    ("sizes of an input", call("Reshape", (4,), UNKNOWN), "depends on the values"),
    ("sizes with a fraction", call("Reshape", (4,), np.array([2.0, 2.0])), "must be integers"),
    ("two numbers for one", call("CumSum", (4,), [0, 1]), "a single integer"),
    ("shapes that do not broadcast", call("Add", (2, 3), (2, 4)), "the shapes do not fit"),
    ("an axis that is not there", call("Softmax", (2,), axis=1), "axis 1 does not exist"),
    ("an axis before the first", call("Softmax", (2,), axis=-2), "axis -2 does not exist"),
    ("an axis twice", call("ReduceSum", (2, 3), [0, -2]), "an axis occurs twice"),
    ("a bound per element", call("Clip", (4,), (4,)), "a bound is not a scalar"),
    ("an upper bound per element", call("Clip", (4,), NO, (1,)), "a bound is not a scalar"),
    ("a large slope", call("PRelu", (2, 1), (2, 3)), "a large slope"),
    ("two counts", call("TopK", (4,), [1, 2], outputs=2), "a list of one size"),
    ("more than there are", call("TopK", (4,), [5], outputs=2), "5 of 4 elements"),
    ("none of them", call("TopK", (4,), [0], outputs=2), "0 of 4 elements"),
    ("0 for no axis", call("Reshape", (4,), [4, 0]), "0 stands for no axis"),
    ("a size of -2", call("Reshape", (4,), [-2, -2]), "sizes [-2, -2]"),
    ("two free sizes", call("Reshape", (4,), [-1, -1]), "sizes [-1, -1]"),
    ("a free size that is a fraction", call("Reshape", (4,), [3, -1]), "sizes [3, -1]"),
    ("a free size beside 0", call("Reshape", (4,), [0, -1], allowzero=1), "sizes [0, -1]"),
    ("other elements", call("Reshape", (4,), [3]), "sizes [3]"),
    ("an order with a gap", call("Transpose", (2, 3), perm=(0, 2)), "perm [0, 2]"),
    ("an order of fewer axes", call("Transpose", (2, 3), perm=(0,)), "perm [0]"),
    ("a long axis to remove", call("Squeeze", (2, 1), [0]), "longer than 1"),
    ("no image", call("DepthToSpace", (4, 4, 4), blocksize=2), "expected four axes"),
    ("channels in blocks", call("DepthToSpace", IMAGE, blocksize=3), "4 channels in blocks of 3"),
    ("no image either", call("SpaceToDepth", (4, 4, 4), blocksize=2), "expected four axes"),
    ("pixels in blocks", call("SpaceToDepth", IMAGE, blocksize=4), "an image of 6×6 in blocks"),
    ("parts of other sizes", call("Concat", (2, 3), (3, 3), axis=1), "the shapes do not fit"),
    ("parts of other ranks", call("Concat", (3, 2), (2,), axis=0), "the shapes do not fit"),
    ("another number of outputs", call("Split", (4,), outputs=2, num_outputs=3), "for 2 outputs"),
    ("no sizes", call("Split", (4,), outputs=2), "neither sizes nor num_outputs"),
    ("an empty part", call("Split", (4,), [4, 0], outputs=2), "parts [4, 0]"),
    ("parts that are too large", call("Split", (4,), [3, 2], outputs=2), "parts [3, 2]"),
    ("parts without outputs", call("Split", (4,), [2, 2]), "parts [2, 2]"),
    ("lists of unequal size", call("Slice", (4,), [0], [1, 2]), "lists of unequal size"),
    ("a step of 0", call("Slice", (4,), [0], [1], [0], [0]), "steps [0]"),
    ("a huge step", call("Slice", (4,), [0], [1], [0], [1 << 31]), "steps [2147483648]"),
    ("an index beyond the end", call("Gather", (4,), [4]), "an index"),
    ("an index before the start", call("Gather", (4,), [-5]), "an index"),
    ("indices of another rank", call("GatherElements", (2, 3), (3,), axis=1), "do not fit"),
    ("indices of fewer axes", call("GatherElements", (2, 3), (1,), axis=1), "do not fit"),
    ("indices of more rows", call("GatherElements", (2, 3), (3, 1), axis=1), "do not fit"),
    ("an index of three numbers", call("GatherND", (2, 3), (1, 3)), "do not fit"),
    ("an index of no number", call("GatherND", (2, 3), (1, 0)), "do not fit"),
    ("a scalar index", call("GatherND", (2, 3), ()), "do not fit"),
    ("batches that differ", call("GatherND", (2, 3), (3, 1), batch_dims=1), "do not fit"),
    ("batches of all axes", call("GatherND", (2, 3), (2, 1), batch_dims=2), "do not fit"),
    ("updates of another rank", call("ScatterElements", (2, 3), (2,), (2,)), "do not fit"),
    ("updates of more columns", call("ScatterElements", (2, 3), (2, 4), (2, 4)), "do not fit"),
    ("updates without indices", call("ScatterElements", (2, 3), (2, 1), (1, 1)), "do not fit"),
    ("blocks of another size", call("ScatterND", (2, 3), (1, 1), (1, 2)), "do not fit"),
    ("a place of three numbers", call("ScatterND", (2, 3), (1, 3), (1,)), "do not fit"),
    ("a scalar place", call("ScatterND", (2, 3), (), ()), "do not fit"),
    ("a triangle of a list", call("Trilu", (4,)), "two axes or more"),
    ("a diagonal far away", call("Trilu", (4, 4), [1 << 31]), "a diagonal that is far away"),
    ("a size of 0", call("Expand", (1,), [0]), "sizes [0]"),
    ("no repeats", call("Tile", (2,), [0]), "repeats [0]"),
    ("repeats of other axes", call("Tile", (2,), [1, 1]), "repeats [1, 1]"),
    ("pads of one side", call("Pad", (2, 3), [1, 1]), "pads [1, 1]"),
    ("a reflection beyond the border", call("Pad", (3,), [3, 0], mode="reflect"), "pads [3, 0]"),
    ("a reflection that crops", call("Pad", (3,), [0, -1], mode="reflect"), "pads [0, -1]"),
    ("nothing left", call("Pad", (3,), [-3, 0]), "pads [-3, 0]"),
    ("a huge pad", call("Pad", (3,), [0, 1 << 25]), "pads [0, 33554432]"),
    ("a list of limits", call("Range", [0], scalar(4), scalar(1)), "expected scalars"),
    ("a limit of an input", call("Range", scalar(0), (), scalar(1)), "depends on the values"),
    ("no step", call("Range", scalar(0), scalar(4), scalar(0)), "no finite steps"),
    ("an endless range", call("Range", scalar(0.0), scalar(np.inf), scalar(1.0)), "no finite"),
    ("no size", call("ConstantOfShape", [0]), "sizes [0]"),
    ("two values", call("ConstantOfShape", [2], value=Tensor("", 1, (2,), np.zeros(2))),
     "not a single number"),
    ("no classes", call("OneHot", (2,), scalar(0), [0, 1]), "depth 0"),
    ("three values", call("OneHot", (2,), scalar(3), [0, 1, 2]), "depth 3"),
    ("no value", call("Constant"), "no value"),
    # Layers
    ("a kernel of four axes", call("MaxPool", (1, 1, 4, 4, 4, 4), kernel_shape=(1,) * 4), "axes"),
    ("no kernel", call("MaxPool", (1, 4, 4), kernel_shape=()), "a kernel of 0 axes"),
    ("a transposed list", call("ConvTranspose", (1, 1), (1, 1)), "expected N×C×… twice"),
    ("strides of one axis", call("Conv", IMAGE, _KERNEL, strides=(1,)), "do not fit the axes"),
    ("strides and dilations of one axis",
     call("Conv", IMAGE, _KERNEL, strides=(1,), dilations=(1,)), "do not fit the axes"),
    ("dilations of one axis", call("Conv", IMAGE, _KERNEL, dilations=(1,)), "do not fit the axes"),
    ("pads of one axis", call("Conv", IMAGE, _KERNEL, pads=(1, 1)), "do not fit the axes"),
    ("two kinds of pads", call("Conv", IMAGE, _KERNEL, auto_pad="SAME_UPPER", pads=(1, 1, 1, 1)),
     "auto_pad and pads"),
    ("pads and dilations", call("Conv", IMAGE, _KERNEL, auto_pad="VALID", dilations=(2, 2)),
     "auto_pad and pads"),
    ("a large kernel", call("Conv", IMAGE, (3, 4, 7, 7)), "larger than the image"),
    ("a kernel of other sizes", call("Conv", IMAGE, _KERNEL, kernel_shape=(2, 2)), "differs"),
    ("a kernel of other axes", call("Conv", IMAGE, (3, 4, 3)), "expected N×C×… twice"),
    ("a bias of other channels", call("Conv", IMAGE, _KERNEL, (4,)), "the bias does not fit"),
    ("other channels", call("Conv", IMAGE, (3, 2, 3, 3)), "channels in 1 groups"),
    ("groups of other channels", call("Conv", IMAGE, (3, 2, 3, 3), group=2), "in 2 groups"),
    ("transposed channels", call("ConvTranspose", IMAGE, (3, 2, 3, 3)), "do not fit"),
    ("transposed groups", call("ConvTranspose", (2, 3, 6, 6), (3, 2, 3, 3), group=2), "not fit"),
    ("a transposed bias", call("ConvTranspose", IMAGE, (4, 2, 3, 3), (4,)), "do not fit"),
    ("output_padding of one axis", call("ConvTranspose", IMAGE, (4, 2, 3, 3), output_padding=(1,)),
     "do not fit"),
    ("a large output_padding", call("ConvTranspose", IMAGE, (4, 2, 3, 3), output_padding=(1, 1)),
     "a large output_padding"),
    ("an output_shape", call("ConvTranspose", IMAGE, (4, 2, 3, 3), output_shape=(8, 8)),
     "not supported"),
    ("a transposed auto_pad", call("ConvTranspose", IMAGE, (4, 2, 3, 3), auto_pad="VALID"),
     "not supported"),
    ("all cropped", call("ConvTranspose", IMAGE, (4, 2, 3, 3), pads=(4, 4, 4, 4)), "the padding"),
    ("a pool over a list", call("MaxPool", (2, 4), kernel_shape=()), "expected N×C×…"),
    ("pads of a whole window", call("MaxPool", IMAGE, kernel_shape=(2, 2), pads=(2, 0, 0, 0)),
     "pads (2, 0, 0, 0)"),
    ("a global pool over a list", call("GlobalAveragePool", (2, 4)), "expected N×C×…"),
    ("three axes in a product", call("Gemm", (1, 2, 3), (3, 4)), "expected two matrices"),
    ("matrices that do not fit", call("Gemm", (2, 3), (4, 5)), "the matrices do not fit"),
    ("transposed matrices", call("Gemm", (2, 3), (3, 4), transB=1), "the matrices do not fit"),
    ("a bias of more rows", call("Gemm", (1, 3), (3, 4), (2, 4)), "the bias does not fit"),
    ("scalars", call("MatMul", (), (3, 4)), "expected no scalars"),
    ("a product that does not fit", call("MatMul", (2, 3), (4, 5)), "the matrices do not fit"),
    ("a zero point per row", call("MatMulInteger", (2, 3), (3, 4), (2,)), "a zero point"),
    ("a zero point of others", call("MatMulInteger", (2, 3), (3, 4), (), (3,)), "a zero point"),
    ("a zero point per pixel", call("ConvInteger", IMAGE, _KERNEL, (), (4,)), "a zero point"),
    ("no equation", call("Einsum", (2,), equation="i"), "equation"),
    ("a long equation", call("Einsum", (2,), equation="i->" + "i" * 300), "equation"),
    ("a term too many", call("Einsum", (2,), equation="i,j->i"), "2 terms"),
    ("a letter too many", call("Einsum", (2,), equation="ij->i"), "the term ij"),
    ("a letter too few", call("Einsum", (2, 3), equation="i->i"), "the term i"),
    ("a diagonal", call("Einsum", (2, 2), equation="ii->i"), "a letter occurs twice"),
    ("two sizes of a letter", call("Einsum", (2,), (3,), equation="i,i->i"), "the sizes of i"),
    ("a letter from nowhere", call("Einsum", (2,), equation="i->j"), "the result j"),
    ("a letter twice in the result", call("Einsum", (2,), equation="i->ii"), "the result ii"),
    ("lost batch axes", call("Einsum", (2, 3), equation="...i->i"), "the batch axes"),
    ("endless products", call("Einsum", (1 << 20,), (1 << 20,), equation="i,j->ij"), "products"),
    ("no channels", call("InstanceNormalization", (2, 4), (4,), (4,)), "expected N×C×…"),
    ("no batch", call("BatchNormalization", (4,), *[(4,)] * 4), "expected N×C×…"),
    ("parameters of others", call("InstanceNormalization", IMAGE, (4,), (3,)), "for 4 channels"),
    ("a parameter left out", call("InstanceNormalization", IMAGE, NO, (4,)), "for 4 channels"),
    ("groups that do not fit", call("GroupNormalization", IMAGE, (4,), (4,), num_groups=3),
     "channels in 3 groups"),
    ("groups of a list", call("GroupNormalization", (2, 4), (4,), (4,), num_groups=2), "groups"),
    ("parameters per group", call("GroupNormalization", IMAGE, (2,), (2,), num_groups=2),
     "the parameters do not fit"),
    ("a scale of others", call("LayerNormalization", (2, 4), (3,)), "the parameters do not fit"),
    ("an even window", call("LRN", IMAGE, size=2), "expected N×C×H×W"),
    ("a window of a list", call("LRN", (2, 4), size=3), "expected N×C×H×W"),
    ("no sizes or scales", call("Resize", IMAGE), "either scales or sizes"),
    ("sizes and scales", call("Resize", (2, 3), NO, np.array([1.0, 2]), [2, 6]), "either scales"),
    ("empty scales and sizes", call("Resize", (2, 3), NO, np.zeros(0), np.zeros(0, int)),
     "either scales or sizes"),
    ("a region", call("Resize", (2, 3), np.array([0.0, 0, 1, 1]), NO, [2, 6]), "a region"),
    ("an aspect ratio", call("Resize", (2, 3), NO, NO, [2, 6],
                             keep_aspect_ratio_policy="not_larger"), "an aspect ratio"),
    ("sizes of other axes", call("Resize", (2, 3), NO, NO, [6]), "sizes [6]"),
    ("sizes of 0", call("Resize", (2, 3), NO, NO, [2, 0]), "sizes [2, 0]"),
    ("scales of other axes", call("Resize", (2, 3), NO, np.array([2.0])), "1 scales"),
    ("scales of an input", call("Resize", (2, 3), NO, (2,)), "depends on the values"),
    ("a negative scale", call("Resize", (2, 3), NO, np.array([1.0, -1])), "a scale that is no"),
    ("an endless scale", call("Resize", (2, 3), NO, np.array([1.0, np.inf])), "a scale that is no"),
    ("no pixels", call("Resize", (2, 3), NO, np.array([1.0, 0.1])), "no pixels are left"),
    ("a grid of other axes", call("GridSample", IMAGE, (2, 3, 3, 3)), "the shapes do not fit"),
    ("a grid of other images", call("GridSample", IMAGE, (3, 3, 3, 2)), "the shapes do not fit"),
    ("a grid of a list", call("GridSample", (2, 4, 6), (2, 3, 1)), "the shapes do not fit"),
    ("a cubic volume", call("GridSample", (1, 1, 2, 2, 2), (1, 2, 2, 2, 3), mode="cubic"),
     "the mode"),
    ("blocks", call("QuantizeLinear", (2, 4), (), block_size=2), "blocks are not supported"),
    ("a scale per row", call("QuantizeLinear", (2, 4), (2,)), "the scale does not fit"),
    ("a scale of two axes", call("QuantizeLinear", (2, 4), (1, 1)), "one scale, or one per"),
    ("a zero point of another shape", call("QuantizeLinear", (2, 4), (4,), ()), "the zero point"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_does_not_fit_is_refused(one: Call, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        sizes(one)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{one.node.op}: ")


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (call("Clip", (4,), (), ()), (4,)),
        (call("PRelu", (2, 3), (3,)), (2, 3)),
        (call("Reshape", (2, 6), [0, -1, 3]), (2, 2, 3)),
        (call("Squeeze", (1, 2, 1)), (2,)),
        (call("Unsqueeze", (2, 3), [0, -1]), (1, 2, 3, 1)),
        (call("Slice", (5,), [-1], [-9], [0], [-2]), (3,)),
        (call("Slice", (5,), [4], [-6], [0], [-1]), (5,)),
        (call("Slice", (5,), [4], [-5], [0], [-1]), (4,)),
        (call("Slice", (5,), [-9], [-1]), (4,)),
        (call("Slice", (5,), [0], [-9]), (0,)),
        (call("Slice", (5, 4), [1], [3], [-1]), (5, 2)),
        (call("GatherElements", (2, 3), (2, 1), axis=0), (2, 1)),
        (call("GatherND", (2, 3, 4), (2, 5, 1), batch_dims=1), (2, 5, 4)),
        (call("ScatterND", (2, 3), (1, 1), (1, 3)), (2, 3)),
        (call("ScatterElements", (2, 3), (2, 1), (2, 1), axis=1), (2, 3)),
        (call("Pad", (3, 4), [1, 1], NO, [-1]), (3, 6)),
        (call("Pad", (3,), [2, 2], mode="reflect"), (7,)),
        (call("Range", scalar(0), scalar(5), scalar(2)), (3,)),
        (call("OneHot", (2,), scalar(3), [0, 1], axis=0), (3, 2)),
        (call("MaxPool", IMAGE, kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1), (2, 4, 3, 3)),
        (call("Conv", IMAGE, _KERNEL, auto_pad="SAME_UPPER", strides=(2, 2)), (2, 3, 3, 3)),
        (call("ConvTranspose", IMAGE, (4, 2, 3, 3), strides=(2, 2), output_padding=(1, 1)),
         (2, 2, 14, 14)),
        (call("ConvTranspose", IMAGE, (4, 2, 3, 3), dilations=(2, 2), output_padding=(1, 1)),
         (2, 2, 11, 11)),
        (call("Gemm", (3, 2), (4, 3), (4,), transA=1, transB=1), (2, 4)),
        (call("MatMul", (3,), (5, 3, 4)), (5, 4)),
        (call("MatMulInteger", (2, 3), (3, 4), (1,), (4,)), (2, 4)),
        (call("ConvInteger", IMAGE, _KERNEL, (), (3,)), (2, 3, 4, 4)),
        (call("Einsum", (5, 2, 3), (3, 4), equation="...ij, jk -> ...ik"), (5, 2, 4)),
        (call("GroupNormalization", IMAGE, (4,), (4,), num_groups=2), IMAGE),
        (call("LayerNormalization", (2, 4), (4,), NO), (2, 4)),
        (call("Resize", (2, 3), NO, NO, [6], axes=(1,)), (2, 6)),
        (call("Resize", (2, 3), np.zeros(0), np.array([1.0, 2]), np.zeros(0, int)), (2, 6)),
        (call("GridSample", (1, 1, 2, 2, 2), (1, 3, 3, 3, 3), mode="nearest"), (1, 1, 3, 3, 3)),
        (call("QuantizeLinear", (2, 4), (4,), (4,)), (2, 4)),
        (call("QuantizeLinear", (2, 4), (1,), (1,)), (2, 4)),
    ],
)  # fmt: skip
def test_what_fits_has_the_size_of_onnx(one: Call, expected: Shape) -> None:
    assert sizes(one)[0] == expected


def test_only_small_values_of_known_inputs_are_computed() -> None:
    small = call("Add", [1, 2], [3, 4])
    np.testing.assert_array_equal(compute(small, INT64, (2,)), [4, 6])
    assert compute(call("Add", [1, 2], UNKNOWN), INT64, (2,)) is None
    assert compute(call("Sum", [1, 2], [3, 4]), INT64, (2,)) is None
    assert compute(call("Slice", [1, 2, 3], [0], [2], NO, [1]), INT64, (2,)) is None
    large = [0] * 2000
    assert compute(call("ReduceSum", large, [0], keepdims=0), INT64, ()) is None
    assert compute(call("Mul", [1 << 20], [1 << 20]), INT64, (1,)) is None
    assert compute(call("Clip", [1], NO, [3]), INT64, (1,)) is None
