"""TensorBoard: scalars after each epoch, pictures at the end. An optional package."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

from vae_runtime.errors import MissingExtra
from vae_runtime.images import read_image

from ..state import Epoch
from .page import Picture


class Board:
    """An event file in `folder`, for `tensorboard --logdir`.

    Raises:
        MissingExtra: no package `tensorboard`.
    """

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise MissingExtra(
                "--tensorboard needs tensorboard, not installed here. Run: pip install tensorboard"
            )
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        self._epoch = 0

    def epoch(self, epoch: Epoch) -> None:
        """Losses as `training/loss`, `validation/loss` and so on; the speed."""
        self._epoch = epoch.epoch
        for name, value in asdict(epoch).items():
            if name == "epoch" or value is None:
                continue
            term = name.removeprefix("validation_")
            part = "validation" if term != name else "training"
            self._writer.add_scalar(f"{part}/{term}", value, epoch.epoch)
        self._writer.flush()

    def pictures(self, pictures: list[Picture]) -> None:
        """The pictures of the report, at the last epoch."""
        for picture in pictures:
            pixels = read_image(picture.png, mode="RGB")
            self._writer.add_image(picture.name, pixels, self._epoch)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
