"""The figures and warnings that a run ends with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.test_cli import SMALL
from vae_models import ModelConfig, build, preset
from vae_runtime.datasets import Dataset
from vae_runtime.prior import Prior
from vae_train import Checkpoint, TrainConfig
from vae_train.report import Figures, Subject, advise, measure
from vae_train.report.network import Network
from vae_train.report.pca import PCA, flat, frechet
from vae_train.report.probe import probe, readable
from vae_train.state import Epoch

DIGITS = ("--data", "digits", "--epochs", "1", *SMALL)
FINE = Figures(
    part="test",
    images=1000,
    latent_dim=4,
    variance=[0.9, 0.8, 0.7, 0.6],
    active_units=4,
    kl=[2.0, 1.5, 1.2, 1.0],
    mse=0.01,
    pca_mse=0.02,
    pca_images=5000,
    probe=0.2,
    guessing=0.25,
    probe_limit=0.3,
    training_loss=100.0,
    held_out_loss=101.0,
    best_held_out_loss=101.0,
    samples_distance=0.04,
    reconstructions_distance=0.03,
    floor_distance=0.01,
)


def images(n: int = 200, seed: int = 0, classes: int = 4) -> Dataset:
    """Squares in one of four corners, which is their class, of random brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    pixels = rng.integers(0, 40, (n, 1, 8, 8))
    for image, k, level in zip(pixels, labels, rng.integers(120, 215, n), strict=True):
        top, left = 4 * (k // 2), 4 * (k % 2)
        image[0, top : top + 4, left : left + 4] += level
    return Dataset("corners", pixels.astype(np.uint8), labels, tuple("abcd"[:classes]))


def checkpoint(family: Any = "cvae", prior: Prior | None = None, **changes: Any) -> Checkpoint:
    torch.manual_seed(0)
    config = preset(
        "default", family, (1, 8, 8), 4, backbone="mlp", hidden=(16,), latent_dim=4, **changes
    )
    return Checkpoint(
        config,
        build(config).state_dict(),
        TrainConfig(),
        prior or Prior.normal(4),
        torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
        classes=tuple("abcd") if family == "cvae" else (),
        facts={
            "command": "vae-train <cvae>",
            "data": {"name": "corners", "training": 190, "classes": list("abcd")},
            "epochs": 2,
            "parameters": 1234,
            "metrics": {"loss": 30.0, "validation_loss": 31.0, "test_loss": 33.0},
            "prior_held_out_log_likelihood": None,
            "versions": {"torch": "2.13.0"},
        },
    )


HISTORY = [Epoch(1, 40.0, 39.0, 1.0, 1, 9, 35.0, 34.0, 1.0),
           Epoch(2, 30.0, 28.0, 2.0, 1, 9, 31.0, 29.0, 2.0)]  # fmt: skip


def subject(family: Any = "cvae", **changes: Any) -> Subject:
    return Subject.of(checkpoint(family, **changes), HISTORY, images(), images(150, 1))


def codes_of(figures: Figures, about: Subject) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in advise(figures, about)]


def test_a_good_run_is_not_warned_of() -> None:
    assert advise(FINE, subject()) == []


@pytest.mark.parametrize(
    ("changes", "code", "seen"),
    [
        ({"active_units": 3}, "inactive_units", "3 of 4 latent dimensions are active."),
        (
            {"mse": 0.0206},
            "worse_than_pca",
            "Squared error 0.0206 a pixel on test images; PCA with the same 4 numbers has 0.0200.",
        ),
        (
            {"kl": [0.1, 0.1, 0.1, 0.1], "active_units": 1},
            "posterior_collapse",
            "KL is 0.40 nats an image, near 0; 1 of 4 latent dimensions are active.",
        ),
        (
            {"probe": 0.31},
            "label_in_code",
            "A linear probe reads the label of test images from the code with accuracy 0.31 "
            "(guessing: 0.25, limit: 0.30).",
        ),
        (
            {"held_out_loss": 111.0, "best_held_out_loss": 111.0},
            "overfit",
            "Loss 100.00 in training, 111.00 on held-out images.",
        ),
        (
            {"held_out_loss": 101.0, "best_held_out_loss": 98.0},
            "overfit",
            "Loss 100.00 in training, 101.00 on held-out images. Its lowest was 98.00.",
        ),
        (
            {"samples_distance": 0.07},
            "samples_off",
            "Samples differ from test images by 0.07 of their variance (Fréchet distance on "
            "principal components); reconstructions by 0.03, training images by 0.01.",
        ),
    ],
)
def test_each_warning_says_what_was_seen(changes: dict[str, Any], code: str, seen: str) -> None:
    (finding,) = advise(replace(FINE, **changes), subject())
    assert (finding.code, finding.level, finding.seen) == (code, "warning", seen)
    assert finding.means
    assert finding.advice.endswith(".")


@pytest.mark.parametrize(
    ("family", "changes", "advice"),
    [
        ("cvae", {}, "More --epochs, a lower --beta or wider --hidden."),
        ("ae", {"kl": None}, "More --epochs or wider --hidden."),
    ],
)
def test_the_default_preset_is_not_advised_to_who_has_it(
    family: str, changes: dict[str, Any], advice: str
) -> None:
    (finding,) = advise(replace(FINE, mse=0.03, **changes), subject(family))
    assert finding.advice == advice


def test_the_default_preset_is_advised_to_who_has_the_reference() -> None:
    about = subject("vae", relu_code=True)
    (finding,) = advise(replace(FINE, mse=0.03), about)
    assert finding.advice == "More --epochs, a lower --beta or the default preset."


@pytest.mark.parametrize(
    "changes",
    [
        {"mse": 0.02},
        {"pca_mse": None, "mse": 9.0},
        {"kl": [0.2, 0.1, 0.1, 0.1]},
        {"probe": 0.3},
        {"probe": None},
        {"held_out_loss": 110.0, "best_held_out_loss": 110.0},
        {"held_out_loss": None, "best_held_out_loss": None},
        {"held_out_loss": 20.0, "best_held_out_loss": 20.0},
        {"samples_distance": 0.06},
        {"samples_distance": 0.049, "reconstructions_distance": 0.001},
        {"samples_distance": None},
    ],
)
def test_at_the_limit_there_is_no_warning(changes: dict[str, Any]) -> None:
    assert advise(replace(FINE, **changes), subject()) == []


def test_a_density_near_zero_is_not_measured_in_shares() -> None:
    plain = checkpoint("vae")
    about = replace(subject("vae"), checkpoint=replace(plain, train=TrainConfig("gaussian")))
    near = replace(FINE, training_loss=0.1, held_out_loss=0.4, best_held_out_loss=0.4)
    assert advise(near, about) == []
    far = replace(near, held_out_loss=0.5, best_held_out_loss=0.5)  # .05 · 64 pixels · .1 = .32
    assert [finding.code for finding in advise(far, about)] == ["overfit"]


def test_a_readable_label_is_harmless_where_each_class_has_its_own_mixture() -> None:
    packed = np.eye(4)[np.tril_indices(4)]
    own = Prior("class_gmm", 4, weights=np.ones((5, 1)), mean=np.zeros((5, 1, 4)),
                cholesky=np.tile(packed, (5, 1, 1)))  # fmt: skip
    (finding,) = advise(replace(FINE, probe=0.9), subject(prior=own))
    assert finding.level == "note"
    assert "Harmless for sampling here: the fitted prior (class_gmm)" in finding.means
    assert advise(replace(FINE, probe=0.9), subject("vae")) == []  # whose code should hold it


def test_an_ae_is_not_told_about_kl() -> None:
    figures = replace(FINE, kl=None, active_units=3, mse=0.03)
    found = advise(figures, subject("ae"))
    assert [finding.code for finding in found] == ["inactive_units", "worse_than_pca"]
    assert not any(word in f.means + f.advice for f in found for word in ("KL", "--beta"))


def test_without_held_out_images_the_report_says_so() -> None:
    data = images()
    plain = checkpoint("vae")
    plain = replace(plain, train=TrainConfig(validation=0.0))
    about = Subject.of(plain, HISTORY, data)
    assert about.part == "training"
    assert codes_of(replace(FINE, part="training"), about) == [("nothing_held_out", "note")]


def test_it_judges_by_the_test_split_else_by_what_was_held_out() -> None:
    assert subject().part == "test"
    held = Subject.of(checkpoint(), HISTORY, images())
    assert (held.part, len(held.held_out), len(held.training)) == ("validation", 10, 190)


def test_large_images_are_looked_at_in_small_numbers() -> None:
    config = ModelConfig("ae", (3, 200, 200), backbone="mlp", hidden=(2,), latent_dim=1)
    large = replace(checkpoint("ae"), model=config)
    data = Dataset("large", np.zeros((80, 3, 200, 200), np.uint8))
    about = Subject.of(large, HISTORY, data, data)
    assert (len(about.training), len(about.held_out)) == (66, 33)


def test_the_figures_are_those_of_the_model() -> None:
    """Each against its definition, taken another way."""
    about = subject()
    network = Network(about.checkpoint)
    figures = measure(about, network)
    model, data = about.checkpoint.build(), about.held_out
    with torch.no_grad():
        image = torch.tensor(data.images).float() / 255
        label = torch.tensor(data.labels)
        mu, log_var = model.encode(image, label)  # type: ignore[call-arg]
        again = model.decode(mu, label)  # type: ignore[call-arg]
    kl = 0.5 * (mu.double() ** 2 + log_var.double().exp() - 1 - log_var.double()).mean(0)
    np.testing.assert_allclose(figures.kl or [], kl.numpy(), rtol=1e-5)
    np.testing.assert_allclose(figures.variance, mu.double().var(0, correction=0), rtol=1e-5)
    assert figures.active_units == sum(v > 0.01 for v in figures.variance)
    assert figures.mse == pytest.approx(float((again - image).square().mean()), rel=1e-5)
    assert (figures.images, figures.part, figures.latent_dim) == (150, "test", 4)
    assert (figures.training_loss, figures.held_out_loss) == (30.0, 31.0)
    assert figures.samples_distance is not None
    assert figures.floor_distance is not None
    assert figures.samples_distance > 5 * figures.floor_distance  # the model is untrained


def test_pca_is_the_best_linear_code() -> None:
    rows = flat(images(300).images)
    fit, other = rows[:200], rows[200:]
    centred = fit - fit.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    left = (other - fit.mean(0)) @ (np.eye(64) - axes.T @ axes)
    pca = PCA.fit(images(300).images[:200], 5, seed=0)
    assert pca.error(other, 3) == pytest.approx(float(np.square(left).mean()), rel=1e-3)
    assert pca.error(other, 5) < pca.error(other, 3)


def test_the_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200_000, 2))
    b = rng.normal(size=(200_000, 2)) * [2, 3] + [1, 0]
    assert frechet(a, b) == pytest.approx(1 + (2 - 1) ** 2 + (3 - 1) ** 2, rel=0.02)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a[:, :1], b[:, :1]) == pytest.approx(2, rel=0.02)


def test_the_probe_reads_what_is_there_and_no_more() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 4
    noise = rng.normal(size=(1000, 3)).astype(np.float32)
    told = noise + 6 * np.eye(4)[labels][:, :3].astype(np.float32)
    assert probe(told, labels, 0) == (pytest.approx(1, abs=0.02), 4)
    assert probe(noise, labels, 0) == (pytest.approx(0.25, abs=0.06), 4)
    rare = np.where(np.arange(1000) < 950, 0, 1)  # guessing the common class is no reading
    assert probe(noise, rare, 0) == (pytest.approx(0.5, abs=0.12), 2)
    few = np.where(np.arange(1000) < 991, rare, 7)  # a class of nine is not judged
    assert probe(noise, few, 0) == (pytest.approx(0.5, abs=0.12), 2)
    assert probe(noise, np.zeros(1000, int), 0) is None
    assert probe(noise[:12], labels[:12], 0) is None


def test_readable_is_three_tenths_of_ten_classes() -> None:
    assert readable(10) == pytest.approx(0.3)
    assert 1 / 62 < readable(62) < 0.3 < readable(2) < 1
