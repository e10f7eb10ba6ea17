"""Training data as tensors: bytes on the device, shuffled by index, scaled a batch at a time."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError

from .ranks import Ranks


class Rows(ABC):
    """Labelled or unlabelled images that are taken a batch at a time.

    Attributes:
        labels: i64[N], or None.
    """

    labels: Tensor | None

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where a batch lies."""

    @abstractmethod
    def pick(self, index: Tensor) -> Images:
        """Those at `index` i64[B]."""

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images f32[B, C, H, W] in [0, 1] and labels i64[B], at `index` i64[B]."""
        picked = self.pick(index)
        return picked.pixels.float().div_(255), picked.labels

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All images in their order, `size` at a time."""
        for index in torch.split(torch.arange(len(self), device=self.device), size):
            yield self.batch(index)


@dataclass(frozen=True)
class Images(Rows):
    """Pixels u8[N, C, H, W] and labels i64[N] or None, both on one device."""

    pixels: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def device(self) -> torch.device:
        """Of the pixels."""
        return self.pixels.device

    def pick(self, index: Tensor) -> Images:
        """Those at `index` i64[B]."""
        # Copies whole images; indexing with brackets copies byte by byte.
        pixels = self.pixels.index_select(0, index)
        return Images(pixels, None if self.labels is None else self.labels[index])


@dataclass(frozen=True)
class Stream(Rows):
    """A data set that is too large to hold: a batch is read when it is asked for.

    Attributes:
        data: where from.
        target: the device of the batches.
        labels: i64[N] or None.
    """

    data: Dataset
    target: torch.device
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def device(self) -> torch.device:
        """The target."""
        return self.target

    def pick(self, index: Tensor) -> Images:
        """Those at `index` i64[B], read."""
        pixels = torch.from_numpy(np.asarray(self.data.images[index.cpu().numpy()]))
        labels = None if self.labels is None else self.labels[index]
        return Images(pixels.to(self.target), labels)


def split(data: Dataset, validation: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Training part and held-out part; which images are held out follows from `seed`.

    Raises:
        UsageError: nothing would be left to train on.
    """
    held = round(len(data) * validation)
    if held == len(data):
        raise UsageError(f"validation is {validation}: of {len(data)} images none is left to train")
    if held == 0:
        return data, None
    order = np.random.default_rng(seed).permutation(len(data))
    return data.take(np.sort(order[held:])), data.take(np.sort(order[:held]))


def to_device(data: Dataset, device: torch.device, *, labelled: bool) -> Images:
    """Copy a data set to `device`, without its labels unless the model reads them."""
    return Images(
        torch.tensor(np.asarray(data.images), device=device),
        _labels(data, device, labelled=labelled),
    )


def stream(data: Dataset, device: torch.device, *, labelled: bool) -> Stream:
    """The same without a copy: images are read, and moved to `device`, a batch at a time."""
    return Stream(data, device, _labels(data, device, labelled=labelled))


def _labels(data: Dataset, device: torch.device, *, labelled: bool) -> Tensor | None:
    if data.labels is None or not labelled:
        return None
    return torch.tensor(data.labels, device=device)


def shuffle(n: int, ranks: Ranks, order: Tensor) -> tuple[Tensor, Tensor]:
    """Put the images that a process holds in a new order, each shard in itself.

    Args:
        n: images held.
        ranks: how many shards they are, and which.
        order: the state of the generator that draws the order, u8[...].

    Returns:
        Indices i64[held, n / held], a row for each shard held, and the generator's state after.
    """
    generator = torch.Generator()
    generator.set_state(order)
    each = n // ranks.held
    # Every shard's is drawn, so that a shard's order does not depend on who holds it.
    whole = torch.stack([torch.randperm(each, generator=generator) for _ in range(ranks.shards)])
    own = ranks.own(whole.unsqueeze(0)).view(ranks.held, each)
    return own + each * torch.arange(ranks.held)[:, None], generator.get_state()


def fingerprint(data: Dataset) -> str:
    """The sha256 of all that a model can learn from: pixels, shapes, labels, class names."""
    facts = (data.images.shape, data.classes, data.labels is not None)
    digest = hashlib.sha256(repr(facts).encode())
    for piece in data.batches():
        digest.update(np.ascontiguousarray(piece).data)
    if data.labels is not None:
        digest.update(np.ascontiguousarray(data.labels).data)
    return digest.hexdigest()
