"""Public data sets in IDX format: where to download them, their checksums and class names."""

from __future__ import annotations

import hashlib
import string
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Download:
    """A data set of four gzipped IDX files.

    Attributes:
        name: what `--data` calls it.
        mirrors: the addresses to try, in this order, each ending in a slash.
        digests: the sha256 of each of `FILES`, uncompressed, as mirrors compress differently.
    """

    name: str
    mirrors: tuple[str, ...]
    digests: tuple[str, str, str, str]

    @property
    def sha256(self) -> dict[str, str]:
        """The sha256 of each uncompressed file by its name."""
        return dict(zip(FILES, self.digests, strict=True))


# MNIST is by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, CC BY-SA 3.0.
MNIST = Download(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://github.com/golbin/TensorFlow-MNIST/raw/master/mnist/data/",
    ),
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
# Fashion-MNIST is by Zalando SE, MIT licence (arXiv 1708.07747).
FASHION = Download(
    "fashion",
    (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
DOWNLOADS = {one.name: one for one in (MNIST, FASHION)}

_FASHION_CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
                    "bag", "ankle boot")  # fmt: skip
# EMNIST (Cohen et al. 2017, arXiv 1702.05373) by the ending of a data set's name. The merged
# classes have lower-case letters only where these look different from the capitals.
_EMNIST_CLASSES = {
    "byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "bymerge": string.digits + string.ascii_uppercase + "abdefghnqrt",
    "balanced": string.digits + string.ascii_uppercase + "abdefghnqrt",
}


def class_names(name: str, labels: NDArray[np.uint8]) -> dict[str, str]:
    """Return the name of each label, as text, of a data set that is known; else an empty dict.

    Args:
        name: the beginning of the files' names, such as `emnist-letters`.
        labels: u8[N], by which Fashion-MNIST is recognised.
    """
    if name.startswith("emnist"):
        kind = name.rpartition("-")[2]
        if kind == "letters":  # its labels begin at 1
            return {str(k): letter for k, letter in enumerate(string.ascii_lowercase, 1)}
        return {str(k): letter for k, letter in enumerate(_EMNIST_CLASSES.get(kind, ""))}
    header = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
    if hashlib.sha256(header + labels.tobytes()).hexdigest() in FASHION.digests:
        return {str(k): clothing for k, clothing in enumerate(_FASHION_CLASSES)}
    return {}
