"""The rows of the table: what is trained, what is measured, what is aimed at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.quality.density import density_of, standard_normal
from tests.quality.judge import A_CLASS, Judge, pixels
from tests.quality.likelihood import nll
from vae_models import AE, CVAE
from vae_runtime.datasets import Dataset
from vae_runtime.prior import Prior
from vae_train import Checkpoint
from vae_train.data import to_device

_AT_ONCE = 500


@dataclass(frozen=True, eq=False)
class Bench:
    """What every row is measured with.

    Attributes:
        train, test: the digits.
        judge: the classifier and what it makes of them.
        few, many, subset: see `tests.quality.likelihood.nll`.
    """

    train: Dataset
    test: Dataset
    judge: Judge
    few: int
    many: int
    subset: int


Found = dict[str, float]
Measure = Callable[[Checkpoint, Bench], Found]


@dataclass(frozen=True)
class Figure:
    """One figure of a row: its name in what a measure found, in words, and the aim.

    Attributes:
        key: its name in what a measure found.
        words: for the table.
        aim: the value to reach.
        least: whether the aim is a lower limit.
        best: the aim of the `best` preset, where it has another.
    """

    key: str
    words: str
    aim: float
    least: bool = False
    best: float | None = None


@dataclass(frozen=True)
class Row:
    """A model and its figures.

    Attributes:
        name: of its files.
        words: for the table.
        arguments: of `vae-train`, beside data, seed and preset.
        measures: what finds its figures.
        figures: those that have an aim.
    """

    name: str
    words: str
    arguments: tuple[str, ...]
    measures: tuple[Measure, ...]
    figures: tuple[Figure, ...]


def mse(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Mean squared error a pixel of the test digits, and that of PCA with as many dimensions."""
    model = checkpoint.build()
    assert isinstance(model, AE)
    real = pixels(bench.test)
    again = _batched(lambda x: model.decode(model.encode(x)), real)
    return {
        "mse": float(np.square(again - real).mean()),
        "pca": pca_error(pixels(bench.train), real, checkpoint.model.latent_dim),
    }


def pca_error(train: NDArray[np.floating], test: NDArray[np.floating], dim: int) -> float:
    """Mean squared error a pixel of `test` on the `dim` main axes of `train`."""
    x, y = (part.reshape(len(part), -1).astype(np.float64) for part in (train, test))
    mean = x.mean(0)
    x, y = x - mean, y - mean
    axes = np.linalg.eigh(x.T @ x)[1][:, -dim:]
    return float(np.square(y - y @ axes @ axes.T).mean())


def likelihood(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Negative log-likelihood of the binarised test digits, in nats, and its parts.

    `nll` and what belongs to it under N(0, I), which the model was trained with; `fitted_nll` …
    under the prior that was fitted to its latents, which `sample` draws from.
    """
    model = checkpoint.build()
    assert not isinstance(model, AE)
    data = to_device(bench.test, torch.device("cpu"), labelled=isinstance(model, CVAE))
    both = (standard_normal, density_of(checkpoint.prior))
    counts = {"few": bench.few, "many": bench.many, "subset": bench.subset}
    normal, fitted = (asdict(each) for each in nll(model, data, both, **counts))
    return normal | {f"fitted_{key}": value for key, value in fitted.items()}


def samples(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Of 1,000 samples a class from the fitted prior, and of the reconstructed test digits."""
    labels = np.repeat(np.arange(10), A_CLASS)
    test = bench.test.labels
    assert test is not None
    model = checkpoint.build()
    assert isinstance(model, CVAE)

    def draw(seed: int) -> NDArray[np.floating]:
        return _batched(model.decode, checkpoint.prior.sample(len(labels), labels, seed), labels)

    found = bench.judge.measure_draws(draw, labels)
    again = _batched(lambda x, y: model.decode(model.encode(x, y)[0], y), pixels(bench.test), test)
    of_them = bench.judge.measure(again, test)
    return found | {f"again_{k}": v for k, v in of_them.items()}


def priors(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Fréchet distance of 10,000 samples from the fitted prior, and from N(0, I) beside it."""
    model = checkpoint.build()
    found = {}
    for name, prior in {
        "fitted": checkpoint.prior,
        "normal": Prior.normal(checkpoint.model.latent_dim),
    }.items():
        fake = _batched(model.decode, prior.sample(10 * A_CLASS, seed=0))
        found |= {f"{name}_{key}": value for key, value in bench.judge.measure(fake).items()}
    return found


@torch.inference_mode()
def _batched(run: Callable[..., torch.Tensor], *arrays: NDArray[Any]) -> NDArray[np.floating]:
    """Rows of `arrays` through `run`, some at a time."""
    parts = zip(*(torch.from_numpy(array).split(_AT_ONCE) for array in arrays), strict=True)
    return np.concatenate([run(*part).numpy() for part in parts])


_PRIOR = Figure("fitted_ratio", "Fréchet distance, fitted prior, in floors", 10)

ROWS = (
    Row(
        "ae-8",
        "AE, 8 dimensions",
        ("ae", "--latent-dim", "8"),
        (mse, priors),
        (Figure("mse", "test MSE", 0.0125), _PRIOR),
    ),
    Row(
        "ae-32",
        "AE, 32 dimensions",
        ("ae", "--latent-dim", "32"),
        (mse, priors),
        (Figure("mse", "test MSE", 0.004), _PRIOR),
    ),
    Row(
        "vae-50",
        "VAE, 50 dimensions",
        (
            *("vae", "--latent-dim", "50", "--binarise", "--beta", "1"),
            *("--batch-size", "64", "--importance-samples", "5", "--importance-epochs", "5"),
            *("--prior-spread", "0.9"),
        ),
        (likelihood, priors),
        (
            Figure("nll", "NLL, N(0, I), nats", 84, best=82),
            Figure("fitted_nll", "NLL, fitted prior, nats", 84, best=82),
            _PRIOR,
        ),
    ),
    Row(
        "cvae-binary",
        "CVAE, binarised",
        (
            *("cvae", "--binarise", "--beta", "1", "--label-dropout", "0", "--latent-dim", "32"),
            *("--contrast", "1", "--prior-spread", "1"),
        ),
        (likelihood,),
        (
            Figure("nll", "NLL given the label, N(0, I), nats", 82, best=80),
            Figure("fitted_nll", "NLL given the label, fitted prior, nats", 82, best=80),
        ),
    ),
    Row(
        "cvae",
        "CVAE",
        ("cvae",),
        (samples,),
        (
            Figure("fidelity", "label fidelity", 0.997, least=True),
            Figure("precision", "precision", 0.92, least=True),
            Figure("recall", "recall", 0.7, least=True),
            Figure("ratio", "Fréchet distance, in floors", 3),
        ),
    ),
)
