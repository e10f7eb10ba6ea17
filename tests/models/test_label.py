"""Label embeddings, missing labels, FiLM and guidance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vae_models import build, preset
from vae_models.cvae import LabelTable
from vae_models.mlp import film


def table(*, relu: bool = True, null_label: bool = False, classes: int = 5) -> LabelTable:
    torch.manual_seed(0)
    return LabelTable(classes, 7, relu=relu, null_label=null_label)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("null_label", [True, False])
def test_a_row_is_the_linear_layer_on_the_one_hot_label(relu: bool, null_label: bool) -> None:
    labels = table(relu=relu, null_label=null_label)
    one_hot = F.one_hot(torch.arange(5), 5 + null_label).float()
    expected = labels.linear(one_hot)
    torch.testing.assert_close(
        labels(torch.arange(5), 5), expected.relu() if relu else expected, rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("null_label", [True, False])
def test_no_label_is_the_index_after_the_last_class(null_label: bool) -> None:
    labels = table(null_label=null_label)
    assert torch.equal(labels(None, 3), labels(torch.full((3,), 5), 3))
    assert labels(None, 3).shape == (3, 7)


def test_no_label_has_its_own_row_with_null_label() -> None:
    labels = table(null_label=True)
    own = (labels.linear.weight[:, 5] + labels.linear.bias).relu()
    torch.testing.assert_close(labels(None, 1)[0], own, rtol=0, atol=0)


def test_no_label_is_the_mean_of_all_rows_without_null_label() -> None:
    labels = table()
    torch.testing.assert_close(labels(None, 1)[0], labels(torch.arange(5), 5).mean(0))


@pytest.mark.parametrize("wrong", [6, -7])
def test_a_label_outside_the_table_is_an_error(wrong: int) -> None:
    with pytest.raises(IndexError):
        table()(torch.tensor([wrong]), 1)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 4, 5)])
def test_film_scales_and_shifts_each_feature(shape: tuple[int, ...]) -> None:
    x, scale, shift = torch.randn(shape), torch.randn(2, 6), torch.randn(2, 6)
    each = (2, 6) + (1,) * (len(shape) - 2)
    expected = x * (1 + scale.view(each)) + shift.view(each)
    torch.testing.assert_close(film(x, torch.cat([scale, shift], 1)), expected)


@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_film_starts_as_the_identity(backbone: str) -> None:
    config = preset("default", "cvae", (1, 8, 8), 4, backbone=backbone)
    torch.manual_seed(0)
    model: Any = build(config)
    assert not model.decoder_labels.table().any()
    assert not model.encoder_labels.table().any()
    z = torch.randn(1, config.latent_dim).expand(5, -1)
    assert torch.equal(model.decode(z, torch.arange(5))[0], model.decode(z, torch.arange(5))[4])


def test_each_layer_of_a_trunk_takes_its_own_film_slice() -> None:
    config = preset(
        "default", "cvae", (1, 2, 2), 3, backbone="mlp", hidden=(5, 4), encoder_join="none"
    )
    torch.manual_seed(0)
    model: Any = build(config)
    nn.init.normal_(model.decoder_labels.linear.weight)
    z, label = torch.randn(3, config.latent_dim), torch.arange(3)
    row = model.decoder_labels(label, 3)
    first, second = model.decoder.trunk.layers
    # The decoder's widths are 4 and 5; each layer takes its scales, then its shifts.
    h = (first(z) * (1 + row[:, 0:4]) + row[:, 4:8]).relu()
    h = (second(h) * (1 + row[:, 8:13]) + row[:, 13:18]).relu()
    torch.testing.assert_close(model.decode_logits(z, label).flatten(1), model.decoder.head(h))


def test_rows_can_replace_labels() -> None:
    config = preset("default", "cvae", (1, 8, 8), 3, backbone="mlp")
    torch.manual_seed(0)
    model: Any = build(config)
    nn.init.normal_(model.encoder_labels.linear.weight)
    nn.init.normal_(model.decoder_labels.linear.weight)
    image, label = torch.rand(3, 1, 8, 8), torch.tensor([2, 0, 3])
    z = torch.randn(3, config.latent_dim)
    encoder_rows, decoder_rows = (
        t.table()[label] for t in (model.encoder_labels, model.decoder_labels)
    )
    for a, b in zip(model.encode(image, label), model.encode_row(image, encoder_rows), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(model.decode_logits(z, label), model.decode_row(z, decoder_rows))


@pytest.mark.parametrize("relu", [True, False])
def test_guidance_moves_the_classes_away_from_no_label(relu: bool) -> None:
    labels = table(relu=relu, null_label=True)
    before = (labels.linear.weight.t() + labels.linear.bias).detach()
    labels.guide(1)
    assert torch.equal(labels.linear.weight.t() + labels.linear.bias, before)
    labels.guide(1.5)
    null = before[-1:]
    expected = null + 1.5 * (before - null)
    found = labels.table()
    torch.testing.assert_close(found, torch.relu(expected) if relu else expected)
    assert torch.equal(found[-1], torch.relu(null[0]) if relu else null[0])


def test_guidance_needs_a_row_for_no_label() -> None:
    with pytest.raises(ValueError, match="null_label"):
        table(null_label=False).guide(1.5)
