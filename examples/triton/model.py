"""A bundle's decoder in Triton's Python backend: for a server without the onnxruntime backend.

Lies beside `model.onnx` in the version folder that `vae-export --triton` wrote, with
`backend: "python"` in its config.pbtxt. A wrong request gets the runtime's one line as its error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

import vae_runtime as vae


class TritonPythonModel:
    """What the backend looks for; one instance, called from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the decoder that lies beside this file."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self.decoder = vae.Decoder(folder / "model.onnx", device="cpu")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Decode each request; they were batched by the server already where they fit."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Give the memory back."""
        self.decoder.close()

    def _answer(self, request: Any) -> Any:
        z = pb_utils.get_input_tensor_by_name(request, "z").as_numpy()
        label = pb_utils.get_input_tensor_by_name(request, "label")
        try:
            # Triton has no scalars, so labels come as [N, 1].
            images = self.decoder(z, None if label is None else label.as_numpy().reshape(-1))
        except vae.VaeError as error:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            )
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", images)])
