"""Weights load from common file formats, and keys that do not fit are listed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.export.any_modules import Plain
from vae_export.weights import load_weights
from vae_runtime.errors import InputError

torch.manual_seed(0)
STATE = Plain().state_dict()


def prefixed(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in STATE.items()}


FILES: dict[str, Any] = {
    "plain": STATE,
    "data parallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled data parallel": prefixed("module._orig_mod."),
    "under its own name": prefixed("my_vae."),
    "beside other values": {**STATE, "epoch": 3, "rates": [0.1]},
    "nested": {
        "epoch": 3,
        "weights": {"generator": prefixed("model.")},
        "optimizer": {"state": {}},
    },
    "half": {key: value.half() for key, value in STATE.items()},
    "NumPy scalars": {"net": STATE, "best": np.float64(0.1), "step": np.int64(7)},
    "a namespace": {"state_dict": STATE, "args": argparse.Namespace(lr=1e-3, name="x")},
}


@pytest.mark.parametrize("name", FILES)
def test_weights_load(name: str, tmp_path: Path) -> None:
    torch.save(FILES[name], tmp_path / "w.pt")
    module = Plain()
    lines: list[str] = []
    load_weights(module, tmp_path / "w.pt", lines.append)
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, STATE[key], atol=1e-3 if name == "half" else 0, rtol=0)
    assert not lines


def test_keys_of_other_models_are_named_and_left_out(tmp_path: Path) -> None:
    torch.save({**STATE, "critic.weight": torch.zeros(2)}, tmp_path / "w.pt")
    lines: list[str] = []
    load_weights(Plain(), tmp_path / "w.pt", lines.append)
    assert lines == [
        f"{tmp_path / 'w.pt'}: 1 keys are not of this module and left out: critic.weight"
    ]


def test_safetensors(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    save.save_file(STATE, tmp_path / "w.safetensors")
    module = Plain()
    load_weights(module, tmp_path / "w.safetensors")
    assert torch.equal(module.up.weight, STATE["up.weight"])
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"not a readable \.safetensors file$"):
        load_weights(module, tmp_path / "w.safetensors")


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    wrong = {**STATE, "up.bias": torch.zeros(3), "other": torch.zeros(1)}
    del wrong["down.weight"]
    torch.save(wrong, tmp_path / "w.pt")
    with pytest.raises(InputError) as caught:
        load_weights(Plain(), tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pt'}: does not fit the module: 1 missing: down.weight; 1 unexpected: "
        "other; 1 of another shape: up.bias [3] for [64]"
    )
