"""A graph pass: pixels leave as bytes, the nearest of 256 levels, as `images.to_uint8` rounds."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .parity import Arrays


def to_uint8(model: onnx.ModelProto, _drawn: Arrays) -> onnx.ModelProto:
    """A copy of a decoder whose output `image` is u8[N, C, H, W], 0 to 255.

    Clip, times 255, round half to even, cast: each exact in float32, so the bytes are those that
    the float32 graph gives after `vae_runtime.images.to_uint8`.
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
    constants = {"pixel_low": 0.0, "pixel_high": 1.0, "pixel_levels": 255.0}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in constants.items()
    )
    make = helper.make_node
    graph.node.extend(
        [
            make("Clip", ["unit_image", "pixel_low", "pixel_high"], ["clipped"], name="clip"),
            make("Mul", ["clipped", "pixel_levels"], ["levels"], name="scale"),
            make("Round", ["levels"], ["whole_levels"], name="round"),
            make("Cast", ["whole_levels"], ["image"], name="cast", to=TensorProto.UINT8),
        ]
    )
    graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    return result
