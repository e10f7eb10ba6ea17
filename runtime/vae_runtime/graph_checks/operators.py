"""The operators of `ai.onnx` that a graph may use, and the ranges of their attributes.

These operators suffice for vae-export's graphs and for typical encoders and decoders of other
projects. None has a sub-graph, draws random numbers, keeps state, or handles text, sequences, maps
or files.
"""

from __future__ import annotations

_WORDS = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant
    ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det
    Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv
    QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu
    Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
ALLOWED = frozenset(_WORDS.split())

# The smallest and largest integer of an attribute. For a group, block size or count of 0,
# onnxruntime would divide by zero and crash the process.
BOUNDS: dict[str, tuple[int, int]] = {
    "group": (1, 1 << 16),
    "num_groups": (1, 1 << 16),
    "num_outputs": (1, 1 << 12),
    "blocksize": (1, 256),
    "strides": (1, 512),
    "dilations": (1, 512),
    "kernel_shape": (1, 512),
    "pads": (0, 512),
    "output_padding": (0, 512),
    "output_shape": (1, 1 << 14),
    "size": (1, 1 << 12),
    "perm": (0, 15),
    "axis": (-16, 15),
    "axes": (-16, 15),
    "batch_dims": (0, 15),
    "split": (0, 1 << 24),
    "value_int": (-(1 << 31), 1 << 31),
    "value_ints": (-(1 << 31), 1 << 31),
}
OTHER = (-(1 << 31), 1 << 31)  # any other attribute

# Element types and their sizes in bytes: float32, integers, bool, float16, float64, bfloat16.
ITEM_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
FLOAT, INT32, INT64 = 1, 6, 7

# Inputs whose values determine the output's size.
SIZES: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Tile": (1,),
}
MAX_ELEMENTS = 1 << 28  # per tensor whose size is a constant: 1 GiB of float32
# Operators that select elements of their first input; only that input can be a size.
PICKS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Squeeze", "Unsqueeze"})
DIVIDES = frozenset({"Div", "Mod"})
