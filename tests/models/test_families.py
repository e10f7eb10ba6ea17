"""Every combination of options builds, has the right shapes, and trains every parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vae_models import CVAE, PRESETS, VAE, ModelConfig, Output, build, preset
from vae_models.vae import LOG_VAR_LIMIT, sample_posterior

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 37, 53), (1, 8, 8), (1, 5, 9)]
JOINS = ("add", "mean", "product", "concat", "film")
ENCODER_JOINS = ("none", "concat", "film")
SMALL = {"mlp": (24, 16), "conv": (8, 16)}


def made(config: ModelConfig, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build(config)


def images(config: ModelConfig, n: int = 3) -> Tensor:
    return torch.rand(n, *config.image_shape, generator=torch.Generator().manual_seed(1))


def labels(config: ModelConfig, n: int = 3) -> Tensor:
    return torch.arange(n) % config.classes


def forward(model: Any, image: Tensor, label: Tensor | None) -> Output:
    noise = torch.Generator().manual_seed(2)
    if isinstance(model, CVAE):
        return model(image, label, generator=noise)
    return model(image, generator=noise) if isinstance(model, VAE) else model(image)


def check_shapes(model: Any, config: ModelConfig, n: int = 3) -> None:
    image = images(config, n)
    label = labels(config, n) if config.family == "cvae" else None
    output = forward(model, image, label)
    assert output.logits.shape == image.shape
    assert output.z.shape == (n, config.latent_dim)
    decoded = model.decode(output.z) if label is None else model.decode(output.z, label)
    assert torch.equal(decoded, torch.sigmoid(output.logits))
    if config.family == "ae":
        assert output.mu is None
        assert output.log_var is None
    else:
        assert output.mu.shape == output.log_var.shape == (n, config.latent_dim)


def check_gradients(model: nn.Module, config: ModelConfig) -> None:
    """Check that each parameter has a finite gradient that is not zero everywhere."""
    for name, parameter in model.named_parameters():
        if "_labels" in name:  # FiLM starts as the identity, where some gradients vanish
            nn.init.normal_(parameter, std=0.5)
    n = 2 * config.classes + 4 if config.family == "cvae" else 8
    label = torch.arange(n) % (config.classes + 1) if config.family == "cvae" else None
    output = forward(model, images(config, n), label)
    total = output.logits.square().sum()
    if output.mu is not None and output.log_var is not None:
        total = total + output.mu.square().sum() + output.log_var.square().sum()
    torch.autograd.backward(total)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("family", ["ae", "vae"])
@pytest.mark.parametrize("backbone", ["mlp", "conv"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_gradients(shape: Any, backbone: str, family: Any) -> None:
    config = preset("default", family, shape, backbone=backbone, hidden=SMALL[backbone])
    model = made(config)
    check_shapes(model, config)
    check_gradients(model, config)


@pytest.mark.parametrize("label_join", JOINS)
@pytest.mark.parametrize("encoder_join", ENCODER_JOINS)
@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_shapes_and_gradients_of_every_label_join(
    backbone: str, encoder_join: str, label_join: str
) -> None:
    joins = {"label_join": label_join, "encoder_join": encoder_join}
    small = {"backbone": backbone, "hidden": SMALL[backbone]}
    config = preset("default", "cvae", (1, 9, 7), 3, **small, **joins)
    model = made(config)
    check_shapes(model, config)
    check_gradients(model, config)


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_preset_accepts_every_image_shape(shape: Any, name: str, family: Any) -> None:
    config = preset(name, family, shape, 10)
    with torch.no_grad():
        check_shapes(made(config), config)


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("label_join", JOINS)
def test_the_reference_shape_learns_with_every_join(label_join: str, family: Any) -> None:
    config = preset("reference", family, (1, 6, 6), 4, label_join=label_join)
    model = made(config)
    check_shapes(model, config)
    check_gradients(model, config)


@pytest.mark.parametrize("classes", [1, 62])
@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_one_class_and_many(backbone: str, classes: int) -> None:
    config = preset(
        "default", "cvae", (1, 8, 8), classes, backbone=backbone, hidden=SMALL[backbone]
    )
    model = made(config)
    check_shapes(model, config, n=classes)
    check_gradients(model, config)
    assert model.decoder_labels.table().shape[0] == classes + 1


@pytest.mark.parametrize("label_join", JOINS)
@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_the_label_changes_the_image(backbone: str, label_join: str) -> None:
    small = {"backbone": backbone, "hidden": SMALL[backbone], "label_join": label_join}
    config = preset("default", "cvae", (1, 8, 8), 2, **small)
    model = made(config)
    nn.init.normal_(model.decoder_labels.linear.weight)
    z = torch.randn(2, config.latent_dim)
    with torch.no_grad():
        assert not torch.equal(
            model.decode(z, torch.tensor([0, 0])), model.decode(z, torch.tensor([1, 1]))
        )


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("name", PRESETS)
def test_decoded_pixels_are_in_0_to_1_for_any_z(name: str, family: Any) -> None:
    config = preset(name, family, (1, 8, 8), 3)
    model = made(config)
    far = torch.cat([torch.zeros(1, config.latent_dim), 1e4 * torch.randn(8, config.latent_dim)])
    with torch.no_grad():
        pixels = model.decode(far)
    assert pixels.isfinite().all()
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_log_var_is_clamped_both_ways() -> None:
    model = made(preset("reference", "vae", (1, 4, 4)))
    features = torch.full((1, 8), 1e6)
    nn.init.ones_(model.log_var.weight)
    assert torch.equal(model.heads(features)[1], torch.full((1, 8), LOG_VAR_LIMIT))
    nn.init.constant_(model.log_var.weight, -1)
    assert torch.equal(model.heads(features)[1], torch.full((1, 8), -LOG_VAR_LIMIT))


def test_z_is_sampled_from_the_posterior() -> None:
    mu, log_var = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    eps = torch.randn(1, 2, generator=torch.Generator().manual_seed(7))
    drawn = sample_posterior(mu, log_var, torch.Generator().manual_seed(7))
    expected = mu + torch.tensor([[1.0, 2.718281828]]) * eps
    torch.testing.assert_close(drawn, expected)


def test_the_same_generator_gives_the_same_output() -> None:
    config = preset("reference", "vae", (1, 4, 4))
    model = made(config)
    a, b = (forward(model, images(config), None) for _ in range(2))
    assert torch.equal(a.logits, b.logits)
    other = model(images(config), generator=torch.Generator().manual_seed(3))
    assert not torch.equal(a.z, other.z)


def test_a_plain_autoencoder_has_no_noise() -> None:
    config = preset("default", "ae", (1, 8, 8), backbone="mlp")
    model = made(config)
    image = images(config)
    assert torch.equal(model(image).z, model.encode(image))


@pytest.mark.parametrize("family", ["ae", "vae"])
def test_label_options_do_not_affect_families_without_labels(family: Any) -> None:
    plain = made(preset("default", family, (1, 8, 8), backbone="mlp"))
    joined = made(preset("default", family, (1, 8, 8), backbone="mlp", label_join="concat"))
    shapes = {name: p.shape for name, p in plain.named_parameters()}
    assert {name: p.shape for name, p in joined.named_parameters()} == shapes


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 37, 53)])
def test_images_of_a_batch_do_not_affect_each_other(shape: Any) -> None:
    config = preset("default", "ae", shape)
    model = made(config)
    image = images(config, 2)
    with torch.no_grad():
        alone, together = model(image[:1]).logits, model(image).logits[:1]
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
