"""Model configs: ranges, presets, and conversion to dictionaries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vae_models import PRESETS, ModelConfig, preset

CVAE: dict[str, Any] = {"family": "cvae", "image_shape": (1, 28, 28), "classes": 10}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"family": "gan"}, "family"),
        ({"backbone": "transformer"}, "backbone"),
        ({"label_join": "sum"}, "label_join"),
        ({"encoder_join": "add"}, "encoder_join"),
        ({"image_shape": (28, 28)}, "image_shape"),
        ({"image_shape": (1, 0, 28)}, "image_shape"),
        ({"image_shape": (1, 28, 1 << 20)}, "image_shape"),
        ({"image_shape": (1, 28.0, 28)}, "image_shape"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": (256, 0)}, "hidden"),
        ({"hidden": (256, 1 << 20)}, "hidden"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_dim": 1.5}, "latent_dim"),
        ({"latent_dim": True}, "latent_dim"),
        ({"classes": 0}, "classes"),
        ({"classes": -1}, "classes"),
        ({"family": "vae"}, "classes"),
        ({"family": "ae", "classes": 0, "encoder_join": "film"}, "encoder_join"),
        ({"family": "vae", "classes": 0, "null_label": True}, "null_label"),
        ({"backbone": "conv", "hidden": (12,)}, "multiples of 8"),
        ({"backbone": "conv", "hidden": (16,), "relu_code": True}, "relu_code"),
        ({"backbone": "conv", "hidden": (8, 8, 8, 8, 8)}, "28x28 is halved to 1x1"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused_by_field(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        ModelConfig(**(CVAE | changes))


@pytest.mark.parametrize("hidden", [(8, 8, 8, 8), (8, 8, 8, 8, 16)])
def test_eight_channels_are_enough_above_1x1(hidden: tuple[int, ...]) -> None:
    assert ModelConfig(**CVAE, backbone="conv", hidden=hidden).hidden == hidden


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("name", PRESETS)
def test_a_config_round_trips_through_a_dictionary(name: str, family: Any) -> None:
    config = preset(name, family, (3, 37, 53), 62, latent_dim=5)
    data = config.to_dict()
    assert data["image_shape"] == [3, 37, 53]
    assert all(type(v) in (str, int, bool, list) for v in data.values())
    assert ModelConfig.from_dict(data) == config


def test_a_dictionary_with_an_unknown_field_is_refused() -> None:
    data = ModelConfig(**CVAE).to_dict() | {"dropout": 0.5}
    with pytest.raises(ValueError, match="dropout"):
        ModelConfig.from_dict(data)


def test_a_dictionary_without_the_image_shape_is_refused() -> None:
    data = ModelConfig(**CVAE).to_dict()
    del data["image_shape"]
    with pytest.raises(ValueError, match="image_shape"):
        ModelConfig.from_dict(data)


def test_pixels_include_channels() -> None:
    assert ModelConfig("ae", (3, 4, 5)).pixels == 60


def test_the_reference_preset_is_the_tutorials_model() -> None:
    config = preset("reference", "cvae", (1, 28, 28), 10)
    assert config == ModelConfig(
        "cvae", (1, 28, 28), latent_dim=8, classes=10, backbone="mlp", hidden=(256,),
        relu_code=True, label_join="add", encoder_join="none", null_label=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((1, 28, 28), (32, 64)), ((3, 64, 48), (32, 64, 64)), ((1, 8, 8), (32,)), ((1, 1, 9), (32,))],
)
def test_the_default_preset_halves_down_to_4_to_7_pixels(
    shape: tuple[int, int, int], channels: tuple[int, ...]
) -> None:
    assert preset("default", "vae", shape).hidden == channels


def test_the_best_preset_is_twice_as_wide_as_the_default() -> None:
    wide = preset("best", "cvae", (1, 28, 28), 10)
    assert wide.hidden == (64, 128)
    assert replace(wide, hidden=(32, 64)) == preset("default", "cvae", (1, 28, 28), 10)
    assert preset("best", "vae", (3, 64, 48)).hidden == (64, 128, 128)
    assert preset("best", "ae", (1, 28, 28), backbone="mlp").hidden == (1024, 512)
    assert preset("default", "ae", (1, 28, 28), backbone="mlp").hidden == (512, 256)


def test_only_a_cvae_gets_classes_and_label_joins_from_a_preset() -> None:
    conditional = preset("default", "cvae", (1, 28, 28), 10)
    joins = (conditional.classes, conditional.encoder_join, conditional.null_label)
    assert joins == (10, "film", True)
    plain = preset("default", "vae", (1, 28, 28), 10)
    assert (plain.classes, plain.encoder_join, plain.null_label) == (0, "none", False)
    assert plain.decoder_join == "none"


def test_overrides_of_none_keep_the_preset() -> None:
    expected = preset("default", "vae", (1, 28, 28))
    assert preset("default", "vae", (1, 28, 28), hidden=None, latent_dim=None) == expected
    assert preset("default", "vae", (1, 28, 28), backbone="mlp").hidden == (512, 256)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'finest'.*default.*best.*reference"):
        preset("finest", "vae", (1, 28, 28))
