/**
 * What a graph may compute: operators of `ai.onnx`, and the range of their attributes. The tables
 * are those of `vae_runtime/guard/ops.py`; a test holds the two together.
 */

const WORDS = `
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
`;
export const ALLOWED = new Set(WORDS.trim().split(/\s+/));

/**
 * Whole numbers of an attribute, lowest and highest. A group, block or count of 0 divides by zero.
 *
 * @type {Map<string, number[]>}
 */
export const BOUNDS = new Map(Object.entries({
  group: [1, 65536],
  num_groups: [1, 65536],
  num_outputs: [1, 4096],
  blocksize: [1, 256],
  strides: [1, 512],
  dilations: [1, 512],
  kernel_shape: [1, 512],
  pads: [0, 512],
  output_padding: [0, 512],
  output_shape: [1, 16384],
  size: [1, 4096],
  perm: [0, 15],
  axis: [-16, 15],
  axes: [-16, 15],
  batch_dims: [0, 15],
  split: [0, 16777216],
  value_int: [-(2 ** 31), 2 ** 31],
  value_ints: [-(2 ** 31), 2 ** 31],
}));
export const OTHER = [-(2 ** 31), 2 ** 31]; // any attribute that is not above

/** @type {Record<number, number>} element types and their bytes */
export const ITEM_SIZES = { 1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2 };

/** @type {Record<string, number[]>} inputs whose values say how large a result becomes */
export const SIZES = {
  ConstantOfShape: [0],
  Expand: [1],
  OneHot: [1],
  Pad: [1],
  Range: [0, 1, 2],
  Reshape: [1],
  Resize: [2, 3],
  Tile: [1],
};
export const MAX_ELEMENTS = 2 ** 28; // that one constant may ask for: a gigabyte of float32
// Of these, the first input alone is a size; the others say which part of it.
export const PICKS = new Set(["Gather", "GatherElements", "GatherND", "Slice", "Squeeze", "Unsqueeze"]);
export const DIVIDES = new Set(["Div", "Mod"]);
