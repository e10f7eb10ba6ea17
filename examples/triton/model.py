"""Serve a bundle's decoder or sampler in Triton's Python backend, without the onnxruntime backend.

Copy this file next to `model.onnx` in the version folder that `vae-export --triton` wrote, and set
`backend: "python"` in config.pbtxt. A wrong request is answered with the runtime's error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

import vae_runtime as vae


class TritonPythonModel:
    """The class that the backend loads; one instance, which one thread calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph in the folder of this file."""
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        inputs = [tensor["name"] for tensor in json.loads(args["model_config"])["input"]]
        self.source = "noise" if "noise" in inputs else "z"
        self.graph = (vae.Sampler if self.source == "noise" else vae.Decoder)(path, device="cpu")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request. The server has already batched requests that fit together."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Free the memory."""
        self.graph.close()

    def _answer(self, request: Any) -> Any:
        rows = pb_utils.get_input_tensor_by_name(request, self.source).as_numpy()
        given = pb_utils.get_input_tensor_by_name(request, "label")
        # Triton has no scalars, so labels have the shape [N, 1].
        label = None if given is None else given.as_numpy().reshape(-1)
        try:
            outputs = {"image": self.graph(rows, label)}
            if self.source == "noise":
                z = self.graph.spec.prior.transform(rows, label)
                outputs["z"] = z.reshape(-1, *self.graph.spec.latent_shape)
        except vae.VaeError as error:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            )
        tensors = [pb_utils.Tensor(name, values) for name, values in outputs.items()]
        return pb_utils.InferenceResponse(tensors)
