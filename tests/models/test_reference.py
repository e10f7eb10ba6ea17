"""The reference preset equals the tutorial's recipe: layers, their order and formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_models import build, preset

JOINS = {
    "add": lambda z, row: z + row,
    "mean": lambda z, row: (z + row) / 2,
    "product": lambda z, row: z * row,
    "concat": lambda z, row: torch.cat([z, row], 1),
}


def reference(family: Any, latent_dim: int = 8, **changes: Any) -> Any:
    torch.manual_seed(0)
    return build(preset("reference", family, (1, 28, 28), 10, latent_dim=latent_dim, **changes))


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in model.parameters()]


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return x @ layer.weight.T + layer.bias


def encode(model: Any, image: Tensor) -> Tensor:
    """Compute Linear(784, 256) ReLU Linear(256, h) ReLU."""
    first, second = model.encoder.trunk.layers
    return linear(linear(image.flatten(1), first).relu(), second).relu()


def decode(model: Any, z: Tensor) -> Tensor:
    """Compute Linear(h, 256) ReLU Linear(256, 784) Sigmoid."""
    (first,) = model.decoder.trunk.layers
    return linear(linear(z, first).relu(), model.decoder.head).sigmoid()


@pytest.mark.parametrize("h", [8, 32])
def test_the_autoencoders_layers(h: int) -> None:
    model = reference("ae", h)
    assert shapes(model.encoder) == [(256, 784), (256,), (h, 256), (h,)]
    assert shapes(model.decoder) == [(256, h), (256,), (784, 256), (784,)]
    assert len(shapes(model)) == 8


def test_the_vaes_heads_read_the_relu_layer() -> None:
    model = reference("vae")
    assert shapes(model.mu) == shapes(model.log_var) == [(8, 8), (8,)]
    assert len(shapes(model)) == 12


def test_the_cvae_adds_one_label_projector() -> None:
    model = reference("cvae")
    assert shapes(model.decoder_labels) == [(8, 10), (8,)]
    assert model.encoder_labels is None
    assert len(shapes(model)) == 14


def test_the_autoencoder_computes_the_same_as_the_tutorial() -> None:
    model = reference("ae")
    image = torch.rand(4, 1, 28, 28)
    z = encode(model, image)
    assert (z == 0).any()  # there is a ReLU on z
    torch.testing.assert_close(model.encode(image), z)
    torch.testing.assert_close(model.decode(z).flatten(1), decode(model, z))


def test_the_vae_computes_the_same_as_the_tutorial() -> None:
    model = reference("vae")
    image = torch.rand(4, 1, 28, 28)
    features = encode(model, image)
    mu, log_var = model.encode(image)
    torch.testing.assert_close(mu, linear(features, model.mu))
    torch.testing.assert_close(log_var, linear(features, model.log_var))


@pytest.mark.parametrize("join", JOINS)
def test_the_label_is_projected_and_joined_to_z(join: str) -> None:
    model = reference("cvae", label_join=join)
    z, label = torch.randn(10, 8), torch.arange(10)
    one_hot = F.one_hot(label, 10).float()
    row = linear(one_hot, model.decoder_labels.linear).relu()
    expected = decode(model, JOINS[join](z, row))
    torch.testing.assert_close(model.decode(z, label).flatten(1), expected)


def test_the_encoder_sees_no_label() -> None:
    model = reference("cvae")
    image = torch.rand(2, 1, 28, 28)
    for label in (torch.tensor([0, 1]), torch.tensor([9, 3]), None):
        mu, log_var = model.encode(image, label)
        assert torch.equal(mu, model.encode(image)[0])
        assert torch.equal(log_var, model.encode(image)[1])
