"""Compare the losses with closed forms and with torch.distributions."""

from __future__ import annotations

from math import log, pi
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from vae_models import build, preset
from vae_runtime.datasets import Dataset, load_dataset
from vae_train import TrainConfig
from vae_train.config import Objective
from vae_train.objective import (
    Batch,
    LossModule,
    LossTerms,
    importance_bound,
    kl_to_standard_normal,
    log_ratio,
    mean_squared_error,
    pick_objective,
    reconstruction,
    total_loss,
)

OBJECTIVES: tuple[Any, ...] = get_args(Objective)


def test_kl_of_the_prior_itself_is_zero() -> None:
    zero = torch.zeros(2, 3)
    assert torch.equal(kl_to_standard_normal(zero, zero), zero)


def test_kl_in_closed_form() -> None:
    # KL(N(1, 1) || N(0, 1)) = 1/2; KL(N(0, e) || N(0, 1)) = (e - 2) / 2.
    mu, log_var = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    expected = torch.tensor([[0.5, (2.718281828 - 2) / 2]])
    torch.testing.assert_close(kl_to_standard_normal(mu, log_var), expected)


def test_kl_equals_that_of_torch_distributions() -> None:
    mu, log_var = 3 * torch.randn(64, 5), torch.randn(64, 5)
    posterior = Normal(mu, (0.5 * log_var).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mu, log_var), expected)


def test_the_log_ratio_equals_that_of_torch_distributions() -> None:
    mu, log_var, eps = torch.randn(4, 5), torch.randn(4, 5), torch.randn(7, 4, 5)
    posterior = Normal(mu, (0.5 * log_var).exp())
    z = mu + posterior.stddev * eps
    expected = (Normal(0.0, 1.0).log_prob(z) - posterior.log_prob(z)).sum(-1)
    torch.testing.assert_close(log_ratio(z, log_var, eps), expected)


def test_bce_is_the_bernoulli_negative_log_likelihood() -> None:
    logits, image = 4 * torch.randn(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    found = reconstruction(logits, image, "bce")
    expected = F.binary_cross_entropy(logits.sigmoid(), image, reduction="none").sum((1, 2, 3))
    # The sigmoid of a large logit loses precision; the logits do not.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    binary = image.round()
    log_prob = Bernoulli(logits=logits).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(reconstruction(logits, binary, "bce"), -log_prob)


def test_bce_is_finite_even_if_the_sigmoid_is_0_or_1() -> None:
    logits = torch.tensor([-200.0, 200.0]).view(1, 1, 1, 2)
    image = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert reconstruction(logits, image, "bce").item() == 400


def test_mse_is_summed_over_pixels_not_averaged() -> None:
    logits = torch.zeros(2, 1, 3, 4)  # all pixels decode to 1/2
    image = torch.stack([torch.zeros(1, 3, 4), torch.full((1, 3, 4), 0.5)])
    assert reconstruction(logits, image, "mse").tolist() == [12 * 0.25, 0]


def test_gaussian_is_the_negative_log_density() -> None:
    logits, image = torch.randn(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    found = reconstruction(logits, image, "gaussian", variance=0.04)
    expected = -Normal(logits.sigmoid(), 0.2).log_prob(image).sum((1, 2, 3))
    torch.testing.assert_close(found, expected)


def test_the_squared_error_is_recovered_from_the_density() -> None:
    logits, image = torch.randn(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    nll = reconstruction(logits, image, "gaussian", variance=0.04).mean().item()
    expected = (logits.sigmoid() - image).square().mean().item()
    assert mean_squared_error(nll, 40, 0.04) == pytest.approx(expected, rel=1e-5)
    # This is the variance that makes the image most likely.
    best, *others = (
        reconstruction(logits, image, "gaussian", variance=expected * f).mean().item()
        for f in (1, 0.98, 1.02)
    )
    assert best < min(others)


def test_beta_weights_the_kl() -> None:
    terms = LossTerms(torch.tensor([1.0, 3.0]), torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
    assert total_loss(terms.means(), beta=3).item() == 2 + 3 * (1.5 + 0.5)


def test_free_bits_on_a_worked_example() -> None:
    # The means of the two dimensions are 1.5 and 0.25, and half a nat is free in each.
    kl = torch.tensor([[1.0, 0.5], [2.0, 0.0]], requires_grad=True)
    loss = total_loss(LossTerms(torch.zeros(2), kl).means(), beta=2, free_bits=0.5)
    assert loss.item() == 2 * (1.5 + 0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert kl.grad.tolist() == [[1, 0], [1, 0]]  # the second dimension costs nothing


def test_free_bits_are_counted_over_all_processes() -> None:
    terms = LossTerms(torch.zeros(1), torch.tensor([[0.2, 0.2]]))
    loss = total_loss(terms.means(), 1, 0.5, batch_kl=torch.tensor([0.6, 0.4]))
    assert loss.item() == pytest.approx(0.2 + 0.5)


def model(family: Any = "vae") -> Any:
    changes = {"backbone": "mlp", "hidden": (16,), "latent_dim": 3}
    return build(preset("default", family, (1, 6, 6), 3, **changes))


def batch(n: int = 4, k: int = 1) -> Batch:
    image = torch.rand(n, 1, 6, 6)
    return Batch(image, image, torch.arange(n) % 3, torch.randn(k, n, 3))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
def test_a_forward_pass_returns_terms_per_image(family: Any, objective: Any) -> None:
    config = TrainConfig(objective=objective)
    made, given = model(family), batch()
    terms = LossModule(made, config)(given, 1.0, 0.1)
    assert terms.reconstruction.shape == (4,)
    assert terms.kl.shape == (4, 0 if family == "ae" else 3)
    assert terms.bound is None
    if family == "vae":
        mu, log_var = made.encode(given.image)
        logits = made.decode_logits(mu + (log_var / 2).exp() * given.eps[0])
        expected = reconstruction(logits, given.image, objective, 0.1)
        torch.testing.assert_close(terms.reconstruction, expected)
        torch.testing.assert_close(terms.kl, kl_to_standard_normal(mu, log_var))


@pytest.mark.parametrize("family", ["vae", "cvae"])
def test_each_image_is_compared_with_all_its_reconstructions(family: Any) -> None:
    made, given = model(family), batch(k=5)
    found = LossModule(made, TrainConfig(importance_samples=5))(given, 1.0, 0.1).reconstruction
    one = LossModule(made, TrainConfig())
    each = [one(given._replace(eps=eps[None]), 1.0, 0.1).reconstruction for eps in given.eps]
    torch.testing.assert_close(found, torch.stack(each).mean(0))


def test_an_autoencoder_has_no_kl() -> None:
    terms = LossModule(model("ae"), TrainConfig(beta=5))(batch(), 5.0, 0.1)
    assert total_loss(terms.means(), 5).item() == terms.reconstruction.mean().item()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_are_float32_at_any_precision_of_the_model(objective: Any) -> None:
    config = TrainConfig(objective=objective, precision="bf16", importance_samples=2)
    terms = LossModule(model(), config)(batch(k=2), 1.0, 0.1)
    assert {t.dtype for t in terms if t is not None} == {torch.float32}
    logits, image = torch.randn(2, 1, 4, 4).bfloat16(), torch.rand(2, 1, 4, 4)
    exact = reconstruction(logits.float(), image, objective)
    assert torch.equal(reconstruction(logits, image, objective), exact)


def bound(made: Any, given: Batch) -> Tensor:
    config = TrainConfig(importance_samples=max(2, len(given.eps)))
    return LossModule(made, config)(given, 1.0, 0.1).bound


def test_one_importance_sample_is_the_elbo_estimate() -> None:
    nll, ratio = torch.rand(1, 5), torch.randn(1, 5)
    torch.testing.assert_close(importance_bound(nll, ratio), (nll - ratio)[0])
    # Its expectation is the ELBO, whose KL has a closed form.
    made, given = model(), batch(n=2, k=20_000)
    mu, log_var = made.encode(given.image)
    z = mu + (log_var / 2).exp() * given.eps
    ratios = log_ratio(z, log_var, given.eps).mean(0)
    torch.testing.assert_close(
        -ratios, kl_to_standard_normal(mu, log_var).sum(1), atol=0.02, rtol=0
    )


def test_equal_samples_give_the_bound_of_one_sample() -> None:
    given = batch(k=1)
    same = given._replace(eps=given.eps.expand(6, -1, -1).contiguous())
    made = model()
    twice = given._replace(eps=given.eps.expand(2, -1, -1).contiguous())
    torch.testing.assert_close(bound(made, same), bound(made, twice))


def test_the_bound_tightens_with_more_samples() -> None:
    made, given = model(), batch(n=3, k=4096)
    means = []
    for k in (1, 4, 32):  # over many groups of k latents of the same images
        groups = given.eps.view(-1, k, 3, 3).transpose(0, 1).reshape(k, -1, 3)
        many = 4096 // k
        spread = Batch(
            given.image.repeat(many, 1, 1, 1),
            given.encoder_input.repeat(many, 1, 1, 1),
            None,
            groups,
        )
        mu, log_var = made.encode(spread.image)
        z = mu + (log_var / 2).exp() * groups
        logits, image = made.decode_logits(z.flatten(0, 1)), spread.image.repeat(k, 1, 1, 1)
        nll = 3 * reconstruction(logits, image, "bce").view(k, -1)
        means.append(importance_bound(nll, log_ratio(z, log_var, groups)).mean().item())
    assert means[0] > means[1] > means[2]


def test_the_bound_is_stable_if_all_likelihoods_underflow() -> None:
    nll = torch.tensor([[5000.0], [5001.0]])
    found = importance_bound(nll, torch.zeros(2, 1)).item()
    assert found == pytest.approx(5000 + log(2) - log(1 + 2.718281828**-1), abs=1e-3)


def test_the_gaussian_constant() -> None:
    zero = torch.zeros(1, 1, 1, 1)
    half = torch.full((1, 1, 1, 1), 0.5)
    assert reconstruction(zero, half, "gaussian", 1.0).item() == pytest.approx(log(2 * pi) / 2)


def discs(edge: float, size: int = 28, n: int = 200) -> np.ndarray:
    """White discs on black, f64[n, 1, size, size], whose edges are `edge` pixels wide."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(size / 4, 3 * size / 4, (n, 2, 1, 1))
    distance = np.hypot(y - centre[:, 0], x - centre[:, 1])
    return np.clip((size / 5 - distance) / edge, 0, 1)[:, None]


Y, X = np.mgrid[:32, :32] / 31
GALAXY = 0.4 * np.exp(-((Y - 0.5) ** 2 + (X - 0.5) ** 2) * 40)[None, None]  # never near white


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (discs(1e-9), "bce"),
        (discs(2.0), "bce"),
        (1 - discs(2.0), "bce"),  # ink on paper
        (discs(2.0).repeat(3, 1), "bce"),
        (0.1 + 0.3 * discs(1e-9), "gaussian"),  # two greys
        (GALAXY, "gaussian"),
        (np.stack([X, Y, 1 - X])[None], "gaussian"),
        (np.random.default_rng(0).uniform(0.2, 0.8, (9, 3, 16, 16)), "gaussian"),
        (np.zeros((3, 1, 4, 4)), "bce"),
        (np.full((3, 1, 4, 4), 0.5), "gaussian"),
    ],
)
def test_the_objective_follows_the_contrast(pixels: np.ndarray, expected: str) -> None:
    data = Dataset("drawn", np.rint(255 * pixels).astype(np.uint8))
    objective, reason = pick_objective(data)
    assert objective == expected
    assert "contrast " in reason


def test_the_objective_of_sorted_data_is_that_of_all_classes() -> None:
    """Two thirds of the images are masks, stored first."""
    masks = np.rint(255 * discs(1e-9, n=4000)).astype(np.uint8)
    grey = np.full((2000, 1, 28, 28), 128, np.uint8)
    assert pick_objective(Dataset("both", np.concatenate([masks, grey])))[0] == "gaussian"
    assert pick_objective(load_dataset("digits"))[0] == "gaussian"
