"""Serve a bundle's decoder in Triton's Python backend, without the onnxruntime backend.

Copy this file next to `model.onnx` in the version folder that `vae-export --triton` wrote, and set
`backend: "python"` in config.pbtxt. A wrong request is answered with the runtime's error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

import vae_runtime as vae


class TritonPythonModel:
    """The class that the backend loads; one instance, which one thread calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the decoder in the folder of this file."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self.decoder = vae.Decoder(folder / "model.onnx", device="cpu")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Decode each request. The server has already batched requests that fit together."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Free the memory."""
        self.decoder.close()

    def _answer(self, request: Any) -> Any:
        z = pb_utils.get_input_tensor_by_name(request, "z").as_numpy()
        label = pb_utils.get_input_tensor_by_name(request, "label")
        try:
            # Triton has no scalars, so labels have the shape [N, 1].
            images = self.decoder(z, None if label is None else label.as_numpy().reshape(-1))
        except vae.VaeError as error:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            )
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", images)])
