"""Two real processes that train one model, beside one process that does the work of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_models import preset
from vae_runtime.datasets import load_dataset
from vae_runtime.errors import UsageError
from vae_train import TrainConfig, load_checkpoint, train
from vae_train.data import shuffle
from vae_train.ranks import Ranks
from vae_train.state import Epoch

OPTIONS = [
    *("cvae", "--data", "digits", "--backbone", "mlp", "--hidden", "16", "--latent-dim", "3"),
    *("--epochs", "3", "--batch-size", "50", "--prior", "normal", "--precision", "float32"),
    *(
        "--validation",
        "0.1",
        "--free-bits",
        "0.2",
        "--objective",
        "gaussian",
        "--noise",
        "0.1",
        "--ema",
        "0.9",
    ),
]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vae_train"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *OPTIONS, "--out", str(out)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote ") == done.stderr.count("epoch 2/3") == 1  # one speaks
    lines = (tmp_path / "model.run" / "metrics.jsonl").read_text().splitlines()
    two = [json.loads(line) for line in lines]
    found = load_checkpoint(out)

    one: list[Epoch] = []
    expected = train(
        load_dataset("digits"),
        found.model,
        found.train,
        test=load_dataset("digits", "test"),
        prior="normal",
        ranks=Ranks(shards=2),
        on_epoch=one.append,
    )
    # Sums are rounded in another order, and Adam carries that on: five digits stay.
    for name in ("loss", "reconstruction", "kl", "validation_loss"):
        losses = [getattr(epoch, name) for epoch in one]
        np.testing.assert_allclose([epoch[name] for epoch in two], losses, rtol=1e-5)
    for name, tensor in expected.state.items():
        torch.testing.assert_close(found.state[name], tensor, rtol=0, atol=1e-4)
    assert found.facts["metrics"].keys() == expected.facts["metrics"].keys()
    assert found.sigma == pytest.approx(expected.sigma, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 51}, "batch_size is 51, expected a multiple of 4 processes"),
        ({"validation": 0.001}, "digits: 2 validation images for 4 processes"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(changes: dict[str, Any], named: str) -> None:
    data = load_dataset("digits")
    model = preset("default", "ae", data.image_shape, backbone="mlp")
    config = TrainConfig(**({"batch_size": 52} | changes))
    with pytest.raises(UsageError, match=named):
        train(data, model, config, ranks=Ranks(shards=4))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_hold_disjoint_parts_of_every_batch(world: int) -> None:
    state = torch.Generator().manual_seed(4).get_state()
    n = 24
    whole, after = shuffle(n, Ranks(shards=world), state)
    assert whole.shape == (world, n // world)
    assert sorted(whole.flatten().tolist()) == list(range(n))
    for rank in range(world):
        ranks = Ranks(rank, world, world)
        part = ranks.part(n)
        own, own_after = shuffle(part.stop - part.start, ranks, state)
        assert torch.equal(own[0] + part.start, whole[rank])
        assert torch.equal(after, own_after)


def test_images_that_do_not_share_out_are_left_aside() -> None:
    parts = [Ranks(rank, 3, 3).part(11) for rank in range(3)]
    assert parts == [slice(0, 3), slice(3, 6), slice(6, 9)]
    assert Ranks().part(11) == slice(0, 11)


def test_one_shard_is_the_plain_permutation() -> None:
    generator = torch.Generator().manual_seed(9)
    state = generator.get_state()
    order, after = shuffle(17, Ranks(), state)
    assert torch.equal(order[0], torch.randperm(17, generator=generator))
    assert torch.equal(after, generator.get_state())


def test_the_rows_of_a_process_are_cut_out_of_what_all_draw() -> None:
    drawn = torch.arange(2 * 4 * 3).view(2, 4, 3)  # K, shards, n
    assert Ranks(shards=4).own(drawn).tolist() == drawn.flatten(1).tolist()
    assert Ranks(1, 2, 4).own(drawn).tolist() == drawn[:, 2:].flatten(1).tolist()
