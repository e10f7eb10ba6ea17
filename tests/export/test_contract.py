"""The contract of a graph: a violation of each rule, opsets, and reproducible bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

from vae_export import export_checkpoint
from vae_export.contract import check_contract, write_model
from vae_export.graphs import Graph
from vae_runtime.bundle.spec import GraphSpec
from vae_runtime.errors import InputError, IntegrityError, UsageError

Change = Callable[[onnx.ModelProto], Any]


@pytest.fixture
def graph(exported_of: Any) -> tuple[onnx.ModelProto, str, GraphSpec]:
    """The arguments of `check_contract` for a valid decoder."""
    exported = exported_of("vae-mlp")
    model = onnx.load_from_string(exported.files["decoder.onnx"])
    return model, "decoder", exported.manifest.graph("decoder")


def test_an_exported_graph_passes(graph: Any) -> None:
    check_contract(*graph)


def store_outside(model: onnx.ModelProto) -> None:
    entry = StringStringEntryProto(key="location", value="weights.bin")
    model.graph.initializer[0].external_data.append(entry)


BROKEN: dict[str, tuple[Change, str]] = {
    "opset": (
        lambda m: setattr(m.opset_import[0], "version", 17),
        "operator sets {'ai.onnx': 17}, expected only ai.onnx 18",
    ),
    "domain": (
        lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        "operator sets {'ai.onnx': 18, 'com.microsoft': 1}, expected only ai.onnx 18",
    ),
    "ir": (lambda m: setattr(m, "ir_version", 10), "IR version 10, expected 8"),
    "input name": (
        lambda m: setattr(m.graph.input[0], "name", "x"),
        "inputs ['x'], expected ['z']",
    ),
    "output dtype": (
        lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
        "image is element type 11, expected float32",
    ),
    "fixed batch": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2),
        "z has shape [2, 16], expected ['batch', 16]",
    ),
    "shape": (
        lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[2], "dim_value", 9),
        "image has shape ['batch', 1, 9, 8], expected ['batch', 1, 8, 8]",
    ),
    "operator": (
        lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"),
        "operator com.microsoft.Gemm is not in ai.onnx",
    ),
    "random": (
        lambda m: setattr(m.graph.node[1], "op_type", "RandomNormalLike"),
        "operator RandomNormalLike is random",
    ),
    "no shape": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
        "z has shape [], expected ['batch', 16]",
    ),
    "external": (
        lambda m: setattr(m.graph.initializer[0], "data_location", TensorProto.EXTERNAL),
        "weight WEIGHT is stored outside the file",
    ),
    "external location": (store_outside, "weight WEIGHT is stored outside the file"),
    "function": (
        lambda m: m.functions.append(
            helper.make_function("own", "f", ["a"], ["b"], [], [helper.make_opsetid("", 18)])
        ),
        "contains the function f",
    ),
    "path": (
        lambda m: setattr(m.graph.node[0], "doc_string", "made in /a/b/model.py"),
        "contains the path-like string 'made in /a/b/model.py'",
    ),
    "windows path": (
        lambda m: m.metadata_props.append(StringStringEntryProto(key="from", value="C:\\models")),
        "contains the path-like string 'C:\\\\models'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_violated_rule_is_named(graph: Any, name: str) -> None:
    model = graph[0]
    change, text = BROKEN[name]
    change(model)
    with pytest.raises(IntegrityError) as caught:
        check_contract(*graph)
    text = text.replace("WEIGHT", model.graph.initializer[0].name)
    assert str(caught.value) == f"decoder: {text}. The graph was not written."


@pytest.mark.parametrize("many", [False, True])
def test_a_subgraph_is_refused(many: bool, graph: Any) -> None:
    inner = helper.make_graph([], "inner", [], [])
    attribute = helper.make_attribute("body", [inner, inner] if many else inner)
    graph[0].graph.node[0].attribute.append(attribute)
    with pytest.raises(IntegrityError, match=r"^decoder: operator Gemm contains a subgraph"):
        check_contract(*graph)


def test_onnx_checker_checks_the_rest(graph: Any) -> None:
    graph[0].graph.node[0].input[0] = "gone"
    with pytest.raises(IntegrityError, match=r"^decoder: onnx\.checker rejects it: "):
        check_contract(*graph)


def test_a_model_of_another_opset_is_not_written(exported_of: Any) -> None:
    exported = exported_of("vae-mlp")
    model = onnx.load_from_string(exported.files["decoder.onnx"])
    decoder = Graph("decoder", torch.nn.Identity(), ("z",), ("image",))
    written, spec = write_model(model, decoder, exported.manifest.spec)
    assert (written, spec.opset) == (exported.files["decoder.onnx"], 18)
    with pytest.raises(IntegrityError, match=r"sets {'ai\.onnx': 18}, expected only ai\.onnx 19"):
        write_model(model, decoder, exported.manifest.spec, opset=19)


def test_a_model_that_the_runtime_would_refuse_is_not_written(exported_of: Any) -> None:
    exported = exported_of("vae-mlp")
    model = onnx.load_from_string(exported.files["decoder.onnx"])
    (last,) = (node for node in model.graph.node if node.output[0] == "image")
    last.CopyFrom(helper.make_node("LpNormalization", last.input, last.output, axis=99))
    decoder = Graph("decoder", torch.nn.Identity(), ("z",), ("image",))
    with pytest.raises(InputError, match=r"^decoder: .*axis"):
        write_model(model, decoder, exported.manifest.spec)


def check_opset(checkpoint: Any, opset: int) -> None:
    exported = export_checkpoint(checkpoint, None, opset=opset)
    for spec in exported.manifest.graphs:
        model = onnx.load_from_string(exported.files[spec.file.file])
        assert [o.version for o in model.opset_import] == [opset] == [spec.opset]
        assert model.ir_version == spec.ir


@pytest.mark.parametrize("opset", [19, 21, 23])
def test_opsets_pass_the_parity_check(checkpoint_of: Any, opset: int) -> None:
    check_opset(checkpoint_of("cvae-conv"), opset)


@pytest.mark.slow
@pytest.mark.parametrize("opset", range(18, 24))
@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_every_opset_of_every_model(
    checkpoint_of: Any, family: str, backbone: str, opset: int
) -> None:
    check_opset(checkpoint_of(f"{family}-{backbone}"), opset)


@pytest.mark.parametrize("opset", [17, 24])
def test_other_opsets_are_refused(checkpoint_of: Any, opset: int) -> None:
    with pytest.raises(UsageError) as caught:
        export_checkpoint(checkpoint_of("vae-mlp"), None, opset=opset)
    assert str(caught.value) == f"opset is {opset}, expected 18 to 23"


def test_the_id_follows_from_the_weights(exported_of: Any, checkpoint_of: Any) -> None:
    checkpoint = checkpoint_of("vae-mlp")
    state = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    state["decoder.head.bias"][0] += 0.5
    other = export_checkpoint(replace(checkpoint, state=state), None)
    assert other.manifest.spec.id != exported_of("vae-mlp").manifest.spec.id


MAIN = "from vae_export.cli import main; main()"


def test_two_processes_in_two_folders_write_the_same_bytes(saved: Any, tmp_path: Path) -> None:
    source = saved("cvae-mlp").read_bytes()
    command = [sys.executable, "-c", MAIN, "--ckpt", "c.pt", "--data", "digits"]
    command += ["--variant", "int8", "--variant", "fp16", "--variant", "uint8"]
    running = []
    for seed, name in (("1", "a"), ("77", "some/where else")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "c.pt").write_bytes(source)
        environment = os.environ | {"PYTHONHASHSEED": seed}
        running.append((folder, subprocess.Popen(command, cwd=folder, env=environment)))
    found = []
    for folder, process in running:
        assert process.wait(300) == 0
        found.append({path.name: path.read_bytes() for path in sorted((folder / "c").iterdir())})
    assert list(found[0]) == list(found[1])
    assert "conditional_decoder.int8.onnx" in found[0]
    for name, raw in found[0].items():
        assert raw == found[1][name], name
    for raw in found[0].values():
        assert str(tmp_path).encode() not in raw


def test_no_weight_is_stored_twice(exported_of: Any) -> None:
    for name, raw in exported_of("cvae-conv").files.items():
        if name.endswith(".onnx"):
            tensors = onnx.load_from_string(raw).graph.initializer
            large = [t.raw_data for t in tensors if np.prod(t.dims) > 64]
            assert len(large) == len(set(large)), name
            assert numpy_helper.to_array(tensors[0]).size
