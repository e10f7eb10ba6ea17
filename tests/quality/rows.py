"""The rows of the quality table: the models to train, the measures and the targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.quality.judge import SAMPLES_PER_CLASS, Judge, pixels
from tests.quality.likelihood import density_of, nll, standard_normal
from vae_models import AE, CVAE
from vae_runtime.datasets import Dataset
from vae_runtime.prior import Prior
from vae_train import Checkpoint
from vae_train.data import to_device

_BATCH = 500


@dataclass(frozen=True, eq=False)
class Bench:
    """The data, judge and settings that every row is measured with.

    Attributes:
        train, test: the digits.
        judge: the classifier, with its measurements of the test digits.
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
    """One figure of a row and its target.

    Attributes:
        key: its key in the results of a measure.
        title: its title in the table.
        target: the value to reach.
        higher_is_better: whether the target is a lower bound.
        best: the target of the `best` preset, if it differs.
    """

    key: str
    title: str
    target: float
    higher_is_better: bool = False
    best: float | None = None


@dataclass(frozen=True)
class Row:
    """A model and its figures.

    Attributes:
        name: the stem of its file names.
        title: its title in the table.
        arguments: of `vae-train`, in addition to data, seed and preset.
        measures: the functions that compute its figures.
        figures: those that have a target.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    measures: tuple[Measure, ...]
    figures: tuple[Figure, ...]


def mse(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Compute the mean squared error per pixel of the reconstructed test digits, and of PCA."""
    model = checkpoint.build()
    assert isinstance(model, AE)
    real = pixels(bench.test)
    reconstructed = _batched(lambda x: model.decode(model.encode(x)), real)
    return {
        "mse": float(np.square(reconstructed - real).mean()),
        "pca": pca_error(pixels(bench.train), real, checkpoint.model.latent_dim),
    }


def pca_error(train: NDArray[np.floating], test: NDArray[np.floating], dim: int) -> float:
    """Compute the error per pixel of `test` projected on the first `dim` axes of `train`."""
    x, y = (part.reshape(len(part), -1).astype(np.float64) for part in (train, test))
    mean = x.mean(0)
    x, y = x - mean, y - mean
    axes = np.linalg.eigh(x.T @ x)[1][:, -dim:]
    return float(np.square(y - y @ axes @ axes.T).mean())


def likelihood(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Estimate the negative log-likelihood of the binarised test digits, in nats.

    Keys without a prefix are under N(0, I), the prior of training; `fitted_…` are under the prior
    that was fitted to the latents, which `sample` uses.
    """
    model = checkpoint.build()
    assert not isinstance(model, AE)
    data = to_device(bench.test, torch.device("cpu"), labelled=isinstance(model, CVAE))
    both = (standard_normal, density_of(checkpoint.prior))
    counts = {"few": bench.few, "many": bench.many, "subset": bench.subset}
    normal, fitted = (asdict(each) for each in nll(model, data, both, **counts))
    return normal | {f"fitted_{key}": value for key, value in fitted.items()}


def samples(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Judge 1,000 samples per class from the fitted prior, and the reconstructed test digits."""
    labels = np.repeat(np.arange(10), SAMPLES_PER_CLASS)
    test = bench.test.labels
    model = checkpoint.build()
    assert isinstance(model, CVAE)

    def sample(seed: int) -> NDArray[np.floating]:
        return _batched(model.decode, checkpoint.prior.sample(len(labels), labels, seed), labels)

    found = bench.judge.measure_seeds(sample, labels)
    images = pixels(bench.test)
    again = _batched(lambda x, y: model.decode(model.encode(x, y)[0], y), images, test)
    return found | {f"again_{k}": v for k, v in bench.judge.measure(again, test).items()}


def priors(checkpoint: Checkpoint, bench: Bench) -> Found:
    """Judge 10,000 samples from the fitted prior, and 10,000 from N(0, I)."""
    model = checkpoint.build()
    found = {}
    for name, prior in {
        "fitted": checkpoint.prior,
        "normal": Prior.normal(checkpoint.model.latent_dim),
    }.items():
        fake = _batched(model.decode, prior.sample(10 * SAMPLES_PER_CLASS, seed=0))
        found |= {f"{name}_{key}": value for key, value in bench.judge.measure(fake).items()}
    return found


@torch.inference_mode()
def _batched(run: Callable[..., torch.Tensor], *arrays: NDArray[Any]) -> NDArray[np.floating]:
    """Call `run` on batches of rows and concatenate the results."""
    parts = zip(*(torch.from_numpy(array).split(_BATCH) for array in arrays), strict=True)
    return np.concatenate([run(*part).numpy() for part in parts])


_PRIOR = Figure("fitted_ratio", "Fréchet distance / floor, fitted prior", 10)

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
            Figure("fidelity", "label fidelity", 0.997, higher_is_better=True),
            Figure("precision", "precision", 0.92, higher_is_better=True),
            Figure("recall", "recall", 0.7, higher_is_better=True),
            Figure("ratio", "Fréchet distance / floor", 3),
        ),
    ),
)
