"""A complete run: what its checkpoint records, and what is refused before it starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_models import ModelConfig, preset
from vae_runtime.datasets import Dataset
from vae_runtime.errors import DeviceError, FileError, UsageError
from vae_train import Callback, Checkpoint, Epoch, Step, TrainConfig
from vae_train.device import pick_device
from vae_train.run import train_model
from vae_train.run_folder import append_json_line

NAMES = ("zero", "one", "two")


def dataset(n: int = 60, shape: tuple[int, int, int] = (1, 6, 6), **changes: Any) -> Dataset:
    rng = np.random.default_rng(n)
    fields: dict[str, Any] = {
        "images": rng.integers(0, 256, (n, *shape), np.uint8),
        "labels": np.arange(n) % 3,
        "classes": NAMES,
    }
    return Dataset("squares", **(fields | changes))


def model(family: Any = "cvae", **changes: Any) -> ModelConfig:
    changes = {"backbone": "mlp", "hidden": (8,), "latent_dim": 2} | changes
    return preset("default", family, (1, 6, 6), 3, **changes)


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**({"epochs": 1, "batch_size": 16, "validation": 0.1} | changes))


class Watch(Callback):
    """Passes steps and epochs on to functions."""

    def __init__(
        self,
        on_step: Callable[[Step], Any] = lambda step: None,
        on_epoch: Callable[[Epoch], Any] = lambda epoch: None,
    ) -> None:
        self._on_step, self._on_epoch = on_step, on_epoch

    def on_step_end(self, step: Step) -> None:
        self._on_step(step)

    def on_epoch_end(self, epoch: Epoch, model: Any) -> None:
        self._on_epoch(epoch)


def run(family: Any = "cvae", **changes: Any) -> Checkpoint:
    return train_model(dataset(), model(family), config(), **changes)


def test_the_checkpoint_records_command_data_and_metrics() -> None:
    checkpoint = run(test=dataset(20), command="vae-train cvae", prior="normal")
    metadata = checkpoint.metadata
    assert metadata["command"] == "vae-train cvae"
    assert metadata["data"] == {
        "name": "squares",
        "training": 54,
        "test": 20,
        "classes": ["zero", "one", "two"],
    }
    assert metadata["epochs"] == 1
    assert metadata["parameters"] == sum(p.numel() for p in checkpoint.build().parameters())
    assert set(metadata["metrics"]) == {
        f"{part}{term}"
        for part in ("", "validation_", "test_")
        for term in ("loss", "reconstruction", "kl")
    }
    assert all(np.isfinite(v) for v in metadata["metrics"].values())
    assert set(metadata["versions"]) == {"vae-onnx", "torch", "python"}
    assert all(
        type(v) is str for v in metadata["versions"].values()
    )  # torch.__version__ is a subclass of str
    assert json.loads(json.dumps(metadata)) == metadata


def test_examples_come_from_the_test_split_if_there_is_one() -> None:
    data, test = dataset(100), dataset(70)
    checkpoint = train_model(data, model(), config(), test=test, prior="normal")
    assert checkpoint.examples.dtype == torch.uint8
    assert np.array_equal(checkpoint.examples.numpy(), test.images[:64])
    assert checkpoint.example_labels.tolist() == [k % 3 for k in range(64)]
    without = train_model(data, model(), config(), prior="normal")
    assert np.array_equal(without.examples.numpy(), data.images[:64])


def test_classes_and_labels_are_kept_for_a_cvae_only() -> None:
    assert run("cvae").classes == NAMES
    plain = run("vae")
    assert plain.classes == ()
    assert plain.example_labels is None


def test_the_same_seed_gives_the_same_checkpoint() -> None:
    a, b = run(), run()
    assert all(torch.equal(a.state[name], b.state[name]) for name in a.state)
    assert a.prior.to_json() == b.prior.to_json()
    assert a.metadata["metrics"] == b.metadata["metrics"]


def test_the_callers_random_state_and_threads_are_restored() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    before = torch.get_num_threads()
    run(threads=before + 1, prior="normal")
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == before


def test_training_uses_the_given_number_of_threads() -> None:
    seen: set[int] = set()
    run(
        threads=2, prior="normal", callbacks=[Watch(lambda step: seen.add(torch.get_num_threads()))]
    )
    assert seen == {2}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": dataset(shape=(1, 6, 7))}, r"\(1, 6, 7\).*expects \(1, 6, 6\)"),
        ({"data": dataset(labels=None, classes=())}, "no labels"),
        ({"data": dataset(classes=(*NAMES, "three"))}, "4 classes, the model has 3"),
        ({"test": dataset(shape=(3, 6, 6))}, r"\(3, 6, 6\)"),
        ({"test": dataset(labels=None, classes=())}, "no labels"),
        ({"test": dataset(classes=("two", "one", "zero"))}, "classes of the test split"),
        ({"test": dataset(classes=(*NAMES, "three"))}, "classes of the test split"),
        ({"prior": "cauchy"}, "cauchy"),
        ({"model_config": model("vae"), "prior": "class_gmm"}, "class_gmm"),
        ({"config": config(label_dropout=0.1), "model_config": model("vae")}, "label_dropout"),
        (
            {"config": config(label_dropout=0.1), "model_config": model(null_label=False)},
            "label_dropout",
        ),
        ({"config": config(validation=0.999)}, "validation"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_incompatible_arguments_are_refused_before_training(
    changes: dict[str, Any], named: str
) -> None:
    steps: list[Any] = []
    arguments = {"data": dataset(), "model_config": model(), "config": config()} | changes
    with pytest.raises(UsageError, match=named):
        train_model(**arguments, callbacks=[Watch(steps.append)])
    assert not steps


def test_two_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="2 channels, expected 1 or 3"):
        train_model(dataset(shape=(2, 6, 6)), preset("default", "ae", (2, 6, 6)), config())


def test_a_test_split_may_lack_the_last_class() -> None:
    part = dataset(20, labels=np.arange(20) % 2, classes=NAMES[:2])
    assert run(test=part, prior="normal").metadata["data"]["test"] == 20


def test_auto_finds_a_device() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CUDA", "", "mps", "cuda:-1"])
def test_an_unknown_device_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError, match="expected auto, cpu, cuda or cuda:N"):
        pick_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:99"])
def test_a_missing_cuda_device_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="sees 0 CUDA devices"):
        pick_device(device)


def test_only_existing_devices_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("auto") == torch.device("cuda")
    with pytest.raises(DeviceError, match="sees 2"):
        pick_device("cuda:2")


def test_records_are_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_json_line(path, {"epoch": 1, "loss": 2.5})
    append_json_line(path, {"epoch": 2, "loss": None})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": None}]


def test_a_record_that_cannot_be_written_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file or directory"):
        append_json_line(tmp_path / "missing" / "metrics.jsonl", {})


def test_guidance_changes_only_the_label_weights_of_the_decoder() -> None:
    plain, guided = (
        train_model(dataset(), model(), config(label_dropout=0.2, guidance=factor))
        for factor in (1.0, 2.0)
    )
    names = {k for k in plain.state if not torch.equal(plain.state[k], guided.state[k])}
    assert names == {"decoder_labels.linear.weight"}
    one, two = (c.build().decoder_labels.table() for c in (plain, guided))  # type: ignore[union-attr]
    torch.testing.assert_close(two, one[-1] + 2 * (one - one[-1]))
    assert plain.prior.to_json() == guided.prior.to_json()
    assert guided.train.guidance == 2


@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_contrast_only_scales_the_logits(backbone: Any) -> None:
    plain, hard = (
        train_model(dataset(), model(backbone=backbone), config(contrast=factor))
        for factor in (1.0, 1.5)
    )
    names = {k for k in plain.state if not torch.equal(plain.state[k], hard.state[k])}
    assert names == {"decoder.head.weight", "decoder.head.bias"}
    z = torch.randn(3, plain.model.latent_dim)
    one, two = (c.build().decode_logits(z) for c in (plain, hard))
    torch.testing.assert_close(two, 1.5 * one)
    assert plain.prior.to_json() == hard.prior.to_json()


def test_sigma_is_measured_after_contrast_is_applied() -> None:
    how = config(objective="gaussian", epochs=40, learning_rate=1e-2)
    levels = 60 + 60 * (
        np.arange(60) % 3
    )  # grey levels, which contrast pushes away from the middle
    pixels = np.broadcast_to(levels[:, None, None, None], (60, 1, 6, 6)).astype(np.uint8)
    rows = dataset(images=pixels)
    plain, hard = (train_model(rows, model("vae"), replace(how, contrast=c)) for c in (1.0, 3.0))
    data = torch.from_numpy(pixels) / 255
    torch.manual_seed(0)
    again = hard.build()
    with torch.no_grad():
        mu, log_var = (t.repeat(20, 1) for t in again.encode(data))
        z = mu + (log_var / 2).exp() * torch.randn(mu.shape)
        rmse = float((again.decode(z) - data.repeat(20, 1, 1, 1)).square().mean().sqrt())
    assert hard.sigma == pytest.approx(rmse, rel=0.1)
    assert hard.sigma > 1.2 * plain.sigma  # type: ignore[operator]


def test_patience_needs_held_out_images() -> None:
    how = config(validation=0.05, patience=2, epochs=5)
    with pytest.raises(UsageError, match=r"validation is 0.05 of 8 images, which is none"):
        train_model(dataset(8), model("vae"), how)


def test_epochs_before_the_importance_epochs_draw_one_sample() -> None:
    def epochs(**changes: Any) -> list[float]:
        seen: list[Any] = []
        how = config(epochs=3, schedule="constant", **changes)
        train_model(dataset(), model("vae"), how, callbacks=[Watch(on_epoch=seen.append)])
        return [e.validation_loss for e in seen]

    plain = epochs()
    late = epochs(importance_samples=50, importance_epochs=1)
    assert late[:2] == plain[:2]
    assert late[2] < plain[2] - 0.01  # more samples give a lower bound, nearer to -log p(x)


def test_the_spread_only_changes_the_prior() -> None:
    narrow, wide = (
        train_model(dataset(), model(), config(prior_spread=spread)) for spread in (0.0, 1.0)
    )
    assert all(torch.equal(narrow.state[k], wide.state[k]) for k in narrow.state)
    deviations = [each.prior.sample(4000, seed=0).std(0) for each in (narrow, wide)]
    assert (deviations[1] > deviations[0]).all()
