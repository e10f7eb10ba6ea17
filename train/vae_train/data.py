"""Training data as tensors of bytes, divided among processes and scaled batch by batch."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_models import ModelConfig
from vae_runtime.datasets import Dataset
from vae_runtime.detection.normality import MIN_HELD_OUT
from vae_runtime.errors import InputError, UsageError

from .config import TrainConfig
from .distributed import ProcessGroup
from .objective import Batch

_EVALUATION_LATENTS = 256  # images to decode per batch
_NEARLY_BLACK = 16  # of 255: what white becomes if 12 bits are read as 16


class ImageSource(ABC):
    """Images, labelled or unlabelled, that are read one batch at a time.

    Attributes:
        labels: i64[N]; None if the images are unlabelled.
    """

    labels: Tensor | None

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device that batches are on."""

    @abstractmethod
    def select(self, index: Tensor) -> Images:
        """Select the images at `index` i64[B]."""

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the images at `index` i64[B] as f32[B, C, H, W] in [0, 1], and their labels."""
        selected = self.select(index)
        return selected.pixels.float().div_(255), selected.labels

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield all images in order, `size` at a time."""
        for index in torch.split(torch.arange(len(self), device=self.device), size):
            yield self.batch(index)


@dataclass(frozen=True)
class Images(ImageSource):
    """Images in memory: pixels u8[N, C, H, W] and labels i64[N] or None, on one device."""

    pixels: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def device(self) -> torch.device:
        """The device that holds the pixels."""
        return self.pixels.device

    def select(self, index: Tensor) -> Images:
        """Select the images at `index` i64[B]."""
        # index_select copies whole images, whereas bracket indexing copies byte by byte.
        pixels = self.pixels.index_select(0, index)
        return Images(pixels, None if self.labels is None else self.labels[index])


@dataclass(frozen=True)
class StreamedImages(ImageSource):
    """Images of a data set too large for memory; each batch is read on demand.

    Attributes:
        data: the data set.
        target: the device that batches are moved to.
        labels: i64[N]; None if the images are unlabelled.
    """

    data: Dataset
    target: torch.device
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def device(self) -> torch.device:
        """The device that batches are moved to."""
        return self.target

    def select(self, index: Tensor) -> Images:
        """Read the images at `index` i64[B]."""
        pixels = torch.from_numpy(np.asarray(self.data.images[index.cpu().numpy()]))
        labels = None if self.labels is None else self.labels[index]
        return Images(pixels.to(self.target), labels)


def to_device(data: Dataset, device: torch.device, *, labelled: bool) -> Images:
    """Copy the images of a data set to `device`, and the labels too if `labelled`."""
    return Images(
        torch.tensor(np.asarray(data.images), device=device),
        _labels(data, device, labelled=labelled),
    )


def stream(data: Dataset, device: torch.device, *, labelled: bool) -> StreamedImages:
    """Wrap a data set to read batches onto `device` on demand, with labels only if `labelled`."""
    return StreamedImages(data, device, _labels(data, device, labelled=labelled))


def _labels(data: Dataset, device: torch.device, *, labelled: bool) -> Tensor | None:
    if data.labels is None or not labelled:
        return None
    return torch.tensor(data.labels, device=device)


def split(data: Dataset, validation: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Hold out a random fraction of the images for validation, but 20 if these are at most a tenth.

    Returns:
        The training images and the held-out images. The latter are None if the fraction amounts to
        less than one image after rounding.

    Raises:
        UsageError: no images would be left to train on.
    """
    n = len(data)
    # Of small data, a fraction of 5% is too few images to measure anything on.
    held_out = round(n * validation)
    held_out = max(held_out, min(MIN_HELD_OUT, n // 10)) if held_out else 0
    if held_out == len(data):
        raise UsageError(
            f"validation is {validation} of {len(data)} images: none is left to train on"
        )
    if held_out == 0:
        return data, None
    order = np.random.default_rng(seed).permutation(len(data))
    return data.take(np.sort(order[held_out:])), data.take(np.sort(order[:held_out]))


def check_variety(data: Dataset) -> None:
    """Check that a data set has something to learn from.

    Raises:
        InputError: all images are the same, or nearly black.
    """
    brightest = 0
    first = data.images[:1]
    for batch in data.batches():
        brightest = max(brightest, int(batch.max()))
        if brightest > _NEARLY_BLACK and (batch != first).any():
            return
    if brightest == int(first.min()):
        shade = {0: "black", 255: "white"}.get(brightest, f"the level {brightest} of 255")
        raise InputError(
            f"{data.name}: all {len(data):,} images are {shade} everywhere, so there is nothing to "
            "learn. Look at the files and at how they were read."
        )
    if brightest <= _NEARLY_BLACK:
        raise InputError(
            f"{data.name}: no pixel is brighter than {brightest} of 255. Scale the images so that "
            "white is 255; files of 16 bits that hold 12 need a factor of 16."
        )
    if len(data) > 1:
        raise InputError(
            f"{data.name}: all {len(data):,} images are the same, so there is nothing to learn."
        )


@dataclass(frozen=True, eq=False)
class ShardedData:
    """The data of a training run, as held by one of its processes.

    Attributes:
        training: the training images of all processes.
        own_training: the training images of this process, on its device.
        own_validation: the held-out images of this process, on its device; None if no images are
            held out.
        device: the device of this process.
        labelled: whether the model reads labels.
        streamed: whether images that this process does not hold are read from the data set on
            demand; True if there are several processes, since no single one holds all images.
    """

    training: Dataset
    own_training: Images
    own_validation: Images | None
    device: torch.device
    labelled: bool
    streamed: bool

    @classmethod
    def load(
        cls,
        data: Dataset,
        config: TrainConfig,
        device: torch.device,
        group: ProcessGroup,
        *,
        labelled: bool,
    ) -> ShardedData:
        """Split the data into training and validation, and load the images of this process.

        Raises:
            InputError: all images are the same.
            UsageError: there are fewer images than processes, or there are no validation images,
                which `patience` requires.
        """
        check_variety(data)
        training, validation = split(data, config.validation, config.seed)
        if config.patience and validation is None:
            raise UsageError(
                f"validation is {config.validation} of {len(training)} images, which is none, but "
                "patience needs some. Raise --validation, or leave out --patience."
            )
        for images, name in ((training, "training"), (validation, "validation")):
            if images is not None and len(images) < group.shards:
                raise UsageError(
                    f"{images.name}: {len(images)} {name} images for {group.shards} processes"
                )

        def own(images: Dataset) -> Images:
            return to_device(images.take(group.own_slice(len(images))), device, labelled=labelled)

        own_validation = None if validation is None else own(validation)
        streamed = group.world_size > 1
        return cls(training, own(training), own_validation, device, labelled, streamed)

    def all_training(self) -> ImageSource:
        """Return the training images of all processes."""
        return self.whole(self.training) if self.streamed else self.own_training

    def whole(self, data: Dataset) -> ImageSource:
        """Return all images of `data`, held in memory unless the training data is sharded."""
        place = stream if self.streamed else to_device
        return place(data, self.device, labelled=self.labelled)


def shuffle(n: int, group: ProcessGroup, generator_state: Tensor) -> tuple[Tensor, Tensor]:
    """Shuffle the `n` images that a process holds, each shard separately.

    Args:
        n: the number of images that the process holds.
        group: the processes and their shards.
        generator_state: u8[...], the state of the generator that draws the order.

    Returns:
        Indices i64[held_shards, n / held_shards], and the new state of the generator.
    """
    generator = torch.Generator()
    generator.set_state(generator_state)
    length = n // group.held_shards
    # Draw the order of every shard, so that no order depends on which process holds the shard.
    orders = [torch.randperm(length, generator=generator) for _ in range(group.shards)]
    own = group.own_rows(torch.stack(orders).unsqueeze(0)).view(group.held_shards, length)
    return own + length * torch.arange(group.held_shards)[:, None], generator.get_state()


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches, including all random inputs, from the images that a process holds.

    Every process draws the random numbers of the whole batch and keeps those of its own images, so
    that an image gets the same noise regardless of the number of processes.
    """

    data: ImageSource
    model: ModelConfig
    config: TrainConfig
    group: ProcessGroup
    noise: torch.Generator

    def split(self, order: Tensor, size: int) -> list[Tensor]:
        """Split indices i64[held_shards, images per shard] into batches of `size` images per shard.

        Returns:
            For each batch, the indices i64[held_shards·size] of its images.
        """
        # Do this once per epoch: between the large operations of a step, which evict its data from
        # the processor's caches, this small operation takes ten times as long.
        return [index.flatten() for index in torch.split(order.to(self.data.device), size, 1)]

    def make(self, index: Tensor, label_dropout: float = 0.0) -> Batch:
        """Make the batch of the images at `index` i64[held_shards·n].

        The order of the draws below decides which random numbers an image gets; do not change it.

        Args:
            index: the indices of the images.
            label_dropout: fraction of labels to replace with "no label".
        """
        image, label = self.data.batch(index)
        n, config = len(index) // self.group.held_shards, self.config
        if label is not None and label_dropout:
            dropped = self._draw(torch.rand, 1, n)[0] < label_dropout
            label = label.masked_fill(dropped, self.model.classes)
        if config.binarise:
            image = (self._draw(torch.rand, 1, n, *image.shape[1:])[0] < image).float()
        encoder_input = image
        if config.noise:
            noise = self._draw(torch.randn, 1, n, *image.shape[1:])[0]
            encoder_input = (image + config.noise * noise).clamp_(0, 1)
        width = 0 if self.model.family == "ae" else self.model.latent_dim  # an AE samples no z
        eps = self._draw(torch.randn, config.importance_samples, n, width)
        return Batch(image, encoder_input, label, eps)

    def all(self) -> Iterator[Batch]:
        """Yield all images in order, with their labels."""
        order = torch.arange(len(self.data)).view(self.group.held_shards, -1)
        latents_per_image = self.group.shards * self.config.importance_samples
        for index in self.split(order, max(1, _EVALUATION_LATENTS // latents_per_image)):
            yield self.make(index)

    def _draw(self, distribution: Callable[..., Tensor], k: int, n: int, *shape: int) -> Tensor:
        """Draw random numbers f32[k, held_shards·n, *shape] for the images of this process."""
        size = (k, self.group.shards, n, *shape)
        drawn = distribution(size, generator=self.noise, device=self.noise.device)
        return self.group.own_rows(drawn)


def fingerprint(data: Dataset) -> str:
    """Compute the sha256 of everything a model learns from: pixels, shape, labels, class names."""
    header = (data.images.shape, data.classes, data.labels is not None)
    digest = hashlib.sha256(repr(header).encode())
    for batch in data.batches():
        digest.update(np.ascontiguousarray(batch).data)
    if data.labels is not None:
        digest.update(np.ascontiguousarray(data.labels).data)
    return digest.hexdigest()
