"""Load a custom module, fit its prior, and wrap it for export.

A custom module is any `nn.Module` with `encode` and `decode`, or a pair of modules.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_models.vae import sample_posterior
from vae_runtime.arrays import to_float32
from vae_runtime.bundle.spec import ImageSpec, ModelSpec
from vae_runtime.datasets import Dataset
from vae_runtime.errors import InputError, UsageError, VaeError
from vae_runtime.files.reading import read_bytes
from vae_runtime.prior import Prior
from vae_train.prior import fit_latents

from .calling_convention import (
    CallingConvention,
    Modules,
    find_calling_convention,
    unpack_image,
    unpack_latents,
)
from .graphs import make_graphs
from .options import CustomModuleOptions
from .parity import MAX_IMAGES
from .source import Source, matching_labels

NO_WIDTH = -20.0  # a log_var: a standard deviation of 5e-5
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")  # where trainers put the weights
_PRIOR_IMAGES = 20_000  # to fit the prior to
_BATCH = 256
_SLACK = 1e-4  # tolerance for pixels outside [0, 1]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda image: image,
    "sigmoid": torch.sigmoid,
    "tanh": lambda image: (image + 1) / 2,
    "clip": lambda image: image.clamp(0, 1),
}


class LabelInput(nn.Module):
    """Convert the bundle's labels to those of the custom module."""

    def __init__(self, convention: CallingConvention) -> None:
        super().__init__()
        k = len(convention.options.classes)
        if convention.options.one_hot:
            # "No label" is an equal mix of all classes; a linear layer maps it to its mean row.
            table = torch.cat([torch.eye(k), torch.full((1, k), 1 / k)])
        else:
            table = torch.tensor([*range(k), convention.null_label])
        self.register_buffer("table", table)

    def forward(self, label: Tensor) -> Tensor:
        """i64[N] in [0, K], where K means no label → i64[N], or f32[N, K] for one-hot labels."""
        return self.get_buffer("table").index_select(0, label)


class CustomEncoder(nn.Module):
    """image[, label] → z, or mu and log_var."""

    def __init__(self, convention: CallingConvention) -> None:
        super().__init__()
        self.options = convention.options
        self.encode = convention.encode
        self.labels = LabelInput(convention) if convention.labelled_encoder else None

    def unpack(self, image: Tensor, label: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
        """Encode to the module's own latent shape: one or two f32[N, *latent_shape]."""
        arguments = [image * 2 - 1 if self.options.signed else image]
        if self.labels is not None and label is not None:
            arguments.append(self.labels(label))
        return unpack_latents(self.encode(*arguments), self.options.spread)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """f32[N, C, H, W] in [0, 1][, i64[N]] → one or two f32[N, D]."""
        latents = self.unpack(image, label)
        if not isinstance(latents, Tensor):
            return latents[0].flatten(1), latents[1].flatten(1)
        z = latents.flatten(1)
        # A CVAE's encoder returns a distribution, so plain latents get one of almost zero width.
        return (z, torch.full_like(z, NO_WIDTH)) if self.options.classes else z


class CustomDecoder(nn.Module):
    """z[, label] → image."""

    def __init__(self, convention: CallingConvention, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.classes = len(convention.options.classes)
        self.activation = _ACTIVATIONS[convention.options.activation]
        self.decode = convention.decode
        self.latent_shape = latent_shape
        self.labels = LabelInput(convention) if self.classes else None

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """f32[N, D][, i64[N]] → f32[N, C, H, W] in [0, 1]."""
        latents = z if len(self.latent_shape) == 1 else torch.unflatten(z, 1, self.latent_shape)
        if self.labels is None:
            return self.activation(unpack_image(self.decode(latents)))
        if label is None:
            label = torch.full_like(z[:, 0], self.classes, dtype=torch.int64)
        return self.activation(unpack_image(self.decode(latents, self.labels(label))))


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


def load_weights(module: Modules, path: Path) -> str:
    """Load a state dict. For a pair of modules, its keys begin with `encoder.` or `decoder.`.

    Returns:
        The sha256 of the file.

    Raises:
        NotFound: no such file.
        InputError: the file is not a state dict, or does not fit the module.
    """
    raw = read_bytes(path)
    try:
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{path}: holds objects other than tensors, which are not loaded. "
            "Save model.state_dict()."
        ) from error
    for key in _STATE_DICT_KEYS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: not a state dict. Save model.state_dict().")
    if isinstance(module, tuple):
        module = nn.ModuleDict({"encoder": module[0], "decoder": module[1]})
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise InputError(f"{path}: does not fit the module: {line}") from error
    return hashlib.sha256(raw).hexdigest()


@torch.no_grad()
def from_custom_module(
    module: Modules, data: Dataset, options: CustomModuleOptions, sha256: str = ""
) -> Source:
    """Wrap a custom module and fit its prior.

    Args:
        module: copied, not changed.
        data: its training images.
        options: properties that cannot be inferred from the module.
        sha256: checksum of its weights file, for the manifest.

    Raises:
        UsageError: the module does not fit the options or the data.
    """
    k = len(options.classes)
    if k and (data.labels is None or len(data.classes) != k):
        raise UsageError(f"{data.name}: {len(data.classes)} classes, the module has {k}")
    convention = find_calling_convention(module, options)
    encoder = CustomEncoder(convention).eval()
    images = torch.from_numpy(to_float32(data.images[:_PRIOR_IMAGES]))
    labels = None
    if convention.labelled_encoder and data.labels is not None:
        labels = torch.from_numpy(data.labels[:_PRIOR_IMAGES])
    with _user_code("encode", data):
        latents = _encode(encoder, images, labels)
        first = encoder.unpack(images[:2], None if labels is None else labels[:2])
    latent_shape = tuple((first if isinstance(first, Tensor) else first[0]).shape[1:])
    decoder = CustomDecoder(convention, latent_shape).eval()
    mean = latents[0] if isinstance(latents, tuple) else latents
    _check_images(decoder, mean[:_BATCH], data)
    prior = _fit_prior(encoder, latents, images, data, options)
    family = "cvae" if k else "vae" if isinstance(latents, tuple) else "ae"
    spec = ModelSpec(
        id="",
        family=family,
        image=ImageSpec(*data.image_shape),
        latent_dim=prior.latent_dim,
        classes=options.classes,
        likelihood=options.likelihood,
        prior=prior,
    )
    name = options.name or type(module[0] if isinstance(module, tuple) else module).__name__
    return Source(
        spec,
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
    )


@contextmanager
def _user_code(method: str, data: Dataset) -> Iterator[None]:
    """Report exceptions from the user's code as usage errors."""
    try:
        yield
    except (VaeError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(
            f"{method}: failed on a batch of {data.name}, images {data.image_shape}: {error}. "
            "Was the module trained on such images?"
        ) from error


def _encode(
    encoder: CustomEncoder, images: Tensor, labels: Tensor | None
) -> Tensor | tuple[Tensor, ...]:
    """Encode all images to latents, or to mu and log_var: one or two f32[N, D]."""
    batches = [
        encoder(images[i : i + _BATCH], None if labels is None else labels[i : i + _BATCH])
        for i in range(0, len(images), _BATCH)
    ]
    if isinstance(batches[0], Tensor):
        return torch.cat(batches)
    return tuple(torch.cat(column) for column in zip(*batches, strict=True))


def _sample(latents: Tensor | tuple[Tensor, ...], seed: int) -> NDArray[np.float64]:
    """Sample one z per image from the posterior, f64[N, D]; return plain latents as they are."""
    if isinstance(latents, Tensor):
        return latents.double().numpy()
    mu, log_var = latents
    return sample_posterior(mu, log_var, torch.Generator().manual_seed(seed)).double().numpy()


def _fit_prior(
    encoder: CustomEncoder,
    latents: Tensor | tuple[Tensor, ...],
    images: Tensor,
    data: Dataset,
    options: CustomModuleOptions,
) -> Prior:
    """Fit the prior to posterior samples; `class_gmm` has one mixture per class and one for all."""
    kind = options.prior
    if kind == "auto":
        kind = "class_gmm" if options.classes else "gmm"
    z = _sample(latents, options.seed)
    groups = [z]
    if kind == "class_gmm":
        if not options.classes or data.labels is None:
            raise UsageError("prior class_gmm needs classes. Use gmm.")
        k = len(options.classes)
        labels = data.labels[:_PRIOR_IMAGES]
        groups = [z[labels == i] if (labels == i).any() else z for i in range(k)]
        if encoder.labels is not None:
            unlabelled = _encode(encoder, images, torch.full((len(images),), k))
            z = _sample(unlabelled, options.seed)
        groups.append(z)
    return fit_latents(groups, kind, seed=options.seed).prior


def _check_images(decoder: CustomDecoder, z: Tensor, data: Dataset) -> None:
    """Check that decoded images have the shape of the data, and pixels in [0, 1]."""
    with _user_code("decode", data):
        image = decoder(z)
    if tuple(image.shape[1:]) != data.image_shape:
        raise UsageError(
            f"decode: returns images {tuple(image.shape[1:])}, the data has {data.image_shape}"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise UsageError(
            f"decode: pixels range from {low:.3g} to {high:.3g}, expected [0, 1]. Set activation "
            "(--activation): sigmoid for logits, tanh for [-1, 1], clip to clamp."
        )
