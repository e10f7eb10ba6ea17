"""A graph pass: pixels leave as bytes, the nearest of 256 levels, as `images.to_uint8` rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..parity import Arrays


def to_uint8(model: onnx.ModelProto, _drawn: Arrays) -> onnx.ModelProto:
    """A copy of a decoder whose output `image` is u8[N, C, H, W], 0 to 255.

    Times 255, then QuantizeLinear with a scale of 1, which rounds half to even and saturates: the
    bytes are those that the float32 graph gives after `vae_runtime.images.to_uint8`, and one pass
    costs less than Clip, Round and Cast.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == "image":
                node.output[index] = "unit_image"
        for index, name in enumerate(node.input):
            if name == "image":
                node.input[index] = "unit_image"
    constants: dict[str, NDArray[Any]] = {
        "pixel_levels": np.array(255, np.float32),
        "pixel_step": np.array(1, np.float32),
        "pixel_zero": np.array(0, np.uint8),
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    make = helper.make_node
    quantise = ["levels", "pixel_step", "pixel_zero"]
    graph.node.extend(
        [
            make("Mul", ["unit_image", "pixel_levels"], ["levels"], name="scale"),
            make("QuantizeLinear", quantise, ["image"], name="quantise"),
        ]
    )
    graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    return result
