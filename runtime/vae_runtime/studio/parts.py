"""What every studio is made of: the page, onnxruntime-web, a bundle, codes for the map."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..archive import pack
from ..bundle import Bundle
from ..errors import MissingExtra
from .fetch import ASSETS, COMMAND, HERE, SCRIPT, WASM, present

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE = "index.html"
STYLE = "style.css"
LICENCE = "ATTRIBUTION.md"  # goes wherever onnxruntime-web goes
# Two lines of the page that a single file replaces by what they name.
STYLE_LINE = f'<link rel="stylesheet" href="{STYLE}">'
SCRIPT_LINE = '<script type="module" src="boot/folder.js"></script>'


class Points(NamedTuple):
    """Codes of a data set, for the map.

    Attributes:
        z: f32[n, D].
        labels: i64[n], their classes, where the data set has any.
    """

    z: NDArray[np.float32]
    labels: NDArray[np.int64] | None


NO_POINTS = Points(np.empty((0, 0), np.float32), None)


@dataclass(frozen=True, eq=False)
class Parts:
    """The changing parts of a studio.

    Attributes:
        bundle: what the page shows.
        name: what Python loads it by; stands in the page's snippets.
        points: the map's; of none where the page has no data set.
    """

    bundle: Bundle
    name: str
    points: Points = NO_POINTS

    def files(self) -> dict[str, bytes]:
        """`bundle.zip`, `points.npz` and `page.json`, as a folder has them."""
        return {
            "bundle.zip": pack(self.bundle.read_all()),
            "points.npz": self.points_file(),
            "page.json": json.dumps({"name": self.name}).encode(),
        }

    def points_file(self) -> bytes:
        """The codes as an `.npz`."""
        arrays: dict[str, Any] = {"z": np.ascontiguousarray(self.points.z)}
        if self.points.labels is not None:
            arrays["label"] = self.points.labels
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()


def page_files() -> dict[str, bytes]:
    """The page, its style, and every module, by path; onnxruntime-web among them.

    Raises:
        MissingExtra: onnxruntime-web is not there.
    """
    if not present():
        raise MissingExtra(
            f"the studio's onnxruntime-web is not here. Run: {COMMAND} (needs npm and a network)"
        )
    paths = [HERE / PAGE, HERE / STYLE, HERE / LICENCE, ASSETS / SCRIPT, ASSETS / WASM]
    for folder in ("boot", "engine", "ui"):
        paths += sorted((HERE / folder).rglob("*.js"))
    return {path.relative_to(HERE).as_posix(): path.read_bytes() for path in paths}
