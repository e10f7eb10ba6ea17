from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from vae_models import Output
from vae_train.objective import kl_to_standard_normal, loss, reconstruction


def test_kl_of_the_prior_itself_is_zero() -> None:
    assert torch.equal(kl_to_standard_normal(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))


def test_kl_in_closed_form() -> None:
    # KL(N(1, 1) || N(0, 1)) = 1/2; KL(N(0, e) || N(0, 1)) = (e - 2) / 2.
    mu, log_var = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(
        kl_to_standard_normal(mu, log_var), torch.tensor([0.5 + (2.718281828 - 2) / 2])
    )


def test_kl_is_that_of_torch_distributions_summed_over_the_code() -> None:
    mu, log_var = 3 * torch.randn(64, 5), torch.randn(64, 5)
    posterior = Normal(mu, (0.5 * log_var).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mu, log_var), expected)


def test_bce_is_the_bernoulli_negative_log_likelihood() -> None:
    logits, image = 4 * torch.randn(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    found = reconstruction(logits, image, "bce")
    expected = F.binary_cross_entropy(logits.sigmoid(), image, reduction="none").sum((1, 2, 3))
    # The sigmoid of a large logit has few digits left; the logits themselves have all.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    binary = image.round()
    log_prob = Bernoulli(logits=logits).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(reconstruction(logits, binary, "bce"), -log_prob)


def test_bce_stays_finite_where_the_sigmoid_is_exactly_0_or_1() -> None:
    logits = torch.tensor([-200.0, 200.0]).view(1, 1, 1, 2)
    image = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert reconstruction(logits, image, "bce").item() == 400


def test_mse_is_summed_over_pixels_not_averaged() -> None:
    logits = torch.zeros(2, 1, 3, 4)  # all pixels decode to 1/2
    image = torch.stack([torch.zeros(1, 3, 4), torch.full((1, 3, 4), 0.5)])
    assert reconstruction(logits, image, "mse").tolist() == [12 * 0.25, 0]


@pytest.mark.parametrize("objective", ["bce", "mse"])
def test_terms_are_per_image_and_the_total_weighs_the_kl(objective: str) -> None:
    logits, image = torch.randn(4, 1, 2, 2), torch.rand(4, 1, 2, 2)
    mu, log_var = torch.randn(4, 3), torch.randn(4, 3)
    terms = loss(Output(logits, mu, mu, log_var), image, objective, beta=3)  # type: ignore[arg-type]
    assert {t.shape for t in terms} == {(4,)}
    torch.testing.assert_close(terms.total, terms.reconstruction + 3 * terms.kl)
    torch.testing.assert_close(terms.kl, kl_to_standard_normal(mu, log_var))


def test_an_autoencoder_has_no_kl() -> None:
    logits, image = torch.randn(4, 1, 2, 2), torch.rand(4, 1, 2, 2)
    terms = loss(Output(logits, torch.randn(4, 3)), image, "mse", beta=5)
    assert torch.equal(terms.total, terms.reconstruction)
    assert torch.equal(terms.kl, torch.zeros(4))


def test_the_sigmoid_of_a_half_precision_logit_is_taken_in_float32() -> None:
    logits, image = torch.randn(2, 1, 4, 4).bfloat16(), torch.rand(2, 1, 4, 4)
    for objective in ("bce", "mse"):
        found = reconstruction(logits, image, objective)  # type: ignore[arg-type]
        expected = reconstruction(logits.float(), image, objective)  # type: ignore[arg-type]
        assert torch.equal(found, expected)


def test_losses_are_float32_whatever_precision_the_model_ran_in() -> None:
    output = Output(
        torch.randn(2, 1, 2, 2).bfloat16(),
        torch.randn(2, 3).bfloat16(),
        torch.randn(2, 3).bfloat16(),
        torch.randn(2, 3).bfloat16(),
    )
    assert {t.dtype for t in loss(output, torch.rand(2, 1, 2, 2), "bce", 1)} == {torch.float32}
