"""Cases in which the report must not warn, or must omit some advice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tests.train.test_report import GOOD, trained
from vae_runtime.prior import Prior
from vae_train import TrainConfig
from vae_train.report.findings import find_problems


def test_losses_of_different_objectives_are_not_compared() -> None:
    far = replace(GOOD, held_out_loss=150.0)
    run = trained()

    def codes(metrics: set[str] | None = None, **changes: Any) -> list[str]:
        made = replace(run.checkpoint, train=replace(TrainConfig(), **changes))
        if metrics is not None:
            metadata = made.metadata | {"metrics": dict.fromkeys(metrics, 30.0)}
            made = replace(made, metadata=metadata)
        return [found.code for found in find_problems(far, replace(run, checkpoint=made))]

    assert codes() == codes(kl_warmup=1.5) == ["overfit"]
    assert codes(kl_warmup=2.0) == []  # of two epochs, so the KL term never had its full weight
    assert codes({"loss", "test_loss"}) == ["overfit"]
    assert codes({"loss", "test_loss"}, contrast=1.2) == []
    assert codes({"loss", "validation_loss"}, contrast=1.2) == ["overfit"]


def test_an_ae_is_not_advised_to_raise_beta() -> None:
    far = replace(GOOD, kl=None, held_out_loss=150.0, sample_distance=9.0)
    found = find_problems(far, trained("ae", prior=Prior("gmm", 4, weights=np.ones((1, 1)),
                   mean=np.zeros((1, 1, 4)), cholesky=np.eye(4)[np.tril_indices(4)][None, None]
                   )))  # fmt: skip
    assert [finding.code for finding in found] == ["overfit", "samples_off"]
    assert not any("--beta" in finding.advice for finding in found)


def test_inactive_units_are_not_reported_for_few_images() -> None:
    inactive = replace(GOOD, active=[False, True, True, True])
    assert [f.code for f in find_problems(inactive, trained())] == ["inactive_units"]
    assert find_problems(replace(inactive, images=9), trained()) == []
