"""A checkpoint is read back bit for bit, or refused."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_models import build, preset
from vae_runtime.bundle.checksums import zip_with_checksum
from vae_runtime.errors import FileError, InputError, IntegrityError, NotFound
from vae_runtime.files import atomic as files
from vae_runtime.prior import Prior
from vae_train import Checkpoint, TrainConfig, load_checkpoint
from vae_train.checkpoint import save_checkpoint

CLASSES = ("zero", "one", "twö")


def made(family: Any = "cvae") -> Checkpoint:
    config = preset("default", family, (1, 6, 5), 3, backbone="mlp", hidden=(8,), latent_dim=2)
    rng = np.random.default_rng(0)
    labelled = family == "cvae"
    torch.manual_seed(0)
    return Checkpoint(
        config,
        build(config).state_dict(),
        TrainConfig(beta=0.5, seed=3),
        Prior("uniform", 2, low=np.array([-1.0, 0]), high=np.array([1.0, 0.25])),
        torch.from_numpy(rng.integers(0, 256, (4, 1, 6, 5), np.uint8)),
        torch.arange(4) % 3 if labelled else None,
        CLASSES if labelled else (),
        {"command": "vae-train", "metrics": {"loss": 1.5}, "data": {"classes": ["zero"]}},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(made(), path)
    return path


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
def test_a_checkpoint_is_read_back_bit_for_bit(family: Any, tmp_path: Path) -> None:
    before, path = made(family), tmp_path / "model.pt"
    sha256 = save_checkpoint(before, path)
    after = load_checkpoint(path)
    assert after.sha256 == sha256
    assert (after.model, after.train, after.classes) == (before.model, before.train, before.classes)
    assert after.metadata == before.metadata
    assert after.prior.to_json() == before.prior.to_json()
    assert list(after.state) == list(before.state)
    assert all(torch.equal(after.state[name], before.state[name]) for name in before.state)
    assert torch.equal(after.examples, before.examples)
    assert (after.example_labels is None) == (before.example_labels is None)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), None, "0.1", 1])
def test_the_gaussian_objective_needs_a_valid_sigma(sigma: Any, saved: Path) -> None:
    gaussian = replace(made(), train=TrainConfig(objective="gaussian"), sigma=0.1)
    save_checkpoint(gaussian, saved)
    assert load_checkpoint(saved).sigma == 0.1
    save_checkpoint(replace(gaussian, sigma=sigma), saved)
    with pytest.raises(InputError, match="do not fit"):
        load_checkpoint(saved)


def test_only_the_gaussian_objective_has_a_sigma(saved: Path) -> None:
    save_checkpoint(replace(made(), sigma=0.1), saved)
    with pytest.raises(InputError, match="do not fit"):
        load_checkpoint(saved)


def test_build_restores_the_weights(saved: Path) -> None:
    model = load_checkpoint(saved).build()
    expected = made().state
    assert not model.training
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())


def test_the_same_checkpoint_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "other name.pt"
    save_checkpoint(made(), again)
    assert again.read_bytes() == saved.read_bytes()


def test_torch_reads_it_with_weights_only(saved: Path) -> None:
    data = torch.load(saved, weights_only=True)
    assert data["format"] == 1
    assert data["model"]["family"] == "cvae"
    assert data["classes"] == list(CLASSES)
    assert zipfile.ZipFile(saved).testzip() is None


def test_every_flipped_bit_is_detected(saved: Path) -> None:
    raw = bytearray(saved.read_bytes())
    rng = np.random.default_rng(0)
    for offset in [0, 3, len(raw) - 1, len(raw) - 70, *rng.integers(0, len(raw), 200).tolist()]:
        bit = 1 << int(rng.integers(8))
        raw[offset] ^= bit
        saved.write_bytes(raw)
        with pytest.raises(IntegrityError):
            load_checkpoint(saved)
        raw[offset] ^= bit
    saved.write_bytes(raw)
    load_checkpoint(saved)


def test_every_truncation_is_detected(saved: Path) -> None:
    raw = saved.read_bytes()
    rng = np.random.default_rng(0)
    for length in [0, 1, 4, 71, len(raw) - 1, *rng.integers(0, len(raw), 50).tolist()]:
        saved.write_bytes(raw[:length])
        with pytest.raises(IntegrityError, match=r"model\.pt"):
            load_checkpoint(saved)


def test_trailing_bytes_are_detected(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(IntegrityError):
        load_checkpoint(saved)


@pytest.mark.parametrize("raw", [b"hello", b"\x89PNG\r\n" * 40, b"{}" * 100])
def test_another_kind_of_file_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(raw)
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(path)


def test_a_plain_torch_checkpoint_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt"
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(IntegrityError, match=r"not written by vae-train.*vae-export --model"):
        load_checkpoint(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.pt.*vae-train"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="directory"):
        load_checkpoint(tmp_path)


def write_with_checksum(path: Path, content: Any) -> Path:
    """Write any content with a correct checksum, as a newer version or an attacker might."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(zip_with_checksum(buffer.getvalue()))
    return path


def test_a_newer_format_is_refused_with_the_upgrade_command(saved: Path) -> None:
    content = torch.load(saved, weights_only=True) | {"format": 2, "model": "told otherwise"}
    with pytest.raises(InputError, match=r"format 2, this version reads 1.*pip install -U"):
        load_checkpoint(write_with_checksum(saved, content))


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"family": "gan"}},
        {"model": None},
        {"model": {"family": "ae", "image_shape": [1, 6, 5], "latent_dim": "two"}},
        {"train": {"beta": -1}},
        {"train": {"unknown": 1}},
        {"prior": {"kind": "uniform", "latent_dim": 2}},
        {"prior": {"kind": "normal", "latent_dim": 3}},
        {"prior": []},
        {"state": {}},
        {"state": []},
        {"classes": ["zero"]},
        {"classes": 3},
        {"examples": torch.zeros(4, 1, 5, 6, dtype=torch.uint8)},
        {"examples": None},
    ],
)
def test_inconsistent_content_is_refused(change: dict[str, Any], saved: Path) -> None:
    content = torch.load(saved, weights_only=True) | change
    with pytest.raises(InputError):
        load_checkpoint(write_with_checksum(saved, content))


@pytest.mark.parametrize("part", ["format", "model", "state", "train", "prior", "examples"])
def test_missing_content_is_refused(part: str, saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    del content[part]
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(write_with_checksum(saved, content))


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:1], lambda t: t.double(), lambda t: t.to(torch.int64)],
    ids=["shape", "float64", "int64"],
)
def test_weights_of_another_shape_or_type_are_refused(change: Any, saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["state"]["mu.weight"] = change(content["state"]["mu.weight"])
    with pytest.raises(InputError, match="do not fit"):
        load_checkpoint(write_with_checksum(saved, content))


def test_a_huge_model_is_refused_without_building_it(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["model"] |= {"hidden": [65536, 65536, 65536]}  # 34 GB of weights
    with pytest.raises(InputError, match="do not fit"):
        load_checkpoint(write_with_checksum(saved, content))


@pytest.mark.parametrize("content", [[1, 2], "text", 3, torch.zeros(2), None])
def test_content_other_than_a_dictionary_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(write_with_checksum(tmp_path / "model.pt", content))


class Hostile:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('pwned')",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(
            write_with_checksum(tmp_path / "model.pt", {"format": 1, "model": Hostile()})
        )


def test_a_failed_write_keeps_the_previous_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(FileError, match="disk full, previous file kept"):
        save_checkpoint(replace(made(), metadata={}), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_view_is_saved_without_the_rest_of_its_tensor(tmp_path: Path) -> None:
    checkpoint = made()
    wide = torch.zeros(1000, 1000)
    state = {
        name: wide[: t.shape[0], : t.shape[1]].copy_(t) if t.dim() == 2 else t
        for name, t in checkpoint.state.items()
    }
    path = tmp_path / "model.pt"
    save_checkpoint(replace(checkpoint, state=state), path)
    assert path.stat().st_size < 200_000
