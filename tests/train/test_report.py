"""The measurements and findings of a report."""

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
from vae_train.report import Measurements, TrainedModel, find_problems, measure
from vae_train.report.measure import PCA, flatten, frechet, linear_probe, probe_limit
from vae_train.state import Epoch

DIGITS = ("--data", "digits", "--epochs", "1", *SMALL)
GOOD = Measurements(
    split="test",
    images=1000,
    latent_dim=4,
    variance=[0.9, 0.8, 0.7, 0.6],
    active=[True] * 4,
    kl=[2.0, 1.5, 1.2, 1.0],
    mse=0.01,
    training_mse=0.008,
    mean_mse=0.06,
    pca_mse=0.02,
    pca_images=5000,
    probe_accuracy=0.2,
    chance_accuracy=0.25,
    probe_limit=0.3,
    training_loss=100.0,
    held_out_loss=101.0,
    best_held_out_loss=101.0,
    sample_distance=0.04,
    reconstruction_distance=0.03,
    training_distance=0.01,
)


def images(n: int = 200, seed: int = 0, classes: int = 4) -> Dataset:
    """Squares of random brightness in one of four corners, which is the class."""
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
        metadata={
            "command": "vae-train <cvae>",
            "data": {"name": "corners", "training": 190_000, "classes": list("abcd")},
            "epochs": 2,
            "parameters": 1234,
            "metrics": {"loss": 30.0, "validation_loss": 31.0, "test_loss": 33.0},
            "prior_held_out_log_likelihood": None,
            "versions": {"torch": "2.13.0"},
        },
    )


HISTORY = [Epoch(1, 40.0, 39.0, 1.0, 1, 9, 35.0, 34.0, 1.0),
           Epoch(2, 30.0, 28.0, 2.0, 1, 9, 31.0, 29.0, 2.0)]  # fmt: skip


def trained(family: Any = "cvae", **changes: Any) -> TrainedModel:
    return TrainedModel.from_run(checkpoint(family, **changes), HISTORY, images(), images(150, 1))


def found(measured: Measurements, run: TrainedModel) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in find_problems(measured, run)]


def test_a_good_run_has_no_findings() -> None:
    assert find_problems(GOOD, trained()) == []


@pytest.mark.parametrize(
    ("changes", "code", "observation"),
    [
        (
            {"active": [False, False, False, True]},
            "inactive_units",
            "1 of 4 latent dimensions is active.",
        ),
        (
            {"mse": 0.0206},
            "worse_than_pca",
            "The squared error is 0.0206 per pixel on test images; that of PCA (principal "
            "component analysis) with 4 components is 0.0200.",
        ),
        (
            {"kl": [0.1, 0.1, 0.1, 0.1], "active": [False, True, False, False]},
            "posterior_collapse",
            "The KL divergence from N(0, I) is 0.40 nats per image, close to 0; 1 of 4 latent "
            "dimensions is active.",
        ),
        (
            {"probe_accuracy": 0.31},
            "label_in_latents",
            "A linear classifier predicts the label of test images from their latents with "
            "accuracy 0.31 (chance: 0.25, limit: 0.30).",
        ),
        (
            {"held_out_loss": 101.0, "best_held_out_loss": 98.0},
            "overfit",
            "The loss is 100.00 on training images and 101.00 on held-out images. Its lowest value "
            "on held-out images was 98.00.",
        ),
        (
            {"sample_distance": 0.07},
            "samples_off",
            "The Fréchet distance between samples and test images is 0.07 (on principal "
            "components, relative to the variance of the images); it is 0.03 for reconstructions "
            "and 0.01 for training images.",
        ),
    ],
)
def test_each_warning_reports_the_numbers(
    changes: dict[str, Any], code: str, observation: str
) -> None:
    (finding,) = find_problems(replace(GOOD, **changes), trained())
    assert (finding.code, finding.level, finding.observation) == (code, "warning", observation)
    assert finding.explanation
    assert finding.advice.endswith(".")


@pytest.mark.parametrize(
    ("family", "changes", "advice"),
    [
        ("cvae", {}, "a lower --beta, a larger --hidden or more --epochs."),
        ("ae", {"kl": None}, "a larger --hidden or more --epochs."),
    ],
)
def test_the_default_preset_is_not_advised_if_it_was_used(
    family: str, changes: dict[str, Any], advice: str
) -> None:
    run = trained(family)
    run = replace(run, checkpoint=replace(run.checkpoint, train=TrainConfig("mse")))
    (finding,) = find_problems(replace(GOOD, mse=0.03, **changes), run)
    assert finding.advice == advice


def test_another_objective_is_advised_for_grey_images() -> None:
    (finding,) = find_problems(replace(GOOD, mse=0.03), trained())
    assert finding.advice.startswith("--objective gaussian, since the images have shades")


def test_the_default_preset_is_advised_for_the_reference_model() -> None:
    run = trained("vae", relu_code=True)
    (finding,) = find_problems(replace(GOOD, mse=0.03), run)
    assert finding.advice == "the default preset."


@pytest.mark.parametrize(
    "changes",
    [
        {"mse": 0.02},
        {"pca_mse": None, "mse": 9.0, "mean_mse": 10.0},
        {"kl": [0.2, 0.1, 0.1, 0.1]},
        {"mse": 0.0199, "mean_mse": 0.0222},
        {"held_out_loss": 111.0, "best_held_out_loss": 98.0, "training_mse": 0.0091},
        {"probe_accuracy": 0.3},
        {"probe_accuracy": None},
        {"held_out_loss": 110.0, "best_held_out_loss": 110.0},
        {"held_out_loss": None, "best_held_out_loss": None},
        {"held_out_loss": 20.0, "best_held_out_loss": 20.0},
        {"sample_distance": 0.06},
        {"sample_distance": 0.049, "reconstruction_distance": 0.001},
        {"sample_distance": None},
    ],
)
def test_at_the_limit_there_is_no_warning(changes: dict[str, Any]) -> None:
    assert find_problems(replace(GOOD, **changes), trained()) == []


def test_a_density_near_zero_is_not_compared_relatively() -> None:
    plain = checkpoint("vae")
    run = replace(trained("vae"), checkpoint=replace(plain, train=TrainConfig("gaussian")))
    near = replace(GOOD, training_loss=0.1, held_out_loss=0.4, best_held_out_loss=0.4)
    assert find_problems(near, run) == []
    far = replace(near, held_out_loss=0.5, best_held_out_loss=0.5)  # .05 · 64 pixels · .1 = .32
    assert [finding.code for finding in find_problems(far, run)] == ["few_images"]


@pytest.mark.parametrize(
    ("best", "advice"),
    [
        (111.0, "more data, or a smaller --hidden or a higher --beta."),
        (None, "--validation 0.1 to measure them, more data, or a smaller --hidden or a higher"),
    ],
)
def test_a_gap_between_losses_is_a_note_unless_the_loss_rose(
    best: float | None, advice: str
) -> None:
    measured = replace(GOOD, held_out_loss=111.0, best_held_out_loss=best)
    (finding,) = find_problems(measured, trained())
    assert (finding.code, finding.level) == ("few_images", "note")
    assert finding.observation == (
        "The loss is 100.00 on training images and 111.00 on held-out images."
    )
    assert finding.advice.startswith(advice)


def test_symptoms_of_a_model_that_learned_nothing_are_not_reported() -> None:
    bad = {"probe_accuracy": 0.9, "sample_distance": 9.0, "held_out_loss": 150.0, "mse": 0.055}
    run = trained()
    collapsed = replace(GOOD, kl=[0.1] * 4, active=[False] * 4, **bad)
    assert found(collapsed, run) == [("posterior_collapse", "warning")]
    assert found(replace(GOOD, **bad), run) == [("nothing_learned", "warning")]
    assert found(replace(GOOD, active=[False] * 4), run) == [("nothing_learned", "warning")]


def test_the_most_likely_cause_is_advised() -> None:
    run = trained()
    plain = run.checkpoint
    few = plain.metadata | {"data": plain.metadata["data"] | {"training": 640}}
    fast = replace(plain, train=TrainConfig(learning_rate=9.0))
    worse = replace(GOOD, mse=0.03)

    def advice(measured: Measurements, made: Checkpoint) -> list[str]:
        return [f.advice for f in find_problems(measured, replace(run, checkpoint=made))]

    too_short = ["more --epochs: the model was trained for only 10 steps."]
    assert advice(worse, replace(plain, metadata=few)) == too_short
    assert advice(worse, fast) == ["a smaller --learning-rate than 9, such as 0.003."]
    dead = replace(GOOD, active=[False] * 4)
    assert advice(dead, fast) == ["a smaller --learning-rate than 9, such as 0.003."]
    assert advice(dead, replace(plain, metadata=few)) == too_short
    strong = replace(plain, train=TrainConfig(beta=7.0))
    assert advice(replace(GOOD, kl=[0.0] * 4), strong) == ["a --beta below 7."]


def test_a_label_in_the_latents_is_harmless_if_each_class_has_a_mixture() -> None:
    packed = np.eye(4)[np.tril_indices(4)]
    own = Prior("class_gmm", 4, weights=np.ones((5, 1)), mean=np.zeros((5, 1, 4)),
                cholesky=np.tile(packed, (5, 1, 1)))  # fmt: skip
    (finding,) = find_problems(replace(GOOD, probe_accuracy=0.9), trained(prior=own))
    assert finding.level == "note"
    assert "This does not harm samples, since the fitted prior (class_gmm)" in finding.explanation
    # The latents of a plain VAE should contain the label.
    assert find_problems(replace(GOOD, probe_accuracy=0.9), trained("vae")) == []


def test_findings_about_an_ae_do_not_mention_kl() -> None:
    measured = replace(GOOD, kl=None, active=[True, True, True, False], mse=0.03)
    found = find_problems(measured, trained("ae"))
    assert [finding.code for finding in found] == ["worse_than_pca", "inactive_units"]
    assert found[1].level == "note"  # only one of four
    assert not any(word in f.explanation + f.advice for f in found for word in ("KL", "--beta"))


def test_without_held_out_images_the_report_says_so() -> None:
    data = images()
    plain = checkpoint("vae")
    plain = replace(plain, train=TrainConfig(validation=0.0))
    run = TrainedModel.from_run(plain, HISTORY, data)
    assert run.split == "training"
    assert found(replace(GOOD, split="training"), run) == [("nothing_held_out", "note")]


def test_evaluation_uses_the_test_split_or_else_validation_images() -> None:
    assert trained().split == "test"
    held = TrainedModel.from_run(checkpoint(), HISTORY, images())
    assert (held.split, len(held.held_out), len(held.training)) == ("validation", 20, 180)


def test_fewer_large_images_are_used() -> None:
    config = ModelConfig("ae", (3, 200, 200), backbone="mlp", hidden=(2,), latent_dim=1)
    large = replace(checkpoint("ae"), model=config)
    data = Dataset("large", np.zeros((80, 3, 200, 200), np.uint8))
    run = TrainedModel.from_run(large, HISTORY, data, data)
    assert (len(run.training), len(run.held_out)) == (66, 33)


def test_the_measurements_equal_their_definitions() -> None:
    """Compute each measurement in another way, from its definition."""
    run = trained()
    measured = measure(run)
    model, data = run.checkpoint.build(), run.held_out
    with torch.no_grad():
        image = torch.tensor(data.images).float() / 255
        label = torch.tensor(data.labels)
        mu, log_var = model.encode(image, label)  # type: ignore[call-arg]
        again = model.decode(mu, label)  # type: ignore[call-arg]
    kl = 0.5 * (mu.double() ** 2 + log_var.double().exp() - 1 - log_var.double()).mean(0)
    np.testing.assert_allclose(measured.kl or [], kl.numpy(), rtol=1e-5)
    np.testing.assert_allclose(measured.variance, mu.double().var(0, correction=0), rtol=1e-5)
    assert measured.active_units == sum(v > 0.01 for v in measured.variance)
    assert measured.mse == pytest.approx(float((again - image).square().mean()), rel=1e-5)
    assert (measured.images, measured.split, measured.latent_dim) == (150, "test", 4)
    assert (measured.training_loss, measured.held_out_loss) == (30.0, 31.0)
    assert measured.sample_distance > 5 * measured.training_distance  # the model is untrained


def test_pca_is_the_best_linear_projection() -> None:
    rows = flatten(images(300).images)
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


def test_the_probe_finds_exactly_the_information_in_the_latents() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 4
    noise = rng.normal(size=(1000, 3)).astype(np.float32)
    told = noise + 6 * np.eye(4)[labels][:, :3].astype(np.float32)
    assert linear_probe(told, labels, 0) == (pytest.approx(1, abs=0.02), 4)
    assert linear_probe(noise, labels, 0) == (pytest.approx(0.25, abs=0.06), 4)
    rare = np.where(np.arange(1000) < 950, 0, 1)  # guessing the common class is not rewarded
    assert linear_probe(noise, rare, 0) == (pytest.approx(0.5, abs=0.12), 2)
    few = np.where(np.arange(1000) < 991, rare, 7)  # a class of nine images is left out
    assert linear_probe(noise, few, 0) == (pytest.approx(0.5, abs=0.12), 2)
    assert linear_probe(noise, np.zeros(1000, int), 0) is None
    assert linear_probe(noise[:12], labels[:12], 0) is None


def test_the_probe_limit_is_0_3_for_ten_classes() -> None:
    assert probe_limit(10) == pytest.approx(0.3)
    assert 1 / 62 < probe_limit(62) < 0.3 < probe_limit(2) < 1
