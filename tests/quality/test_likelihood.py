"""Likelihood estimates of models whose likelihood is known by quadrature or in closed form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributions as D
from torch.nn import functional as F

from tests.quality.likelihood import (
    Density,
    binarised,
    density_of,
    log_mean_exp,
    log_weights,
    nll,
    standard_normal,
)
from vae_models import VAE, build, preset
from vae_runtime.prior import Prior
from vae_train.data import Images


def tiny(family: Any, latent_dim: int = 2, **changes: Any) -> VAE:
    """A small model of 1×4×4 images whose decoder depends strongly on the latents."""
    torch.manual_seed(3)
    changes = {"backbone": "mlp", "hidden": (8,), "latent_dim": latent_dim} | changes
    config = preset("default", family, (1, 4, 4), 3, **changes)
    model: Any = build(config).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
        model.log_var.bias.fill_(0.5)  # importance sampling needs a wide proposal
    return model


def random_images(n: int, labelled: bool = False) -> Images:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 1, 4, 4), generator=random).byte()
    return Images(pixels, torch.arange(n) % 3 if labelled else None)


@torch.no_grad()
def by_quadrature(
    model: Any, image: Tensor, label: Tensor | None, density: Density = standard_normal
) -> Tensor:
    """Compute log p(x) as a sum over a fine grid of two-dimensional latents, f64[N]."""
    line = torch.linspace(-7, 7, 141)
    z = torch.cartesian_prod(line, line)
    cell = 2 * math.log(float(line[1] - line[0]))
    found = []
    for i in range(len(image)):
        labels = () if label is None else (label[i].expand(len(z)),)
        log_prior = density(z.double(), labels[0] if labels else None)
        logits = model.decode_logits(z, *labels).double()
        target = image[i].double().expand_as(logits)
        error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        found.append((log_prior - error.flatten(1).sum(1)).logsumexp(0) + cell)
    return torch.stack(found)


@pytest.mark.parametrize("family", ["vae", "cvae"])
def test_many_samples_approach_the_likelihood_by_quadrature(family: str) -> None:
    model, data = tiny(family), random_images(6, labelled=family == "cvae")
    image, label = binarised(data, 0).batch(torch.arange(6))
    exact = by_quadrature(model, image, label)
    noise = torch.Generator().manual_seed(1)
    found = log_mean_exp(log_weights(model, image, label, 4000, noise))[0]
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)
    (estimate,) = nll(model, data, few=50, many=4000, subset=6)
    assert estimate.nll == pytest.approx(-float(exact.mean()), abs=0.03)
    assert estimate.standard_error == 0


def mixtures(rows: int, dim: int) -> Prior:
    """`rows` mixtures of three Gaussians; in the first, one component has weight 0."""
    random = np.random.default_rng(5)
    weights = random.dirichlet(np.ones(3), rows)
    weights[0] = [0.25, 0.75, 0]
    packed = random.normal(0, 0.3, (rows, 3, dim * (dim + 1) // 2))
    packed[:, :, [i * (i + 3) // 2 for i in range(dim)]] = random.uniform(0.3, 1, (rows, 3, dim))
    kind = "gmm" if rows == 1 else "class_gmm"
    mean = random.normal(0, 1, (rows, 3, dim))
    return Prior(kind, dim, weights=weights, mean=mean, cholesky=packed)


def test_the_density_of_a_mixture_equals_that_of_torch_distributions() -> None:
    prior = mixtures(4, 5)
    z = torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = density_of(prior)(z, torch.arange(40) % 3)
    lower = np.tril_indices(5)
    for row in range(3):
        factor = torch.zeros(3, 5, 5, dtype=torch.float64)
        factor[:, lower[0], lower[1]] = torch.from_numpy(prior.cholesky[row])
        mean = torch.from_numpy(prior.mean[row])
        expected = D.MixtureSameFamily(
            D.Categorical(torch.from_numpy(prior.weights[row])),
            D.MultivariateNormal(mean, scale_tril=factor),
        ).log_prob(z[row::3])
        torch.testing.assert_close(found[row::3], expected)
    unlabelled = density_of(prior)(z, None)
    torch.testing.assert_close(unlabelled, density_of(prior)(z, torch.full((40,), 3)))
    assert not torch.allclose(unlabelled, found)


def test_a_uniform_prior_is_refused() -> None:
    box = Prior("uniform", 2, low=np.zeros(2), high=np.ones(2))
    with pytest.raises(ValueError, match="uniform"):
        density_of(box)
    assert density_of(Prior.normal(2)) is standard_normal


@pytest.mark.parametrize("family", ["vae", "cvae"])
def test_the_likelihood_under_a_fitted_prior_matches_quadrature(family: str) -> None:
    model, data = tiny(family), random_images(6, labelled=family == "cvae")
    both = (standard_normal, density_of(mixtures(1 if family == "vae" else 4, 2)))
    image, label = binarised(data, 0).batch(torch.arange(6))
    exact = [-float(by_quadrature(model, image, label, each).mean()) for each in both]
    found = nll(model, data, both, few=50, many=4000, subset=6)
    assert [each.nll for each in found] == pytest.approx(exact, abs=0.05)
    assert abs(exact[0] - exact[1]) > 0.1
    paired = nll(model, data, both, few=500, many=4000, subset=5)
    assert [each.nll for each in paired] == pytest.approx(exact, abs=0.1)
    alone = nll(model, data, both[:1], few=50, many=4000, subset=6)
    assert alone == found[:1]


def test_the_likelihood_of_a_cvae_is_conditional_on_the_label() -> None:
    model: Any = tiny("cvae")
    data = random_images(6, labelled=True)
    nn.init.normal_(model.decoder_labels.linear.weight)
    wrong = Images(data.pixels, (data.labels + 1) % 3)
    apart = [nll(model, part, few=50, many=1000, subset=6)[0].nll for part in (data, wrong)]
    exact = [
        -float(by_quadrature(model, *binarised(part, 0).batch(torch.arange(6))).mean())
        for part in (data, wrong)
    ]
    assert apart == pytest.approx(exact, abs=0.06)
    assert abs(apart[0] - apart[1]) > 0.3


def test_an_exact_posterior_needs_a_single_sample() -> None:
    """If the decoder ignores z, the posterior is N(0, I) and log p(x) = log p(x | z) for any z."""
    model: Any = tiny("vae", latent_dim=3)
    with torch.no_grad():
        for layer in [model.mu, model.log_var, model.decoder.trunk.layers[0]]:
            layer.weight.zero_()
            layer.bias.zero_()
    data = random_images(5)
    image, _ = binarised(data, 0).batch(torch.arange(5))
    (weights,) = log_weights(model, image, None, 7, torch.Generator().manual_seed(0))
    logits = model.decoder.head.bias.detach().view(1, 1, 4, 4).expand(5, -1, -1, -1)
    closed = -F.binary_cross_entropy_with_logits(logits, image, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(weights, closed.double()[:, None].expand(-1, 7), rtol=0, atol=1e-4)


def test_the_paired_estimate_agrees_with_the_plain_one_within_its_error() -> None:
    model, data = tiny("vae"), random_images(100)
    (plain,) = nll(model, data, few=5, many=500, subset=100)
    assert plain.standard_error == 0
    assert plain.nll == pytest.approx(plain.nll_few - plain.gain, abs=1e-9)
    assert plain.gain > 0.02
    (paired,) = nll(model, data, few=5, many=500, subset=30)
    assert paired.nll == pytest.approx(paired.nll_few - paired.gain, abs=1e-9)
    assert 0 < paired.standard_error < 0.3
    assert abs(paired.nll - plain.nll) < 3 * paired.standard_error


def test_the_bound_rises_with_the_number_of_samples() -> None:
    model, data = tiny("vae"), random_images(40)
    found = [nll(model, data, few=k, many=1000, subset=2)[0].nll_few for k in (1, 10, 100)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[2] > 0.1


def test_binarisation_follows_gray_levels_and_is_repeatable() -> None:
    grey = Images(torch.full((400, 1, 4, 4), 64, dtype=torch.uint8), None)
    binary = binarised(grey, 0)
    assert set(binary.pixels.unique().tolist()) == {0, 255}
    assert float(binary.pixels.float().mean()) == pytest.approx(64, abs=3)
    assert torch.equal(binary.pixels, binarised(grey, 0).pixels)
    assert not torch.equal(binary.pixels, binarised(grey, 1).pixels)
    ends = Images(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), None)
    assert torch.equal(binarised(ends, 0).pixels, ends.pixels)


@pytest.mark.parametrize(("few", "many", "subset"), [(3, 10, 5), (5, 5, 5), (5, 10, 9), (5, 10, 1)])
def test_inconsistent_settings_are_refused(few: int, many: int, subset: int) -> None:
    with pytest.raises(ValueError, match=f"few {few}, many {many}, subset {subset} of 8 images"):
        nll(tiny("vae"), random_images(8), few=few, many=many, subset=subset)


def test_log_mean_exp_of_known_values() -> None:
    values = torch.tensor(list(itertools.repeat(math.log(2.0), 4)))
    assert float(log_mean_exp(values)) == pytest.approx(math.log(2.0))
    assert float(log_mean_exp(torch.tensor([0.0, math.log(3.0)]))) == pytest.approx(math.log(2))
