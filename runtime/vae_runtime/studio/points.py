"""Codes of a data set, for the map of a studio."""

from __future__ import annotations

import numpy as np

from ..autoencoder import Autoencoder
from ..bundle import Bundle
from ..datasets import Dataset
from ..errors import InputError
from .parts import Points

LIMIT = 1000  # images: enough to see where each class lies


def encode_points(bundle: Bundle, data: Dataset, limit: int = LIMIT) -> Points:
    """The mean codes f32[n, D] of at most `limit` images, spread evenly over the data; its labels.

    An encoder that takes labels gets them where the data's classes are the bundle's.

    Raises:
        InputError: images of another shape than the bundle's.
    """
    card = bundle.manifest.card
    if data.image_shape != card.image.shape:
        raise InputError(
            f"{data.name}: images are {data.image_shape} (C, H, W), the bundle's {card.image.shape}"
        )
    n = min(limit, len(data))
    part = data.take(np.linspace(0, len(data) - 1, n).astype(np.intp))
    same = part.labels is not None and part.classes == card.classes
    with Autoencoder(bundle, device="cpu") as model:
        codes = model.encode(part.images, part.labels if same else None)
    return Points(codes, part.labels)
