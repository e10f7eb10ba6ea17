"""Two processes that train one model give the same result as one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from vae_models import preset
from vae_runtime.datasets import load_dataset
from vae_runtime.errors import DeviceError, UsageError
from vae_train import TrainConfig, load_checkpoint
from vae_train.data import shuffle, stream, to_device
from vae_train.distributed import ProcessGroup, join_processes, process_group
from vae_train.run import train_model
from vae_train.state import Epoch

from .test_run import Watch

OPTIONS = [
    *("cvae", "--backbone", "mlp", "--hidden", "16", "--latent-dim", "3"),
    *("--epochs", "3", "--batch-size", "50", "--prior", "normal", "--precision", "float32"),
    *("--validation", "0.1", "--free-bits", "0.2", "--objective", "gaussian"),
    *("--noise", "0.1", "--ema", "0.9"),
]


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(tmp_path: Path) -> None:
    """The two processes each read half of a Parquet file; the single one holds all in memory."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")
    from vae_runtime.datasets.parquet import write_dataset

    for split in ("train", "test"):
        write_dataset(load_dataset("digits", split), tmp_path / f"{split}.parquet")
    out = tmp_path / "model.pt"
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vae_train"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *OPTIONS, "--data", str(tmp_path), "--out", str(out)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("wrote ") == done.stderr.count("epoch 2/3") == 1
    )  # only one process prints
    lines = (tmp_path / "model.run" / "metrics.jsonl").read_text().splitlines()
    two = [json.loads(line) for line in lines]
    found = load_checkpoint(out)

    one: list[Epoch] = []
    expected = train_model(
        load_dataset("digits"),
        found.model,
        found.train,
        test=load_dataset("digits", "test"),
        prior="normal",
        group=ProcessGroup(shards=2),
        callbacks=[Watch(on_epoch=one.append)],
    )
    # Sums are rounded in another order, and Adam amplifies the difference.
    for name in ("loss", "reconstruction", "kl", "validation_loss"):
        losses = [getattr(epoch, name) for epoch in one]
        np.testing.assert_allclose([epoch[name] for epoch in two], losses, rtol=1e-5)
    for name, tensor in expected.state.items():
        torch.testing.assert_close(found.state[name], tensor, rtol=0, atol=1e-4)
    assert found.metadata["metrics"].keys() == expected.metadata["metrics"].keys()
    assert found.sigma == pytest.approx(expected.sigma, rel=1e-5)


def count_reads(rank: int, folder: str, source: str) -> None:
    """Train as one of two processes; record which rows were read and which threads remain."""
    data: Any = load_dataset(source, lazy=True)
    read = data.images._read
    rows: list[list[int]] = []

    def progress(index: Any) -> Any:
        rows.append(index.tolist())
        return read(index)

    data.images._read = progress
    config = TrainConfig(epochs=1, batch_size=50, validation=0.2, precision="float32")
    model = preset("default", "vae", data.image_shape, backbone="mlp", hidden=(8,), latent_dim=2)
    with process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2):
        train_model(data, model, config, prior="normal", group=ProcessGroup(rank, 2, 2))
    threads = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    Path(folder, f"{rank}.json").write_text(json.dumps({"rows": rows, "threads": threads}))


@pytest.mark.slow
def test_an_error_in_the_first_process_stops_all(tmp_path: Path) -> None:
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vae_train"]
    arguments = ["--data", str(tmp_path / "none.npz"), "--out", str(tmp_path / "model.pt")]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *OPTIONS, *arguments], capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"error: {tmp_path / 'none.npz'}: no such file" in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.slow
def test_a_process_reads_only_its_own_images(tmp_path: Path) -> None:
    data = load_dataset("digits")
    (tmp_path / "idx").mkdir()
    header = b"\0\0\x08\x03" + np.array([len(data), 8, 8], ">u4").tobytes()
    file = tmp_path / "idx" / "train-images-idx3-ubyte"
    file.write_bytes(header + data.images.tobytes())
    torch.multiprocessing.spawn(count_reads, (str(tmp_path), str(file.parent)), 2)
    recorded = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert not [name for each in recorded for name in each["threads"] if "gloo" in name]
    read = [each["rows"] for each in recorded]
    assert len(data) == 1500
    # One image for the shape, 64 examples, 150 of the 300 held-out images, and 600 of the 1,200
    # training images. All of so few images are looked at to choose the objective.
    assert sorted(map(len, read[1])) == [1, 64, 150, 600, 1500]
    # The first process also reads all images, in batches, for the fingerprint.
    assert sorted(map(len, read[0])) == [1, 64, 150, 600, 1500, 1500]
    own = [{row for rows in part if 64 < len(rows) < 1500 for row in rows} for part in read]
    assert [len(rows) for rows in own] == [750, 750]
    assert not own[0] & own[1]


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(DeviceError, match=r"device cuda:1: torch .* sees 1 CUDA"),
        join_processes("auto"),
    ):
        raise AssertionError


def test_streamed_images_equal_images_in_memory() -> None:
    data = load_dataset("digits")
    held = to_device(data, torch.device("cpu"), labelled=True)
    streamed = stream(data, torch.device("cpu"), labelled=True)
    index = torch.tensor([7, 3, 1499, 3])
    assert len(streamed) == len(held) == 1500
    for one, other in zip(streamed.batch(index), held.batch(index), strict=True):
        assert torch.equal(one, other)
    for part, other in zip(streamed.batches(400), held.batches(400), strict=True):
        assert torch.equal(part[0], other[0])
        assert torch.equal(part[1], other[1])
    picked = streamed.select(index)
    assert torch.equal(picked.pixels, held.pixels[index])
    assert torch.equal(picked.labels, held.select(index).labels)
    assert stream(data, torch.device("cpu"), labelled=False).labels is None


@pytest.mark.parametrize(
    ("n", "changes", "named"),
    [
        (1500, {"batch_size": 51}, "batch_size is 51, expected a multiple of 4 processes"),
        (20, {"validation": 0.1}, "digits: 2 validation images for 4 processes"),
    ],
)
def test_data_that_cannot_be_sharded_is_refused(
    n: int, changes: dict[str, Any], named: str
) -> None:
    data = load_dataset("digits").take(np.arange(n))
    model = preset("default", "ae", data.image_shape, backbone="mlp")
    config = TrainConfig(**({"batch_size": 52} | changes))
    with pytest.raises(UsageError, match=named):
        train_model(data, model, config, group=ProcessGroup(shards=4))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_hold_disjoint_parts_of_every_batch(world: int) -> None:
    state = torch.Generator().manual_seed(4).get_state()
    n = 24
    whole, after = shuffle(n, ProcessGroup(shards=world), state)
    assert whole.shape == (world, n // world)
    assert sorted(whole.flatten().tolist()) == list(range(n))
    for rank in range(world):
        processes = ProcessGroup(rank, world, world)
        part = processes.own_slice(n)
        own, own_after = shuffle(part.stop - part.start, processes, state)
        assert torch.equal(own[0] + part.start, whole[rank])
        assert torch.equal(after, own_after)


def test_images_beyond_a_multiple_of_the_shards_are_left_out() -> None:
    parts = [ProcessGroup(rank, 3, 3).own_slice(11) for rank in range(3)]
    assert parts == [slice(0, 3), slice(3, 6), slice(6, 9)]
    assert ProcessGroup().own_slice(11) == slice(0, 11)


def test_one_shard_is_a_plain_permutation() -> None:
    generator = torch.Generator().manual_seed(9)
    state = generator.get_state()
    order, after = shuffle(17, ProcessGroup(), state)
    assert torch.equal(order[0], torch.randperm(17, generator=generator))
    assert torch.equal(after, generator.get_state())


def test_a_process_keeps_its_own_rows_of_the_random_numbers() -> None:
    drawn = torch.arange(2 * 4 * 3).view(2, 4, 3)  # K, shards, n
    assert ProcessGroup(shards=4).own_rows(drawn).tolist() == drawn.flatten(1).tolist()
    assert ProcessGroup(1, 2, 4).own_rows(drawn).tolist() == drawn[:, 2:].flatten(1).tolist()
