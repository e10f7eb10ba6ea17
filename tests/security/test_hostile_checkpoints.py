"""Hostile `.pt` files under a right digest: refused before torch reads them, no code run."""

from __future__ import annotations

import io
import pickle
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.security.pickles import archive, bombs, laughs, payloads, tensor
from tests.train.test_checkpoint import made
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.prior import Prior
from vae_train import load_checkpoint
from vae_train.checkpoint import save_checkpoint
from vae_train.sealed import add_checksum


def refused(raw: bytes, path: Path) -> str:
    path.write_bytes(add_checksum(raw))
    with pytest.raises((InputError, IntegrityError)) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: not a checkpoint")
    assert "torch" not in text.removeprefix(str(path)).lower()
    assert "\n" not in text
    return text


def mixtures(rows: int) -> Prior:
    arrays = ([1.0], [[0.0, 0.0]], [[1.0, 0.0, 1.0]])
    return Prior("class_gmm", 2, None, None, *(np.array([array] * rows) for array in arrays))


@pytest.mark.parametrize(
    "change",
    [
        {"state": {"stranger": torch.zeros(1)}}, {"prior": Prior.normal(3)},
        {"examples": torch.zeros(4, 1, 6, 5)}, {"examples": torch.zeros(4, 1, 6, 6).byte()},
        {"example_labels": torch.tensor([0, 1, 2, 4])}, {"example_labels": torch.tensor([0, 1])},
        {"example_labels": torch.tensor([0, 1, 2, -1])}, {"example_labels": torch.zeros(4)},
        {"prior": mixtures(3)}, {"classes": (1, 2, 3)}, {"classes": ("a", "b")}, {"facts": ["a"]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_parts_that_do_not_fit_each_other(change: dict[str, Any], tmp_path: Path) -> None:
    good, path = made(), tmp_path / "m.pt"
    save_checkpoint(good, path)
    assert load_checkpoint(path).classes == good.classes
    save_checkpoint(replace(good, prior=mixtures(4)), path)
    assert load_checkpoint(path).prior.rows == 4
    state = {"state": good.state | change["state"]} if "state" in change else {}
    save_checkpoint(replace(good, **change | state), path)
    with pytest.raises(
        InputError, match=r"m\.pt: (its tensors, classes or prior do not|not a che)"
    ):
        load_checkpoint(path)


def forbid(*_: Any, **__: Any) -> None:
    raise AssertionError("torch.load was reached")


def test_no_hostile_pickle_runs_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", forbid)
    trap, count = tmp_path / "trap", 0
    for _, program in payloads(trap):
        refused(archive(program), tmp_path / "m.pt")
        assert not trap.exists()
        count += 1
    print(f"\n{count} hostile pickles refused before torch.load, no code run")
    assert count >= 25


def test_what_torch_says_of_a_file_is_not_forwarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("PytorchStreamReader: call torch.load with weights_only=False")

    monkeypatch.setattr(torch, "load", fail)
    raw = archive(pickle.dumps({"a": 1}, 2))
    path = tmp_path / "m.pt"
    assert refused(raw, path) == f"{path}: not a checkpoint that vae-train wrote"


def test_no_bomb_takes_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", forbid)
    files = list(bombs())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _, raw in files:
        refused(raw, tmp_path / "m.pt")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(f"\n{len(files)} bombs refused before torch.load, memory grew by {grown} MB")
    assert len(files) >= 10
    assert grown < 300


def test_the_bombs_are_refused_for_what_they_ask() -> None:
    from vae_train.container import check_container

    check_container(archive(tensor((4,), (1,), 4), more={"archive/data/0": b"\0" * 16}), "x.pt")
    check_container(archive(pickle.dumps({"facts": laughs(3)}, 2)), "x.pt")


@pytest.mark.parametrize(("limit", "value"), [("_MAX_PICKLE", 1000), ("_MAX_ENTRIES", 2)])
def test_a_limit(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_train import container

    raw = archive(pickle.dumps({"a": "x" * 1000}, 2))
    container.check_container(raw, "x.pt")
    monkeypatch.setattr(container, limit, value)
    with pytest.raises(InputError, match=r"^x\.pt: not a checkpoint"):
        container.check_container(raw, "x.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.bool])
def test_what_torch_saves_passes(dtype: torch.dtype) -> None:
    from vae_train.container import check_container

    buffer = io.BytesIO()
    plain: dict[str, Any] = {
        "a": [1, -2, 2.5, None, True, 1 << 40, ("x", "é")],
        "e": torch.zeros(0),
    }
    wide = torch.zeros(3, 5).to(dtype)
    plain |= {"empty": torch.zeros(5, 0)}
    torch.save(plain | {"t": wide, "view": wide.T[1:], "one": torch.tensor(1).to(dtype)}, buffer)
    check_container(buffer.getvalue(), "x.pt")
    check: Callable[[bytes, str], None] = check_container
    with pytest.raises(InputError, match=r"^x\.pt: not a checkpoint"):
        check(buffer.getvalue()[:-30], "x.pt")
