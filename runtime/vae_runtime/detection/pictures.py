"""Pictures of a detection: heat maps over images, and curves of its quality."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dependencies import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

# From dark to bright, evenly in lightness.
_HEAT = np.array(
    [[0, 0, 0], [80, 18, 123], [182, 54, 121], [251, 136, 97], [252, 253, 191]], np.float32
) / np.float32(255)


def heat(images: NDArray[np.float32], maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw maps over their images.

    Args:
        images: f32[N, C, H, W] in [0, 1].
        maps: f32[N, H, W]; pixels of 1 or less, which are as expected, keep the grey of the image.
            The brightest colour is for the highest thousandth of all pixels, and for 2 or more.

    Returns:
        f32[N, 3, H, W] in [0, 1].
    """
    high = max(2.0, float(np.quantile(maps, 0.999))) if maps.size else 2.0
    strength = ((maps - 1) / (high - 1)).clip(0, 1)
    place = strength * (len(_HEAT) - 1)
    colour = np.stack([np.interp(place, range(len(_HEAT)), _HEAT[:, c]) for c in range(3)], axis=1)
    grey = images[:, :3].mean(axis=1, keepdims=True) if images.shape[1] > 2 else images[:, :1]
    opacity = strength[:, None] ** 0.5
    drawn: NDArray[np.float32] = (grey * 0.6 * (1 - opacity) + colour * opacity).astype(np.float32)
    return drawn


def draw_curves(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float, auroc: float
) -> bytes:
    """Draw the ROC curve and the histogram of the scores as a PNG.

    Raises:
        MissingExtra: matplotlib or scikit-learn is not installed.
    """
    require("the curves of a detector", "matplotlib", "sklearn", extra="cpu,detect")
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    figure = Figure((9, 4), layout="constrained")
    roc, histogram = figure.subplots(1, 2)
    alarms, found, _ = roc_curve(truth, scores)
    roc.plot(alarms, found, color="#b63679", lw=2)
    roc.plot([0, 1], [0, 1], color="#999", lw=1, ls=":")
    roc.plot(
        (scores[~truth] > threshold).mean(), (scores[truth] > threshold).mean(), "o",
        color="#50127b", label="at the threshold",
    )  # fmt: skip
    roc.set(xlabel="false alarms", ylabel="anomalies found", title=f"AUROC {auroc:.3f}")
    roc.legend(frameon=False)
    low, high = np.quantile(scores, [0, 0.99]).tolist()
    bins = np.linspace(low, high, 50)
    style: dict[str, Any] = {"bins": bins, "density": True, "alpha": 0.7}
    histogram.hist(scores[~truth], color="#3b7dd8", label="normal", **style)
    histogram.hist(scores[truth], color="#b63679", label="anomalous", **style)
    histogram.axvline(threshold, color="#50127b", lw=1.5, label="threshold")
    histogram.set(xlabel="score", yticks=[], title="scores")
    histogram.legend(frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()
