"""Hostile `.pt` files with a correct checksum are refused without running code or using memory."""

from __future__ import annotations

import io
import pickle
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.security.pickles import GLOBAL, archive, bombs, laughs, payloads, tensor
from tests.train.test_checkpoint import made
from vae_runtime.bundle.checksums import zip_with_checksum
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.prior import Prior
from vae_train import checkpoint_file, load_checkpoint
from vae_train.checkpoint import save_checkpoint
from vae_train.checkpoint_file import load_untrusted


def refused(raw: bytes, path: Path) -> str:
    path.write_bytes(zip_with_checksum(raw))
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
        {"state": {"unknown": torch.zeros(1)}}, {"prior": Prior.normal(3)},
        {"examples": torch.zeros(4, 1, 6, 5)}, {"examples": torch.zeros(4, 1, 6, 6).byte()},
        {"example_labels": torch.tensor([0, 1, 2, 4])}, {"example_labels": torch.tensor([0, 1])},
        {"example_labels": torch.tensor([0, 1, 2, -1])}, {"example_labels": torch.zeros(4)},
        {"prior": mixtures(3)}, {"classes": (1, 2, 3)}, {"classes": ("a", "b")},
        {"metadata": ["a"]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_checkpoint_that_contradicts_itself_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
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


# Files that torch.load(weights_only=True) would accept or allocate memory for.
BEFORE_TORCH = {
    "bytearray", "Tensor", "seventeen dimensions", "deflated", "huge memo",
    "a size that is not its own", "two entries of the same bytes",
}  # fmt: skip
AFTER_TORCH = {"gradients", "expanded tensor", "billion laughs", "deep", "cycle"}
# Harmless files that are loaded: a storage of True bytes, and a file that is never read.
HARMLESS = {"a count that is none", "two pickles"}


def forbid(*_: Any, **__: Any) -> None:
    raise AssertionError("torch.load was reached")


def test_no_hostile_pickle_runs_anything(tmp_path: Path) -> None:
    trap, count = tmp_path / "trap", 0
    for _, program in payloads(trap):
        refused(archive(program), tmp_path / "m.pt")
        assert not trap.exists()
        count += 1
    print(f"\n{count} hostile pickles refused, no code run")
    assert count >= 25


def test_no_call_reaches_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", forbid)
    for name, program in payloads(tmp_path / "trap"):
        if name != "persistent id":  # no call
            refused(archive(program), tmp_path / "m.pt")


def test_messages_of_torch_are_not_forwarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("PytorchStreamReader: call torch.load with weights_only=False")

    monkeypatch.setattr(torch, "load", fail)
    raw = archive(pickle.dumps({"a": 1}, 2))
    path = tmp_path / "m.pt"
    assert refused(raw, path) == f"{path}: not a checkpoint that vae-train wrote"


def test_bombs_take_no_memory_or_time(tmp_path: Path) -> None:
    files = list(bombs())
    before, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    for _, raw in files:
        started = time.process_time()
        refused(raw, tmp_path / "m.pt")
        slowest = max(slowest, time.process_time() - started)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(f"\n{len(files)} bombs refused, memory grew by {grown} MB, slowest {slowest:.1f} s")
    assert len(files) >= 10
    assert grown < 300
    assert slowest < 10


@pytest.mark.parametrize(("name", "raw"), list(bombs()), ids=[name for name, _ in bombs()])
def test_the_error_for_a_bomb_names_its_size(
    name: str, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in BEFORE_TORCH:
        monkeypatch.setattr(torch, "load", forbid)
    if name in HARMLESS:
        load_untrusted(raw, "x.pt")
        return
    with pytest.raises(InputError, match=r"^x\.pt: not a checkpoint"):
        load_untrusted(raw, "x.pt")


@pytest.mark.parametrize("name", sorted(AFTER_TORCH))
def test_torch_does_not_refuse_them(name: str) -> None:
    """If this fails, torch refuses such files now, and our check can be removed."""
    torch.load(io.BytesIO(dict(bombs())[name]), weights_only=True)


def test_files_that_resemble_bombs_are_read() -> None:
    raw = archive(tensor((4,), (1,), 4), more={"archive/data/0": b"\0" * 16})
    assert load_untrusted(raw, "x.pt")["state"].shape == (4,)
    load_untrusted(archive(pickle.dumps({"metadata": laughs(3)}, 2)), "x.pt")


def test_an_ordered_dict_cannot_copy_a_list_many_times() -> None:
    """Each copy would take six bytes in the file and megabytes of memory."""
    pairs = b"".join(b"M" + k.to_bytes(2, "little") + b"N\x86" for k in range(1000))
    called = b"h\x00h\x01\x85R"
    program = b"\x80\x02(" + GLOBAL + b"collections\nOrderedDict\nq\x00]q\x01(" + pairs + b"e"
    raw = archive(program + 3 * called + b"t.")
    assert len(torch.load(io.BytesIO(raw), weights_only=True)[-1]) == 1000
    with pytest.raises(InputError, match=r"^x\.pt: not a checkpoint"):
        load_untrusted(raw, "x.pt")


@pytest.mark.parametrize(("limit", "value"), [("_MAX_PICKLE_BYTES", 1000), ("_MAX_ENTRIES", 2)])
def test_a_limit(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = archive(pickle.dumps({"a": "x" * 1000}, 2))
    load_untrusted(raw, "x.pt")
    monkeypatch.setattr(checkpoint_file, limit, value)
    with pytest.raises(InputError, match=r"^x\.pt: not a checkpoint"):
        load_untrusted(raw, "x.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.bool])
def test_files_that_torch_saves_are_read(dtype: torch.dtype) -> None:
    buffer = io.BytesIO()
    plain: dict[str, Any] = {
        "a": [1, -2, 2.5, None, True, 1 << 40, ("x", "é")],
        "e": torch.zeros(0),
    }
    wide = torch.zeros(3, 5).to(dtype)
    plain |= {"empty": torch.zeros(5, 0)}
    plain |= {"t": wide, "view": wide.T[1:], "one": torch.tensor(1).to(dtype)}
    torch.save(plain, buffer)
    loaded = load_untrusted(buffer.getvalue(), "x.pt")
    assert loaded["a"] == plain["a"]
    assert torch.equal(loaded["view"], plain["view"])
    with pytest.raises(InputError, match=r"^x\.pt: not a checkpoint"):
        load_untrusted(buffer.getvalue()[:-30], "x.pt")


PRIME = (1 << 61) - 1  # Python's hash of an integer is its remainder
KEYS: dict[str, Any] = {
    "integers of equal hash": {i * PRIME: None for i in range(1, 3000)},
    "a large integer": {1 << 40: None},
    "floats": {0.5: None},
    "tuples": {(1, 2): None},
    "None": {None: 1},
    "a truth": {True: 1},
    "in a dictionary": {"a": {"b": [{PRIME: 1}]}},
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_whose_hashes_can_be_chosen_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a dictionary key that is neither text nor a small"):
        checkpoint_file._check_pickle(pickle.dumps({"a": 1, "c": KEYS[name]}, 2))


def test_many_keys_of_equal_hash_take_no_time() -> None:
    keys = b"".join(pickle.dumps(i * PRIME, 2)[2:-1] + b"N" for i in range(1, 200_000))
    began = time.process_time()
    with pytest.raises(InputError):
        load_untrusted(archive(b"\x80\x02}(" + keys + b"u."), "x.pt")
    assert time.process_time() - began < 10, "quadratic time would be minutes"


def test_text_and_small_integers_are_keys() -> None:
    keys = {"text": 1, 0: 2, 70_000: 3, -1: 4}
    checkpoint_file._check_pickle(pickle.dumps({"a": keys, "b": [keys, {"text": keys}]}, 2))
