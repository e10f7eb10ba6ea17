"""TensorBoard event files: losses after each epoch, pictures at the end."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vae_runtime.errors import MissingExtra
from vae_runtime.images import read_image

from .report import Picture
from .state import Epoch


class TensorBoard:
    """Writes an event file into `folder`, for `tensorboard --logdir`.

    Raises:
        MissingExtra: the package `tensorboard` is not installed.
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
        """Write the losses, as `training/loss`, `validation/loss` and so on, and the speed."""
        self._epoch = epoch.epoch
        for name, value in asdict(epoch).items():
            if name == "epoch" or value is None:
                continue
            term = name.removeprefix("validation_")
            part = "validation" if term != name else "training"
            self._writer.add_scalar(f"{part}/{term}", value, epoch.epoch)
        self._writer.flush()

    def close(self, pictures: Sequence[Picture] = ()) -> None:
        """Write the pictures of the report at the last epoch, and close the file."""
        for picture in pictures:
            self._writer.add_image(picture.name, read_image(picture.png, mode="RGB"), self._epoch)
        self._writer.close()
