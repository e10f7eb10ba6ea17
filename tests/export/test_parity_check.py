"""What the parity check accepts and refuses, and what a failure leaves on disk."""

from __future__ import annotations

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
from vae_export.graphs import Graph
from vae_export.parity import BATCHES, parity_inputs, run_batches
from vae_export.source import from_checkpoint
from vae_export.writer import check_target
from vae_runtime.datasets import Dataset
from vae_runtime.errors import FileError, IntegrityError, UsageError

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


def shift(delta: float) -> Damage:
    """Return a function that adds `delta` to one number of the last layer's bias."""

    def damage(model: onnx.ModelProto) -> None:
        last = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
        for tensor in model.graph.initializer:
            if tensor.name == last.input[2]:
                values = numpy_helper.to_array(tensor).copy()
                values[5] += delta
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


def test_all_rows_run_if_the_largest_batch_is_too_small(exported_of: Any) -> None:
    exported = exported_of("vae-mlp")
    graph = Graph("decoder", torch.nn.Identity(), ("z",), ("image",))
    rows = {"z": np.zeros((1200, exported.manifest.spec.latent_dim), np.float32)}
    batches = [n for n, _, _ in run_batches(graph, exported.files["decoder.onnx"], rows)]
    assert batches == [*BATCHES, 1200]
