"""What of a data set a process holds while it trains, and how it reads the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vae_runtime.datasets import Dataset

from .checks import check_share
from .config import TrainConfig
from .data import Images, Rows, split, stream, to_device
from .ranks import Ranks


@dataclass(frozen=True, eq=False)
class Share:
    """The part of one process.

    Attributes:
        training: all images to train on, of all processes.
        own: those of them that this process trains on, on its device.
        held_out: those that it validates with, or None.
        device: where they lie.
        labelled: whether the model reads labels.
        several: whether there are other processes.
    """

    training: Dataset
    own: Images
    held_out: Images | None
    device: torch.device
    labelled: bool
    several: bool

    @classmethod
    def of(
        cls, data: Dataset, config: TrainConfig, device: torch.device, ranks: Ranks, *,
        labelled: bool,
    ) -> Share:  # fmt: skip
        """Split the data, and place what belongs to this process.

        Raises:
            UsageError: nothing would be left for a process.
        """
        training, validation = split(data, config.validation, config.seed)
        check_share(training, validation, config, ranks)

        def part(of: Dataset) -> Images:
            return to_device(of.take(ranks.part(len(of))), device, labelled=labelled)

        held_out = None if validation is None else part(validation)
        return cls(training, part(training), held_out, device, labelled, ranks.world > 1)

    def all_training(self) -> Rows:
        """All images to train on; where others hold them, read in pieces."""
        return self.whole(self.training) if self.several else self.own

    def whole(self, data: Dataset) -> Rows:
        """All of `data`; where there are several processes none holds all, and it is streamed."""
        place = stream if self.several else to_device
        return place(data, self.device, labelled=self.labelled)
