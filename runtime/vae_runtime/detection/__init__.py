"""Find anomalies: what is normal for a model, how far an image is from it, and where."""

from __future__ import annotations

from .normality import Detection, Normality, detect, fit_normality, split_normality

__all__ = ["Detection", "Normality", "detect", "fit_normality", "split_normality"]
