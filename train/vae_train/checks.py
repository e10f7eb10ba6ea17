"""What is refused before anything is trained, because it would fail or mean nothing afterwards."""

from __future__ import annotations

from vae_models import ModelConfig
from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError

from .config import TrainConfig
from .ranks import Ranks


def check(
    data: Dataset, test: Dataset | None, model: ModelConfig, config: TrainConfig, ranks: Ranks
) -> None:
    """Refuse data, model and recipe that do not go together.

    Raises:
        UsageError: what was seen, what was expected.
    """
    for part in (data,) if test is None else (data, test):
        _check_images(part, model)
    if config.label_dropout and not model.null_label:
        raise UsageError(
            f"label_dropout is {config.label_dropout}, expected 0: this {model.family} has no row "
            "for a missing label (the default preset's cvae has)"
        )
    if config.importance_samples > 1 and model.family == "ae":
        raise UsageError("importance_samples is for vae and cvae: an ae draws no latents")
    if config.batch_size % ranks.shards:
        raise UsageError(
            f"batch_size is {config.batch_size}, expected a multiple of {ranks.shards} processes"
        )
    if model.family != "cvae":
        return
    if len(data.classes) != model.classes:
        raise UsageError(f"{data.name}: {len(data.classes)} classes, model has {model.classes}")
    # Labels are indices: a test split may lack the last classes, and no others.
    if test is not None and test.classes != data.classes[: len(test.classes)]:
        raise UsageError(
            f"{test.name}: the classes of the test split are not those of the training"
        )


def check_share(
    training: Dataset, validation: Dataset | None, config: TrainConfig, ranks: Ranks
) -> None:
    """Refuse a data set of which a process would get nothing, or early stopping none to look at.

    Raises:
        UsageError: how many images there are for how many processes.
    """
    if config.patience and validation is None:
        raise UsageError(
            f"validation is {config.validation} of {len(training)} images, which is none, and "
            "patience needs some. Raise it, or leave --patience out."
        )
    for part, name in ((training, "training"), (validation, "validation")):
        if part is not None and len(part) < ranks.shards:
            raise UsageError(f"{part.name}: {len(part)} {name} images for {ranks.shards} processes")


def require_labels(data: Dataset) -> None:
    """Refuse a data set without labels.

    Raises:
        UsageError: what to train instead.
    """
    if data.labels is None:
        raise UsageError(f"{data.name}: no labels, and a cvae needs them. Train ae or vae.")


def _check_images(data: Dataset, model: ModelConfig) -> None:
    if data.image_shape != model.image_shape:
        raise UsageError(
            f"{data.name}: images of {data.image_shape} (C, H, W), expected {model.image_shape} "
            "as the model. Image files are resized by --size HxW."
        )
    if data.image_shape[0] not in (1, 3):
        raise UsageError(f"{data.name}: {data.image_shape[0]} channels, expected 1 or 3")
    if model.family == "cvae":
        require_labels(data)
