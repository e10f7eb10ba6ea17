"""A custom MLServer runtime that decodes and samples with the Open Inference Protocol.

`parameters.extra.bundle` in model-settings.json names the bundle. A request has one of two inputs:
latents `z` FP32 [N, *latent_shape], which are decoded, or `noise` FP32 [N, D + 1], standard normals
that the prior turns into latents, as `sampler.onnx` does. For a model with classes, it may add
`label` as INT64 [N] or as class names BYTES [N]. Output: `image` FP32 [N, C, H, W] in [0, 1], and
for noise the latents `z` as well.
"""

from __future__ import annotations

import asyncio

import numpy as np
from mlserver import MLModel
from mlserver.codecs import CodecError, NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, RequestInput

import vae_runtime as vae

MAX_ROWS = 1024  # per request; 4 MB of 28×28 images


class VaeRuntime(MLModel):
    """One model for all requests; decoding runs in a thread and does not block the event loop."""

    async def load(self) -> bool:
        """Open the bundle, set the metadata and decode once to warm up."""
        extra = (self.settings.parameters and self.settings.parameters.extra) or {}
        self._model = vae.load(extra.get("bundle", "mnist"), device="cpu")
        spec = self._model.spec
        z = MetadataTensor(name="z", datatype="FP32", shape=[-1, *spec.latent_shape])
        noise = MetadataTensor(name="noise", datatype="FP32", shape=[-1, spec.latent_dim + 1])
        label = MetadataTensor(name="label", datatype="INT64", shape=[-1])
        image = MetadataTensor(name="image", datatype="FP32", shape=[-1, *spec.image.shape])
        self.inputs = [z, noise, label] if spec.classes else [z, noise]
        self.outputs = [image, z]
        self._model.decode(np.zeros(spec.latent_shape, np.float32), 0 if spec.classes else None)
        return True

    async def unload(self) -> bool:
        """Free the memory."""
        self._model.close()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Decode or sample. A wrong request is answered with status 400 and one line."""
        given = {tensor.name: tensor for tensor in payload.inputs}
        known = {tensor.name for tensor in self.inputs or []}
        source = given.keys() & {"z", "noise"}
        if len(given) < len(payload.inputs) or len(source) != 1 or not given.keys() <= known:
            names = ", ".join(sorted(tensor.name for tensor in payload.inputs))
            expected = "z or noise" + (", and label" if "label" in known else "")
            raise InferenceError(f"inputs: {names or 'none'}, expected {expected}")
        (name,) = source
        rows = _array(given[name], "FP32")
        if rows.ndim < 2 or len(rows) > MAX_ROWS:
            raise InferenceError(f"{name}: {list(rows.shape)}, expected at most {MAX_ROWS} rows")
        try:
            label = _labels(given["label"]) if "label" in given else None
            outputs = await asyncio.to_thread(self._run, name, rows, label)
        except vae.VaeError as error:
            raise InferenceError(str(error)) from error
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name, rows) for name, rows in outputs.items()],
        )

    def _run(
        self, name: str, rows: np.ndarray, label: np.ndarray | list[str] | None
    ) -> dict[str, np.ndarray]:
        if name == "z":
            return {"image": self._model.decode(rows, label)}
        spec = self._model.spec
        z = spec.prior.transform(rows, label).reshape(-1, *spec.latent_shape)
        return {"image": self._model.decode(z, label), "z": z}


def _array(tensor: RequestInput, datatype: str) -> np.ndarray:
    if tensor.datatype != datatype:
        raise InferenceError(f"{tensor.name}: {tensor.datatype}, expected {datatype}")
    try:
        return NumpyCodec.decode_input(tensor)
    except (ValueError, TypeError, OverflowError, CodecError) as error:
        reason = " ".join(str(error).split())
        raise InferenceError(f"{tensor.name}: does not fit {tensor.shape}: {reason}") from error


def _labels(tensor: RequestInput) -> np.ndarray | list[str]:
    if tensor.datatype != "BYTES":
        return _array(tensor, "INT64").reshape(-1)
    try:
        return StringCodec.decode_input(tensor)
    except (ValueError, TypeError) as error:
        raise InferenceError("label: expected class names in UTF-8") from error
