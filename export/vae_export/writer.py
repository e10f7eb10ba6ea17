"""One ONNX model to the bytes of one `.onnx` file: the spec added, the contract checked."""

from __future__ import annotations

import hashlib
import json

import onnx

from vae_runtime.bundle.checksums import graph_with_checksum
from vae_runtime.bundle.spec import METADATA_KEY, FileSpec, GraphSpec, ModelSpec, TensorSpec
from vae_runtime.graph_checks import check_graph

from .contract import Contract, check_contract
from .graphs import Graph
from .trace import IR_VERSIONS

PRODUCER = "vae-onnx"


def write_model(
    model: onnx.ModelProto, graph: Graph, spec: ModelSpec, variant: str = "fp32", opset: int = 18
) -> tuple[bytes, GraphSpec]:
    """Stamp a model with its bundle's spec and check it.

    Args:
        model: changed in place.
        graph: its role and its tensors' names.
        spec: stored in the file's metadata.
        variant: `fp32`, `fp16`, `int8` or `uint8`.
        opset: that `model` must have.

    Returns:
        The bytes of a self-contained ONNX file, and what the manifest says of it.

    Raises:
        IntegrityError: the model is something else than the bundle format allows.
        InputError: it computes something that the runtime refuses.
    """
    _normalise(model, graph, spec, variant)
    inputs, outputs = (
        tuple(_tensor(name, spec, variant) for name in names)
        for names in (graph.inputs, graph.outputs)
    )
    label = graph.role if variant == "fp32" else f"{graph.role}.{variant}"
    check_contract(model, Contract(label, inputs, outputs, opset, IR_VERSIONS[opset]))
    raw = graph_with_checksum(model.SerializeToString(deterministic=True))
    check_graph(raw, label)
    file = file_spec(f"{label}.onnx", raw)
    graph_spec = GraphSpec(graph.role, variant, file, opset, IR_VERSIONS[opset], inputs, outputs)
    return raw, graph_spec


def file_spec(name: str, raw: bytes) -> FileSpec:
    """What the manifest says of a file's bytes."""
    return FileSpec(name, len(raw), hashlib.sha256(raw).hexdigest())


def digest(models: list[onnx.ModelProto], spec: ModelSpec) -> str:
    """Sixteen hexadecimal digits that follow from all graphs and from the spec, its id aside.

    Each graph carries the id, so it is taken before any graph is stamped.
    """
    total = hashlib.sha256(json.dumps(spec.to_json() | {"id": ""}, sort_keys=True).encode())
    for model in models:
        total.update(model.SerializeToString(deterministic=True))
    return total.hexdigest()[:16]


def _tensor(name: str, spec: ModelSpec, variant: str) -> TensorSpec:
    shape: tuple[int | str, ...] = ("batch", spec.latent_dim)
    if name == "image":
        shape = ("batch", *spec.image.shape)
    elif name == "label":
        shape = ("batch",)
    kind = "int64" if name == "label" else "float32"
    return TensorSpec(name, "uint8" if (name, variant) == ("image", "uint8") else kind, shape)


def _normalise(model: onnx.ModelProto, graph: Graph, spec: ModelSpec, variant: str) -> None:
    """Leave nothing that depends on where, when or by which version the file was made."""
    model.producer_name = PRODUCER
    model.producer_version = ""
    model.doc_string = ""
    model.graph.name = graph.role
    model.graph.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_param = "batch"
    own = spec.to_json() | {"role": graph.role, "variant": variant}
    text = json.dumps(own, separators=(",", ":"), ensure_ascii=False)
    model.metadata_props.add(key=METADATA_KEY, value=text)
