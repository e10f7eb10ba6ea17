"""Load a custom module, fit its prior, and wrap it for export.

A custom module is any `nn.Module` with `encode` and `decode`, or a pair of modules.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_models.vae import sample_posterior
from vae_runtime.arrays import to_float32
from vae_runtime.bundle.spec import MODES, ImageSpec, ModelSpec
from vae_runtime.console import pluralize
from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError, VaeError
from vae_runtime.prior import Prior
from vae_train.objective import pick_objective
from vae_train.prior_fit import fit_latents

from .calling_convention import (
    CallingConvention,
    Modules,
    find_calling_convention,
    from_module_range,
    to_module_range,
)
from .cost import RowCost, row_cost
from .forward import compare_forward
from .graphs import make_graphs
from .options import CustomModuleOptions, Track, untracked
from .parity import MAX_IMAGES, RUNS
from .source import Source, matching_labels
from .unpacking import unpack_image
from .user_code import user_line

NO_WIDTH = -20.0  # a log variance, for a standard deviation of 5e-5
_PRIOR_IMAGES = 20_000  # maximum number of images whose latents the prior is fitted to
_BATCH = 256
_MIN_SIGMA = 1e-3  # of pixels; a quarter of a grey level
_SLACK = 1e-4  # tolerance for pixels outside [0, 1]


class CustomEncoder(nn.Module):
    """An encoder to export: image[, label] → z, or mu and log_var."""

    def __init__(self, convention: CallingConvention) -> None:
        super().__init__()
        self.convention = convention
        self.encode = convention.encode
        self.labels = LabelInput(convention) if convention.labelled_encoder else None

    def unpack(self, image: Tensor, label: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
        """Return latents in the module's own shape: one or two tensors f32[N, *latent_shape]."""
        options = self.convention.options
        if label is not None and self.labels is not None:
            label = self.labels(label)
        returned = self.convention.call_encode(to_module_range(image, options), label)
        return self.convention.unpack(returned)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Encode: f32[N, C, H, W] in [0, 1][, i64[N]] → one or two f32[N, *latent_shape]."""
        latents = self.unpack(image, label)
        if not isinstance(latents, Tensor):
            return latents
        # The encoder of a conditional bundle returns a distribution. Plain latents get a
        # distribution of almost zero width.
        if not self.convention.options.classes:
            return latents
        return latents, torch.full_like(latents, NO_WIDTH)


class CustomDecoder(nn.Module):
    """A decoder to export: z[, label] → image."""

    def __init__(
        self,
        convention: CallingConvention,
        image_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.options = convention.options
        self.decode = convention.decode
        self.image_shape = image_shape
        self.labels = LabelInput(convention) if self.options.classes else None

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Decode: f32[N, *latent_shape][, i64[N]] → f32[N, C, H, W] in [0, 1]."""
        return from_module_range(self.raw(z, label), self.options)

    def raw(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the images f32[N, C, H, W] in the range that the custom module uses."""
        if self.labels is None:
            image = unpack_image(self.decode(z))
        else:
            if label is None:
                first = z.flatten(1)[:, 0]
                label = torch.full_like(first, len(self.options.classes), dtype=torch.int64)
            image = unpack_image(self.decode(z, self.labels(label)))
        return torch.unflatten(image, 1, self.image_shape) if image.dim() == 2 else image


class LabelInput(nn.Module):
    """Mapping from the bundle's label K ("no label") to the module's index for "no label"."""

    def __init__(self, convention: CallingConvention) -> None:
        super().__init__()
        k = len(convention.options.classes)
        self.register_buffer("table", torch.tensor([*range(k), convention.null_label]))

    def forward(self, label: Tensor) -> Tensor:
        """Map i64[N] in [0, K] → i64[N]."""
        return self.get_buffer("table").index_select(0, label)


def load_factory(name: str) -> Modules:
    """Import `package.module:factory` and call it.

    Raises:
        UsageError: there is no such module or factory, it raised an error, or it returned
            something other than a module or a pair of modules.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"--model {name}: expected PACKAGE.MODULE:FACTORY")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
        module = factory if isinstance(factory, nn.Module) else factory()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--model {name}: {error}") from error
    except Exception as error:
        # The user's code may raise anything.
        raise UsageError(f"--model {name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    modules = module if isinstance(module, tuple) and len(module) == 2 else (module,)
    if not all(isinstance(m, nn.Module) for m in modules):
        raise UsageError(
            f"--model {name}: returned a {type(module).__name__}, expected a torch module or a "
            "pair (encoder, decoder)."
        )
    return module


@torch.no_grad()
def from_custom_module(
    module: Modules,
    data: Dataset,
    options: CustomModuleOptions,
    sha256: str = "",
    *,
    compare: bool = True,
    log: Callable[[str], None] = lambda line: None,
    track: Track = untracked,
) -> Source:
    """Wrap a custom module and fit its prior.

    Args:
        module: the custom module, which is copied, not changed.
        data: the module's training images.
        options: properties that cannot be inferred from the module.
        sha256: checksum of the weights file, for the manifest.
        compare: whether to compare with the module's `forward`.
        log: called with a line about the comparison, and with any warnings.
        track: wraps the batches that are encoded, to show progress.

    Raises:
        UsageError: the module does not fit the options or the data.
        IntegrityError: `forward` gives different reconstructions.
    """
    _check_data(data, options)
    k = len(options.classes)
    batch = torch.from_numpy(to_float32(data.images[:_BATCH]))
    labels = torch.from_numpy(data.labels) if k and data.labels is not None else None
    batch_labels = None if labels is None else labels[:_BATCH]
    convention = find_calling_convention(module, options, batch, batch_labels)
    encoder = CustomEncoder(convention).eval()
    with _user_code(f"encode failed on images of {data.image_shape}"):
        cost = row_cost(encoder, batch, batch_labels)
        images = data.images[: cost.rows(min(len(data), _PRIOR_IMAGES))]
        encoding = _Encoding(encoder, images, cost, track)
        latents = encoding.run(labels if convention.labelled_encoder else None)
    decoder = CustomDecoder(convention, data.image_shape).eval()
    mean = latents[0] if isinstance(latents, tuple) else latents
    with _user_code(_decode_failed(mean)):
        costs = cost, row_cost(decoder, mean, batch_labels)
    few = min(min(cost.batch(_BATCH), cost.rows(_BATCH, RUNS)) for cost in costs)
    batch, batch_labels = batch[:few], None if labels is None else labels[:few]
    decoded = _check_images(decoder, mean[:few], batch_labels, data, log)
    likelihood, sigma = _likelihood(options.likelihood, data, decoded - batch, log)
    forward = None
    if compare:
        forward = compare_forward(convention, encoder, decoder, batch, batch_labels)
        log(forward.line())
    prior = _fit_prior(encoding, latents, data, options, log)
    family = "cvae" if k else "vae" if isinstance(latents, tuple) else "ae"
    image, shape = ImageSpec(*data.image_shape), tuple(mean.shape[1:])
    name = options.name or type(module[0] if isinstance(module, tuple) else module).__name__
    return Source(
        ModelSpec("", family, image, shape, options.classes, likelihood, prior, sigma),
        make_graphs(
            encoder,
            decoder,
            decoder if k else None,
            plain=family == "ae",
            labelled_encoder=convention.labelled_encoder,
        ),
        to_float32(data.images[:MAX_IMAGES]),
        matching_labels(data, data.classes),
        {"model": name, "data": {"name": data.name, "training": len(data)}},
        sha256,
        {} if forward is None else forward.to_json(),
    )


@contextmanager
def _user_code(failed: str) -> Iterator[None]:
    """Report exceptions from the user's code as usage errors that begin with `failed`."""
    try:
        yield
    except (VaeError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"{failed}: {user_line(error)}") from error


def _decode_failed(z: Tensor) -> str:
    shape = tuple(z.shape[1:])
    return f"decode failed on latents of {shape}, the shape that encode gives them"


@dataclass(frozen=True)
class _Encoding:
    """Images and how to encode them: the encoder, what a row costs, and who shows progress."""

    encoder: CustomEncoder
    images: NDArray[Any]
    cost: RowCost
    track: Track

    def run(self, labels: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        """Encode all images to latents, or to mu and log_var: one or two f32[N, *latent_shape]."""
        n, size = len(self.images), self.cost.batch(_BATCH)
        batches = [
            self.encoder(
                torch.from_numpy(to_float32(self.images[i : i + size])),
                None if labels is None else labels[i : i + size],
            )
            for i in self.track(range(0, n, size), n, size, "images encoded")
        ]
        if isinstance(batches[0], Tensor):
            return torch.cat(batches)
        return tuple(torch.cat(column) for column in zip(*batches, strict=True))


def _sample(latents: Tensor | tuple[Tensor, ...], seed: int) -> NDArray[np.float64]:
    """Sample one z per image from the posterior, f64[N, D]; return plain latents as they are."""
    if isinstance(latents, Tensor):
        z = latents
    else:
        mu, log_var = latents
        z = sample_posterior(mu, log_var, torch.Generator().manual_seed(seed))
    return z.flatten(1).double().numpy()


def _fit_prior(
    encoding: _Encoding,
    latents: Tensor | tuple[Tensor, ...],
    data: Dataset,
    options: CustomModuleOptions,
    log: Callable[[str], None],
) -> Prior:
    """Fit the prior to posterior samples; `class_gmm` has one mixture per class and one for all."""
    z = _sample(latents, options.seed)
    if len(z) < min(len(data), _PRIOR_IMAGES):
        log(f"prior: fitted to {len(z):,} of {len(data):,} images, since {encoding.cost.line()}")
    kind = options.prior
    if kind == "auto":
        kind = "class_gmm" if options.classes else "gmm"
    groups = [z]
    if kind == "class_gmm":
        if not options.classes or data.labels is None:
            raise UsageError("prior class_gmm needs classes. Use gmm.")
        k = len(options.classes)
        labels = data.labels[: len(z)]
        groups = [z[labels == i] if (labels == i).any() else z for i in range(k)]
        if encoding.encoder.labels is not None:
            z = _sample(encoding.run(torch.full((len(z),), k)), options.seed)
        groups.append(z)
    prior = fit_latents(groups, kind, seed=options.seed).prior
    d = prior.latent_dim
    if prior.directions is not None:
        log(f"prior: a mixture over {prior.coordinates} principal directions of {d:,} dimensions")
    elif prior.kind != kind:
        log(
            f"prior: N(0, I), which explains these latents of {d:,} dimensions better than a "
            f"mixture fitted to {pluralize(len(z), 'image')}"
        )
    return prior


def _check_data(data: Dataset, options: CustomModuleOptions) -> None:
    """Reject data that cannot be used for a bundle, before any work is done.

    Raises:
        UsageError: the images have no mode, or the classes are not those of the data.
    """
    k, channels = len(options.classes), data.image_shape[0]
    if channels not in MODES:
        raise UsageError(
            f"{data.name}: {channels} channels, but a bundle holds images of 1 to 4 (grey or RGB, "
            "each with or without alpha). Convert the images, and the first and last layers."
        )
    if k and (data.labels is None or len(data.classes) != k):
        raise UsageError(f"{data.name}: {len(data.classes)} classes, the module has {k}")


def _check_images(
    decoder: CustomDecoder,
    z: Tensor,
    labels: Tensor | None,
    data: Dataset,
    log: Callable[[str], None],
) -> Tensor:
    """Check the shape and the range of decoded images, and return them.

    Raises:
        UsageError: the images do not match the data, or are outside [0, 1].
    """
    with _user_code(_decode_failed(z)):
        raw = decoder.raw(z, labels)
    if tuple(raw.shape[1:]) != data.image_shape:
        raise UsageError(
            f"decode: returns images {tuple(raw.shape[1:])}, the data has {data.image_shape}"
        )
    image = from_module_range(raw, decoder.options)
    low, high = float(image.min()), float(image.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise UsageError(
            f"decode: pixels range from {low:.3g} to {high:.3g}, expected [0, 1]. "
            f"{_range_advice(low, high)}"
        )
    bound = float(((image <= 0) | (image >= 1)).float().mean())
    if bound > 0.5 and not torch.equal(raw, image):
        log(
            f"warning: {bound:.0%} of all pixels are at a bound after clipping; the decoder "
            f"returns {float(raw.min()):.3g} to {float(raw.max()):.3g}"
        )
    return image


def _likelihood(
    name: str, data: Dataset, errors: Tensor, log: Callable[[str], None]
) -> tuple[str, float | None]:
    """Choose the likelihood that suits the images, and the standard deviation of a Gaussian one.

    The deviation is that of the reconstructions, which maximises the likelihood of these images.
    """
    reason = ""
    if name == "auto":
        objective, reason = pick_objective(data)
        name = "bernoulli" if objective == "bce" else "gaussian"
        reason = f", since {reason}; --likelihood chooses another"
    sigma, said = None, name
    if name == "gaussian":
        sigma = max(float(errors.square().mean().sqrt()), _MIN_SIGMA)
        said = f"gaussian, σ = {sigma:.3f}"
    log(f"likelihood {said}{reason}")
    return name, sigma


def _range_advice(low: float, high: float) -> str:
    """Return the option that fits a range of pixels."""
    if low >= -0.1 and high <= 1.1:
        return "Set activation (--activation) to clip."
    if low >= -1.5 and high <= 1.5:
        return (
            "Set image_range (--image-range) to signed for pixels in [-1, 1], or activation "
            "(--activation) to sigmoid for logits."
        )
    return "Set activation (--activation) to sigmoid, for logits."
