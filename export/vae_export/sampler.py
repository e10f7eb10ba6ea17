"""Build the sampler graphs: standard normals in, images and latents out.

The prior becomes a few nodes in front of a decoder, so that any ONNX runtime can generate images
without reading metadata. `Prior.transform` is the same computation in NumPy, and each graph is
compared with it and with the decoder, which the parity check has compared with torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vae_runtime.bundle.spec import GraphSpec, ModelSpec
from vae_runtime.errors import IntegrityError
from vae_runtime.inference.session import Session
from vae_runtime.prior import BELOW_ONE, Prior
from vae_runtime.rng import normal_cdf

from .contract import write_model
from .graphs import Graph
from .reference import Arrays

MAX_DECODER = 64 << 20  # bytes; larger decoders are not repeated in a sampler unless asked for
TOLERANCE = 1e-6  # of the latents, relative to the largest one above 1, and of the pixels
_PREFIX = "prior_"  # of all names, so that none is a name of the decoder's
_EDGE = 1e-4  # a component is not picked by noise this close to two of them
_BATCHES = (0, 1, 7)


@dataclass(frozen=True)
class Samplers:
    """Sampler graphs, one for each variant of the decoder.

    Attributes:
        specs: their entries for the manifest.
        files: their contents, by name.
        errors: the largest error of the latents and of the pixels, by graph and output.
    """

    specs: list[GraphSpec]
    files: dict[str, bytes]
    errors: dict[str, float]

    def line(self) -> str:
        """Describe the result in one line."""
        worst = max(self.errors.values())
        return f"sampler: the prior and the decoder in one graph, max error {worst:.1e}"


def make_samplers(
    decoder: Graph, decoders: list[tuple[GraphSpec, bytes]], spec: ModelSpec, rows: Arrays
) -> Samplers:
    """Build and check a sampler for each variant of a decoder.

    Args:
        decoder: the decoder's graph; for a conditional model, the one that takes a label.
        decoders: its variants, as they were written.
        spec: the model.
        rows: noise and, for a conditional model, labels, from `sampler_rows`.

    Raises:
        IntegrityError: a sampler differs from the prior or from the decoder.
    """
    inputs = ("noise", *decoder.inputs[1:])
    graph = replace(decoder, role="sampler", inputs=inputs, outputs=("image", "z"))
    made = Samplers([], {}, {})
    for decoder_spec, decoder_raw in decoders:
        model = sampler_model(onnx.load_from_string(decoder_raw), spec)
        raw, graph_spec = write_model(model, graph, spec, decoder_spec.variant, decoder_spec.opset)
        made.errors.update(_check(raw, decoder_raw, graph_spec, spec, rows))
        made.specs.append(graph_spec)
        made.files[graph_spec.file.file] = raw
    return made


def sampler_rows(spec: ModelSpec, n: int, seed: int = 0) -> Arrays:
    """Draw inputs of a sampler, f32[≤ n, D + 1] and i64[≤ n], some of them at 0 and ±6.

    Noise that is about to pick another component is left out, as float32 may pick either.
    """
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n, spec.latent_dim + 1)).astype(np.float32)
    noise[: min(3, n)] = np.array([[0], [6], [-6]])[: min(3, n)]
    label = np.arange(n, dtype=np.int64) % (len(spec.classes) + 1)
    if spec.prior.weights is not None:
        picks = normal_cdf(noise[:, :1].astype(np.float64))[:, :, None]
        apart = np.abs(picks - spec.prior.cumulative_weights).min(axis=(1, 2)) > _EDGE
        kept = apart | (np.arange(n) == 0)
        noise, label = noise[kept], label[kept]
    return {"noise": noise, "label": label} if spec.classes else {"noise": noise}


def _check(
    raw: bytes, decoder_raw: bytes, graph: GraphSpec, spec: ModelSpec, rows: Arrays
) -> dict[str, float]:
    """Compare a sampler with the prior and the decoder; return its errors."""
    label = rows.get("label")
    expected = spec.prior.transform(rows["noise"], label).reshape(-1, *spec.latent_shape)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    levels = 255 if graph.variant == "uint8" else 1
    found: dict[str, list[float]] = {"z": [], "image": []}
    with Session(raw, device="cpu") as sampler, Session(decoder_raw, device="cpu") as decoder:
        for n in (*_BATCHES, len(expected)):
            part = {name: values[:n] for name, values in rows.items()}
            image, z = sampler.run(["image", "z"], **part)
            if n == 0:
                continue
            inputs = {"z": z} if label is None else {"z": z, "label": part["label"]}
            (decoded,) = decoder.run(["image"], **inputs)
            found["z"].append(np.abs(z - expected[:n]).max() / scale)
            found["image"].append(np.abs(image.astype(np.float64) - decoded).max() / levels)
    worst = {name: float(np.max(errors)) for name, errors in found.items()}  # a NaN is the largest
    for name, error in worst.items():
        if not error <= TOLERANCE:
            raise IntegrityError(
                f"{graph.file.file}.{name}: error {error:.3g} over tolerance {TOLERANCE:g}, "
                "compared with the prior and the decoder. The graph was not written."
            )
    name = graph.file.file.removesuffix(".onnx")
    return {f"{name}.{output}": float(f"{error:.3g}") for output, error in worst.items()}


def sampler_model(decoder: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """Put the prior in front of a decoder.

    Args:
        decoder: a decoder graph; for a conditional model, the one that takes a label.
        spec: the model, with its prior and the shape of its latents.

    Returns:
        A model with the inputs `noise` f32[N, D + 1] and, as the decoder, `label` i64[N], and the
        outputs `image` and `z` f32[N, *latent_shape].
    """
    model = onnx.ModelProto()
    model.CopyFrom(decoder)
    graph = model.graph
    builder = _Builder()
    flat = _latents(builder, spec.prior)
    shape = builder.constant(np.array([-1, *spec.latent_shape], np.int64))
    builder.nodes.append(helper.make_node("Reshape", [flat, shape], ["z"], name=f"{_PREFIX}z"))
    nodes = [*builder.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(builder.initializers)
    (latents,) = [value for value in graph.input if value.name == "z"]
    noise = helper.make_tensor_value_info(
        "noise", TensorProto.FLOAT, ["batch", spec.latent_dim + 1]
    )
    rest = [value for value in graph.input if value.name != "z"]
    outputs = [*graph.output, latents]
    del graph.input[:], graph.output[:]
    graph.input.extend([noise, *rest])
    graph.output.extend(outputs)
    return model


@dataclass
class _Builder:
    """Nodes and initializers in the order in which they are added."""

    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def constant(self, values: NDArray[Any]) -> str:
        """Add an initializer; float64 becomes float32."""
        values = values.astype(np.float32) if values.dtype == np.float64 else values
        name = f"{_PREFIX}c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def __call__(self, operator: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        """Add a node; arrays among its inputs become initializers."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        output = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output


def _latents(add: _Builder, prior: Prior) -> str:
    """Add the nodes from `noise` to latents f32[N, D]; return the name of the latents."""
    columns = np.array([1]), np.array([prior.latent_dim + 1]), np.array([1])
    eps = add("Slice", "noise", *columns)
    if prior.low is not None and prior.high is not None:
        middle, half = (prior.low + prior.high) / 2, (prior.high - prior.low) / 2
        signed = add("Erf", add("Mul", eps, np.array(1 / sqrt(2))))  # 2 Φ - 1
        return add("Add", add("Mul", signed, half), middle)
    if prior.weights is None:
        return eps
    if prior.center is None or prior.directions is None or prior.residual is None:
        return _mixture(add, prior, eps)
    projected = add("MatMul", eps, prior.directions.T)
    along = add("MatMul", _mixture(add, prior, projected), prior.directions)
    rest = add("Sub", eps, add("MatMul", projected, prior.directions))
    return add("Add", add("Add", along, prior.center), add("Mul", rest, prior.residual))


def _mixture(add: _Builder, prior: Prior, eps: str) -> str:
    """Compute mean + L·eps of the component that the first column of the noise picks."""
    assert prior.weights is not None
    assert prior.mean is not None
    count, k = prior.weights.size, prior.coordinates
    factors, means = prior.factors.reshape(count, k, k), prior.mean.reshape(count, k)
    if count == 1:
        return add("Add", add("MatMul", eps, factors[0].T), means[0])
    place = _component(add, prior)
    spread = add("MatMul", add("Gather", factors, place), add("Unsqueeze", eps, np.array([2])))
    return add("Add", add("Squeeze", spread, np.array([2])), add("Gather", means, place))


def _component(add: _Builder, prior: Prior) -> str:
    """Find the component, i64[N], counted over all rows of the prior."""
    assert prior.weights is not None
    m, cumulative = prior.weights.shape[1], prior.cumulative_weights
    first = add("Slice", "noise", np.array([0]), np.array([1]), np.array([1]))
    phi = add("Erf", add("Mul", first, np.array(1 / sqrt(2))))
    uniform = add("Mul", add("Add", phi, np.array(1.0)), np.array(0.5))
    uniform = add("Min", uniform, np.array(BELOW_ONE))
    per_class = prior.kind == "class_gmm"
    edges = add("Gather", cumulative, "label") if per_class else add.constant(cumulative)
    above = add("Cast", add("GreaterOrEqual", uniform, edges), to=TensorProto.INT64)
    component = add("ReduceSum", above, np.array([1]), keepdims=0)
    if not per_class:
        return component
    return add("Add", component, add("Mul", "label", np.array(m)))
