"""The importance-weighted bound of Burda et al. with 50 samples, compared with torch."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .models import cvae
from .timing import Table

K = 50
_BATCH = 20  # images per run in torch, decoded 50 times each: the fastest size measured


def run(table: Table) -> None:
    """Evaluate digits that the fully connected model decoded."""
    n = 200 if table.quick else 10_000
    mlp = cvae("reference")
    model, labels = mlp.load(), np.arange(n) % 10
    images = (model.decode(mlp.latents(n), labels) >= 0.5).astype(np.float32)
    pixels, known = torch.from_numpy(images), torch.from_numpy(labels)

    def in_torch() -> float:
        with torch.inference_mode():
            batches = zip(pixels.split(_BATCH), known.split(_BATCH), strict=True)
            return float(torch.cat([_bound(mlp.torch, x, y) for x, y in batches]).mean())

    def ours() -> Any:
        return model.evaluate(images, labels, samples=K, binarise="threshold")

    table.compare(
        f"IWAE-{K} of {n:,} digits", {"ours": ours, "torch eager": in_torch},
        {"torch eager": ("faster", 1.2)}, items=n, rounds=3,
    )  # fmt: skip


def _bound(module: Any, x: Tensor, label: Tensor) -> Tensor:
    """Return the log of the mean of K importance weights, f32[N]."""
    mu, log_var = module.encode(x, label)
    eps = torch.randn(K, *mu.shape)
    z = mu + (0.5 * log_var).exp() * eps
    logits = module.decode_logits(z.flatten(0, 1), label.repeat(K)).view(K, len(x), -1)
    target = x.flatten(1).expand(K, -1, -1)
    likelihood = -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(2)
    ratio = 0.5 * (eps.square() + log_var - z.square()).sum(2)
    return torch.logsumexp(likelihood + ratio, 0) - log(K)
