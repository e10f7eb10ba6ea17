"""What the parity check accepts and refuses, and what a failure leaves on disk."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.export.conftest import run_cli
from tests.runtime.conftest import DATA, unpack
from vae_export import export_checkpoint, pipeline
from vae_export.cost import RowCost
from vae_export.graphs import Graph
from vae_export.options import untracked
from vae_export.parity import BATCHES, parity_inputs, run_batches, thin
from vae_export.reference import Reference, golden_arrays, pack_golden, run_reference
from vae_export.source import from_checkpoint
from vae_export.writer import check_target
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.datasets import Dataset
from vae_runtime.errors import FileError, IntegrityError, UsageError
from vae_runtime.verification import compare

Damage = Callable[[onnx.ModelProto], None]


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Damage], None]:
    """Return a function that arranges for a graph to be damaged after it is traced."""
    real = pipeline.trace

    def arrange(role: str, damage: Damage) -> None:
        def trace(graph: Any, *arguments: Any) -> onnx.ModelProto:
            model = real(graph, *arguments)
            if graph.role == role:
                damage(model)
            return model

        monkeypatch.setattr(pipeline, "trace", trace)

    return arrange


def shift(delta: float, which: int | slice = 5) -> Damage:
    """Return a function that adds `delta` to one number of the last layer's bias, or to all."""

    def damage(model: onnx.ModelProto) -> None:
        last = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
        for tensor in model.graph.initializer:
            if tensor.name == last.input[2]:
                values = numpy_helper.to_array(tensor).copy()
                values[which] += delta
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return damage


def test_a_wrong_weight_is_named_with_both_values(
    checkpoint_of: Any, damaged: Any, tmp_path: Path
) -> None:
    damaged("decoder", shift(1e-3))
    with pytest.raises(IntegrityError) as caught:
        export_checkpoint(checkpoint_of("vae-mlp"), tmp_path / "out")
    found = re.fullmatch(
        r"decoder\.image: error (\S+) over tolerance (\S+) in a batch of (\d+) at "
        r"\[\d+, 0, 0, 5\]: onnxruntime (\S+), torch float64 (\S+)",
        str(caught.value),
    )
    assert found
    error, tolerance, batch, ours, theirs = (float(text) for text in found.groups())
    assert error > tolerance
    assert batch in BATCHES
    assert abs(abs(ours - theirs) - error) < 1e-2 * error
    assert not (tmp_path / "out").exists()


def test_an_error_that_float32_itself_does_not_make_is_refused(
    checkpoint_of: Any, damaged: Any
) -> None:
    damaged("encoder", shift(3e-5))
    with pytest.raises(IntegrityError, match=r"^encoder\.(mu|log_var): error "):
        export_checkpoint(checkpoint_of("vae-mlp"), None)


def test_a_small_error_in_every_element_is_refused_though_none_is_large(
    checkpoint_of: Any, damaged: Any
) -> None:
    damaged("decoder", shift(2e-6, slice(None)))  # of logits: a quarter of that at most in pixels
    with pytest.raises(IntegrityError) as caught:
        export_checkpoint(checkpoint_of("vae-mlp"), None)
    found = re.fullmatch(
        r"decoder\.image: the typical error is (\S+) times that of torch in float32, expected at "
        r"most 3\.\d+, so the graph computes something else\. If you accept that, raise "
        r"--tolerance\.",
        str(caught.value),
    )
    assert found
    assert 3 < float(found[1]) < 100


def test_a_larger_tolerance_is_obeyed_and_recorded(checkpoint_of: Any, damaged: Any) -> None:
    damaged("decoder", shift(2e-6, slice(None)))
    parity = export_checkpoint(checkpoint_of("vae-mlp"), None, tolerance=50).manifest.parity
    assert parity["tolerance_factor"] == 50
    assert parity["typical_tolerance"] == "150 * typical error of torch float32"
    assert 3 < parity["typical_error_relative_to_torch_float32"]["decoder.image"] < 100
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match=r"^tolerance is \S+, expected a number above 0$"):
            export_checkpoint(checkpoint_of("vae-mlp"), None, tolerance=wrong)


def test_golden_vectors_of_large_images_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"z": np.arange(40, dtype=np.float32).reshape(20, 2)}
    images = {"image": np.repeat(rows["z"][:, :1], 100, 1)}
    reference = Reference(rows, images, {}, {}, RowCost(1, 1))

    differences = {"decoder.image": 1e-6}

    def first_latents() -> list[float]:
        with np.load(
            io.BytesIO(pack_golden(golden_arrays({"decoder": reference}, differences)))
        ) as arrays:
            assert set(arrays) == {"decoder.in.z", "decoder.out.image"}
            assert np.array_equal(arrays["decoder.in.z"][:, 0], arrays["decoder.out.image"][:, 7])
            return arrays["decoder.in.z"][:, 0].tolist()

    assert first_latents() == list(range(0, 40, 2))
    monkeypatch.setattr("vae_export.reference._GOLDEN_BYTES", 1200)
    assert first_latents() == [0, 18, 38]


def test_a_graph_that_magnifies_rounding_has_a_tolerance_of_its_own(
    checkpoint_of: Any, damaged: Any, tmp_path: Path
) -> None:
    damaged("decoder", shift(1e-4, slice(None)))
    export_checkpoint(checkpoint_of("vae-mlp"), tmp_path / "b", tolerance=1000)
    found = {m.output: m for m in compare(open_bundle(tmp_path / "b"), device="cpu")}
    assert found["mu"].tolerance == 1e-5
    assert 1e-5 < found["image"].max_error <= 2.6e-5
    assert 3.9 * found["image"].max_error <= found["image"].tolerance < 1.2e-4


def test_small_models_are_checked_on_all_rows(exported_of: Any) -> None:
    parity = exported_of("vae-mlp").manifest.parity
    assert parity["rows"] == {"encoder": 256, "decoder": 3 + 2 * 16 + 64}
    assert parity["batches"] == {"encoder": list(BATCHES), "decoder": list(BATCHES)}


def test_outputs_that_are_not_finite_are_refused(checkpoint_of: Any, damaged: Any) -> None:
    damaged("decoder", shift(float("nan")))
    with pytest.raises(IntegrityError) as caught:
        export_checkpoint(checkpoint_of("vae-mlp"), None)
    assert str(caught.value) == (
        "decoder.image: nan in a batch of 1 at [0, 0, 0, 5], expected finite"
    )


def test_a_failure_keeps_the_previous_bundle_and_exits_4(
    saved: Any, damaged: Any, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    arguments = ("--ckpt", saved("vae-mlp"), "-o", out)
    assert run_cli(*arguments).exception is None
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    damaged("decoder", shift(1e-2))
    failed = run_cli(*arguments).exception
    assert isinstance(failed, IntegrityError)
    assert failed.exit_code == 4
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_file_with_an_embedded_bundles_name_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").touch()
    with pytest.raises(FileError, match="is not a bundle, or holds"):
        check_target(Path("mnist"))


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "notes").touch()
    (tmp_path / "photos.zip").write_bytes(b"PK")
    (tmp_path / "page").mkdir()
    (tmp_path / "page/manifest.json").write_text('{"name": "a page"}')
    for name in ("bundle", "more"):
        unpack(DATA / "vae_mlp.zip", tmp_path / name)
    (tmp_path / "more/.git").mkdir()
    check_target(tmp_path / "bundle")
    for name in ("photos", "notes", "photos.zip", "page", "more"):
        with pytest.raises(FileError) as caught:
            check_target(tmp_path / name)
        assert str(caught.value) == (
            f"{tmp_path / name}: exists and is not a bundle, or holds other files too. Move it "
            "away, or choose another --out."
        )
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty")
    with pytest.raises(FileError) as caught:
        check_target(tmp_path / "none" / "b")
    assert str(caught.value) == f"{tmp_path / 'none' / 'b'}: folder {tmp_path / 'none'} is missing"


def test_labels_of_other_classes_are_not_used(checkpoint_of: Any) -> None:
    """Test a folder named `digits` with its own classes, and --data with more classes."""
    checkpoint = checkpoint_of("cvae-mlp")
    own = {"data": {"name": "digits", "classes": ["3", "7", "9"]}}
    assert len(from_checkpoint(checkpoint).images) > len(checkpoint.examples)
    source = from_checkpoint(replace(checkpoint, metadata=checkpoint.metadata | own))
    assert len(source.images) == len(checkpoint.examples)
    classes = tuple("abcdefghijkl")
    data = Dataset("z", np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 11, 10]), classes)
    assert from_checkpoint(checkpoint, data).labels is None
    assert export_checkpoint(checkpoint, None, data=data).parity


def test_a_variant_that_does_not_fit_is_refused_before_the_parity_check(checkpoint_of: Any) -> None:
    lines: list[str] = []
    with pytest.raises(UsageError, match="convolutions"):
        export_checkpoint(checkpoint_of("cvae-conv"), None, variants=["int8"], log=lines.append)
    assert lines == []


def test_images_of_another_shape_are_refused(checkpoint_of: Any) -> None:
    data = Dataset("big", np.zeros((2, 1, 9, 9), np.uint8))
    with pytest.raises(UsageError) as caught:
        export_checkpoint(checkpoint_of("vae-mlp"), None, data=data)
    assert str(caught.value) == (
        "big: images are (1, 9, 9), the model takes (1, 8, 8), each (C, H, W). "
        "Image files can be resized: --size 8x8."
    )


@pytest.mark.parametrize("name", ["digits", "mine"])  # known, but of another shape; unknown
def test_without_its_data_set_the_images_in_the_checkpoint_are_used(name: str) -> None:
    from tests.train.test_checkpoint import made

    checkpoint = replace(made(), metadata={"data": {"name": name}})
    expected = checkpoint.examples.numpy().astype(np.float32) / np.float32(255)
    assert np.array_equal(from_checkpoint(checkpoint).images, expected)


def test_the_rows_hold_every_label_and_the_extremes(checkpoint_of: Any) -> None:
    source = from_checkpoint(checkpoint_of("cvae-conv"))
    prior = source.spec.prior
    by_role = {
        g.role: parity_inputs(g, source.images, source.labels, prior, 10) for g in source.graphs
    }
    assert set(by_role["encoder"]["label"]) == set(range(11))
    assert len(by_role["encoder"]["image"]) > 200  # the data set comes with scikit-learn
    mean, std = prior.spread()
    for role in ("decoder", "conditional_decoder"):
        z = by_role[role]["z"]
        for expected in (0 * mean, mean + 6 * std, mean - 6 * std):
            close = np.isclose(z, expected.astype(np.float32)).all(1)
            assert close.any()
            if role == "conditional_decoder":
                assert set(by_role[role]["label"][close]) == set(range(11))


# A row of a small model, of one whose work is bounded, and of one whose memory is.
COSTS = {
    "small": (RowCost(1e6, 4_000), [*BATCHES, 1000, 200]),
    "slow": (RowCost(2e10, 4_000), [0, 1, 2, 7, 1000, 200]),
    "slowest": (RowCost(6e11, 4_000), [0, 1, 2, 1000, 200]),
    "large": (RowCost(1e6, 1 << 20), [0, 1, 2, 7, 64, *[256] * 4, 176]),
    "largest": (RowCost(1e6, 1 << 28), [0, 1, *[1] * 1200]),
}


@pytest.mark.parametrize("name", COSTS)
def test_all_rows_run_in_batches_that_their_cost_allows(name: str, exported_of: Any) -> None:
    cost, expected = COSTS[name]
    exported = exported_of("vae-mlp")
    graph = Graph("decoder", torch.nn.Flatten(), ("z",), ("image",))
    rows = {"z": np.zeros((1200, exported.manifest.spec.latent_dim), np.float32)}
    reference = run_reference(graph, rows, cost, untracked)
    found = list(run_batches(graph, exported.files["decoder.onnx"], reference))
    assert [len(index) for index, _ in found] == expected
    assert {int(i) for index, _ in found for i in index} == set(range(1200))


def test_a_module_that_costs_much_is_checked_on_its_extreme_rows() -> None:
    assert RowCost(1e6, 1).rows(200, 10) == 200
    assert RowCost(2e10, 1).rows(200, 10) == 50
    assert RowCost(6e11, 1).rows(200, 10) == 4
    assert RowCost(6e11, 1).rows(3, 10) == 3
    rows = {"z": np.arange(195), "label": np.arange(195) % 11}
    assert thin(rows, 4)["z"].tolist() == [0, 1, 2, 194]
    assert thin(rows, 9)["label"].tolist() == [n % 11 for n in (0, 1, 2, 34, 66, 98, 130, 162, 194)]
    assert thin(rows, 195) is rows
