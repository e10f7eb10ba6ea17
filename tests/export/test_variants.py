"""Variants: their operators, their quality, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vae_export import export_checkpoint
from vae_export.precision import variants
from vae_export.precision.int8 import LEVELS, round_columns
from vae_export.precision.variants import VariantResult, to_uint8_output
from vae_runtime.bundle.manifest import Manifest
from vae_runtime.bundle.spec import METADATA_KEY, parse_spec
from vae_runtime.errors import IntegrityError, UsageError
from vae_runtime.images import to_uint8
from vae_runtime.inference.session import Session

MODELS = ("vae-mlp", "cvae-conv")


def rows(exported: Any, n: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    spec = exported.manifest.spec
    label = np.arange(n, dtype=np.int64) % (len(spec.classes) + 1)
    return {"z": spec.prior.sample(n, label if spec.classes else None, seed=5), "label": label}


def run(exported: Any, file: str, n: int) -> Any:
    spec = next(g for g in exported.manifest.graphs if g.file.file == file)
    inputs = {t.name: rows(exported, n)[t.name] for t in spec.inputs}
    with Session(exported.files[file], device="cpu") as session:
        return session.run(["image"], **inputs)[0]


@pytest.mark.parametrize("name", MODELS)
def test_files_specs_and_manifest_agree(exported_of: Any, name: str) -> None:
    exported = exported_of(name)
    again = Manifest.from_bytes(exported.manifest.to_bytes(), "again")
    assert again.graphs == exported.manifest.graphs
    variants = {"fp32", "fp16", "uint8"} | ({"int8"} if name.endswith("mlp") else set())
    for role in ("decoder", *(["conditional_decoder"] if name.startswith("cvae") else [])):
        assert {g.variant for g in again.graphs if g.role == role} == variants
    for graph_spec in again.graphs:
        suffix = "" if graph_spec.variant == "fp32" else f".{graph_spec.variant}"
        assert graph_spec.file.file == f"{graph_spec.role}{suffix}.onnx"
        model = onnx.load_from_string(exported.files[graph_spec.file.file])
        text = {p.key: p.value for p in model.metadata_props}[METADATA_KEY]
        spec, role, variant = parse_spec(text, "graph")
        assert (spec.id, role, variant) == (again.spec.id, graph_spec.role, graph_spec.variant)
        assert all(node.domain == "" for node in model.graph.node)
    assert set(again.parity["variants"]) == {m.graph for m in exported.variants}
    assert "ms" not in again.parity["variants"]["decoder.fp16"]  # times differ from run to run


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [0, 1, 300])
def test_uint8_is_the_rounded_fp32_graph_bit_for_bit(
    exported_of: Any, name: str, batch: int
) -> None:
    exported = exported_of(name)
    for role in ("decoder", *(["conditional_decoder"] if name.startswith("cvae") else [])):
        found = run(exported, f"{role}.uint8.onnx", batch)
        assert found.dtype == np.uint8
        assert np.array_equal(found, to_uint8(run(exported, f"{role}.onnx", batch)))


def test_uint8_rounds_every_float_near_a_half_as_numpy_does() -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch"])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph([helper.make_node("Identity", ["z"], ["image"])], "g", [z], [image])
    model = to_uint8_output(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    )
    halves = ((np.arange(-3, 260) + 0.5) / 255).astype(np.float32)
    values = np.concatenate([np.nextafter(halves, 0), halves, np.nextafter(halves, 2)])
    with Session(model.SerializeToString(), device="cpu") as session:
        assert np.array_equal(session.run(["image"], z=values)[0], to_uint8(values))


def test_int8_is_accurate_small_and_uses_seven_bits(exported_of: Any) -> None:
    exported = exported_of("vae-mlp")
    found = next(m for m in exported.variants if m.graph == "decoder.int8")
    assert found.psnr >= 45
    assert found.bytes < 0.6 * found.bytes_fp32
    ours, theirs = (run(exported, f"decoder{s}.onnx", 300) for s in ("", ".int8"))
    assert -10 * np.log10(np.square(ours - theirs).mean()) >= 45
    model = onnx.load_from_string(exported.files["decoder.int8.onnx"])
    assert [n.op_type for n in model.graph.node].count("MatMulInteger") == 2
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            # With larger weights, the sum of two products saturates on a CPU without VNNI.
            assert np.abs(numpy_helper.to_array(tensor).astype(int)).max() <= LEVELS == 63


def test_int8_rounding_with_column_scales_beats_plain_rounding() -> None:
    rng = np.random.default_rng(0)
    hidden = np.maximum(rng.standard_normal((500, 6)) @ rng.standard_normal((6, 80)), 0)
    hidden = hidden.astype(np.float32)
    weight = rng.standard_normal((80, 30)).astype(np.float32) * rng.uniform(0.1, 9, 30)
    weight = weight.astype(np.float32)
    values, scale = round_columns(weight, hidden)
    plain = np.rint(weight / scale).clip(-LEVELS, LEVELS)
    exact = hidden @ weight
    ours, theirs = (np.square(hidden @ (w * scale) - exact).mean() for w in (values, plain))
    assert values.dtype == np.int8
    assert ours < theirs / 3


def test_a_column_of_zeros_stays_zero() -> None:
    weight = np.zeros((4, 2), np.float32)
    weight[:, 1] = 1
    values, scale = round_columns(weight, np.ones((3, 4), np.float32))
    assert not values[:, 0].any()
    assert np.allclose(values[:, 1] * scale[1], 1, atol=1e-6)


def test_int8_of_a_convolutional_decoder_is_refused(checkpoint_of: Any) -> None:
    with pytest.raises(UsageError) as caught:
        export_checkpoint(checkpoint_of("ae-conv"), None, variants=("int8",))
    assert str(caught.value) == (
        "int8: decoder has 4 convolutions, which take 3.3 times as long in dynamic int8 as in "
        "float32 (measured). Use --variant fp16 or uint8."
    )


def test_int8_of_a_tiny_decoder_is_refused(checkpoint_of: Any) -> None:
    from vae_models import build

    checkpoint = checkpoint_of("vae-mlp")
    config = replace(checkpoint.model, hidden=(8,))
    tiny = replace(checkpoint, model=config, state=build(config).state_dict())
    with pytest.raises(UsageError) as caught:
        export_checkpoint(tiny, None, variants=("int8",))
    assert str(caught.value) == (
        "int8: decoder has no matrix product of 4,096 weights or more after its first layer. "
        "Use --variant fp16 or uint8."
    )


def test_fp16_refuses_weights_beyond_its_range(checkpoint_of: Any) -> None:
    checkpoint = checkpoint_of("vae-mlp")
    state = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    state["decoder.head.bias"][0] = 7e4
    with pytest.raises(UsageError) as caught:
        export_checkpoint(replace(checkpoint, state=state), None, variants=("fp16",))
    assert str(caught.value) == (
        "fp16: weight model.decoder.head.bias reaches 7e+04, the largest float16 is 65504. "
        "Use --variant uint8."
    )


def test_a_lossy_variant_is_refused_unless_it_is_allowed(
    checkpoint_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoint_of("vae-mlp")
    monkeypatch.setattr(variants, "MIN_PSNR", 150.0)
    with pytest.raises(IntegrityError) as caught:
        export_checkpoint(checkpoint, None, variants=("fp16",))
    text = str(caught.value)
    assert text.startswith("decoder.fp16: ")
    assert text.endswith(
        " dB against fp32, expected 150 or more. Leave this variant out, or accept it with "
        "--allow-lossy."
    )
    done = export_checkpoint(checkpoint, None, variants=("fp16", "fp16"), allow_lossy=True)
    assert [m.graph for m in done.variants] == ["decoder.fp16"]


def test_an_unknown_variant_is_refused(checkpoint_of: Any) -> None:
    with pytest.raises(UsageError) as caught:
        export_checkpoint(checkpoint_of("vae-mlp"), None, variants=("int4",))
    assert str(caught.value) == "variant is 'int4', expected one of fp16, int8, uint8"


def test_the_line_shows_size_quality_and_speed() -> None:
    measured = VariantResult("decoder.int8", 500, 2000, 51.234, 0.1, 6, 0.25, 0.75, 64)
    assert measured.line() == (
        "decoder.int8: 500 bytes (25% of fp32), 51.2 dB, 10.00% of pixels differ by at most 6 of "
        "255, 3.00× as fast (0.250 ms per batch of 64)"
    )
    exact = VariantResult("decoder.uint8", 2000, 2000, np.inf, 0.0, 0, 0.5, 0.5, 64)
    assert exact.line() == (
        "decoder.uint8: 2,000 bytes (100% of fp32), the same pixels, 1.00× as fast "
        "(0.500 ms per batch of 64)"
    )
