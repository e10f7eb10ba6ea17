"""How well a detector separates normal from anomalous images and pixels; needs scikit-learn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..dependencies import require
from ..errors import InputError
from ..images import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_RESAMPLES = 1000
_MASKS = "ground_truth"
_ENDINGS = ("_mask.png", ".png", "_mask.bmp", ".bmp")
_MAX_OVERLAP_ALARMS = 0.3  # the false positive rate that AUPRO is integrated to


@dataclass(frozen=True)
class Quality:
    """Figures of a detector on labelled images.

    Attributes:
        normal, anomalous: numbers of images.
        auroc: the probability that an anomalous image scores higher than a normal one.
        auroc_low, auroc_high: the bounds of a 95% bootstrap interval.
        average_precision: the area under the curve of precision over recall.
        f1: of the decisions at the threshold.
        confusion: counts at the threshold: true and false alarms, missed and passed images.
        pixel_auroc: of the maps against masks; None without masks.
        aupro: the mean overlap with each anomalous region, over false positive rates up to 0.3
            (Bergmann et al. 2021, doi 10.1007/s11263-020-01400-4); None without masks.
    """

    normal: int
    anomalous: int
    auroc: float
    auroc_low: float
    auroc_high: float
    average_precision: float
    f1: float
    confusion: dict[str, int]
    pixel_auroc: float | None = None
    aupro: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


def measure_quality(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float, seed: int = 0
) -> Quality:
    """Measure the quality of scores f64[N].

    Args:
        scores: one per image.
        truth: bool[N], whether the image is anomalous.
        threshold: images above it are called anomalous.
        seed: seed of the bootstrap.

    Raises:
        InputError: all images are normal, or all are anomalous.
        MissingExtra: scikit-learn is not installed.
    """
    require("the quality of a detector", "sklearn", extra="cpu,detect")
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    count = int(truth.sum())
    if not 0 < count < len(truth):
        raise InputError(
            f"{count} of {len(truth)} images are anomalous, expected some of both kinds"
        )
    rng, pools, resampled = np.random.default_rng(seed), (scores[~truth], scores[truth]), []
    for _ in range(_RESAMPLES):
        drawn = [np.sort(rng.choice(pool, len(pool))) for pool in pools]
        below = np.searchsorted(drawn[0], drawn[1], "left")
        ties = np.searchsorted(drawn[0], drawn[1], "right") - below
        resampled.append(float((below + ties / 2).mean() / len(drawn[0])))
    low, high = np.quantile(resampled, [0.025, 0.975])
    called = scores > threshold
    confusion = {
        "true_alarms": int((called & truth).sum()),
        "false_alarms": int((called & ~truth).sum()),
        "missed": int((~called & truth).sum()),
        "passed": int((~called & ~truth).sum()),
    }
    return Quality(
        len(truth) - count, count, float(roc_auc_score(truth, scores)), float(low), float(high),
        float(average_precision_score(truth, scores)),
        float(f1_score(truth, called)) if called.any() else 0.0, confusion,
    )  # fmt: skip


def measure_maps(
    maps: NDArray[np.float32], masks: NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """Compare maps f32[N, H, W] with masks bool[N, H, W] of the anomalous pixels.

    Returns:
        Pixel AUROC and AUPRO; both None if no pixel is anomalous, or all are.
    """
    require("the quality of maps", "sklearn", extra="cpu,detect")
    from scipy.ndimage import label
    from sklearn.metrics import roc_auc_score

    if not 0 < masks.sum() < masks.size:
        return None, None
    normal = np.sort(maps[~masks])[::-1]
    # At each false positive rate, the share of every region's pixels that are above the threshold.
    rates = np.linspace(0, _MAX_OVERLAP_ALARMS, 201)
    bounds = normal[np.minimum((rates * len(normal)).astype(int), len(normal) - 1)]
    overlaps = []
    for values, mask in zip(maps, masks, strict=True):
        labelled: Any = label(mask)
        regions, count = labelled
        for region in range(1, count + 1):
            inside = np.sort(values[regions == region])
            overlaps.append(1 - np.searchsorted(inside, bounds, "right") / len(inside))
    curve = np.mean(overlaps, axis=0)
    aupro = float(np.trapezoid(curve, rates) / _MAX_OVERLAP_ALARMS)
    return float(roc_auc_score(masks.ravel(), maps.ravel())), aupro


def read_masks(
    files: Sequence[str], anomalous: NDArray[np.bool_], size: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """Read the masks of images in `test/CLASS/NAME.png` from `ground_truth/CLASS/NAME_mask.png`.

    Args:
        files: the path of each image.
        anomalous: bool[N]; the masks of normal images are empty.
        size: (H, W) that masks are resized to.

    Returns:
        bool[N, H, W]; None unless every anomalous image has a mask.
    """
    masks = np.zeros((len(files), *size), np.bool_)
    for i in np.flatnonzero(anomalous).tolist():
        path = _mask_of(Path(files[i]))
        if path is None:
            return None
        whole = Image.fromarray(read_image(path, mode="L")[0])
        # Averages keep defects that are thinner than one pixel of the model.
        masks[i] = np.asarray(whole.resize((size[1], size[0]), Image.Resampling.BOX)) > 0
    return masks


def _mask_of(image: Path) -> Path | None:
    kind, test = image.parent, image.parent.parent
    folder = test.parent / _MASKS / kind.name
    found = (folder / f"{image.stem}{ending}" for ending in _ENDINGS)
    return next((path for path in found if path.is_file()), None)
