"""Build a bundle's page as files for a server or a folder; for one file, see `single_file`."""

from __future__ import annotations

import base64
import io
import json
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autoencoder import Autoencoder
from ..bundle.archive import pack
from ..bundle.reader import Bundle
from ..datasets import Dataset
from ..errors import FileError, InputError, MissingExtra, VaeError, describe_os_error
from ..files.atomic import writing_folder
from ..grids import grid
from .fetch import ASSETS, COMMAND, GIF, HERE, ORT, WASM, present

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE = "index.html"
STYLE = "style.css"
LICENCE = "ATTRIBUTION.md"  # must accompany every copy of the npm packages
PICTURES = "<!--pictures-->"  # replaced by what the page shows until its engine is ready
CHARSET = '<meta charset="utf-8">'
# Allows only what the page needs; servers should send this policy, as `vae-run studio` does.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# The npm package's sources: a wheel holds them here, a checkout beside `vae_runtime`.
ENGINE = next(
    (path for path in (HERE / "engine", HERE.parents[1] / "javascript" / "src") if path.is_dir()),
    HERE / "engine",
)
# A page has no package manager to resolve these names.
_LINKS = {
    b'"#platform"': b'"./platform.js"',
    b'"onnxruntime-web/wasm"': f'"../assets/{ORT}"'.encode(),
}
_NODE_ONLY = "platform.node.js"
_HEADER_ONLY = "; frame-ancestors"  # browsers ignore this rule inside a page
_START_LABEL = 3  # where there are as many classes; ui/main.js begins with the same image
_COLUMNS, _ROWS = 10, 6  # of the first pictures
_MAX_QUICK = 3 * 64 * 64  # numbers per image; larger ones are slow to decode
_MAX_POINTS = 1000  # images: enough to see where each class lies


class Points(NamedTuple):
    """Latents of a data set, to be shown on the map.

    Attributes:
        z: f32[n, D].
        labels: class indices i64[n]; None if the data set has no labels.
    """

    z: NDArray[np.float32]
    labels: NDArray[np.int64] | None

    def to_npz(self) -> bytes:
        """Encode the latents as an `.npz`."""
        arrays: dict[str, Any] = {"z": np.ascontiguousarray(self.z)}
        if self.labels is not None:
            arrays["label"] = self.labels
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()


NO_POINTS = Points(np.empty((0, 0), np.float32), None)


@dataclass(frozen=True, eq=False)
class PageContent:
    """The content of one page.

    Attributes:
        bundle: the bundle to show.
        name: the bundle's name or path, used in the Python programs that the page generates.
        points: points of the map; empty if the page shows no data set.
    """

    bundle: Bundle
    name: str
    points: Points = NO_POINTS


def page_files() -> dict[str, bytes]:
    """Return the files that all pages share, by path: HTML, style, modules and npm packages.

    Raises:
        MissingExtra: the packages were not fetched.
    """
    if not present():
        raise MissingExtra(
            f"the studio needs onnxruntime-web, not fetched yet. Run: {COMMAND} (needs npm and a "
            "network)"
        )
    paths = [HERE / PAGE, HERE / STYLE, HERE / LICENCE, *(ASSETS / n for n in (ORT, WASM, GIF))]
    for folder in ("boot", "ui"):
        paths += sorted((HERE / folder).glob("*.js"))
    files = {path.relative_to(HERE).as_posix(): path.read_bytes() for path in paths}
    return files | _engine_files()


def _engine_files() -> dict[str, bytes]:
    """Return the npm package's modules with imports that a page can resolve, by path."""
    files = {}
    for path in sorted(ENGINE.glob("*.js")):
        if path.name == _NODE_ONLY:
            continue
        raw = path.read_bytes()
        for name, address in _LINKS.items():
            raw = raw.replace(name, address)
        files[f"engine/{path.name}"] = raw
    return files


def folder_files(content: PageContent) -> dict[str, bytes]:
    """Return all files of a page for a web server, by path.

    The page also contains the security policy, for servers that do not send it.

    Raises:
        MissingExtra: the packages were not fetched.
    """
    files = page_files() | {
        "bundle.zip": pack(content.bundle.read_all()),
        "points.npz": content.points.to_npz(),
        "page.json": json.dumps({"name": content.name}).encode(),
    }
    policy = POLICY.partition(_HEADER_ONLY)[0]
    page = files[PAGE].decode().replace(PICTURES, first_pictures(content.bundle))
    files[PAGE] = with_policy(page, policy).encode()
    del files["boot/single.js"]
    return files


def first_pictures(bundle: Bundle) -> str:
    """Draw pictures that the page shows until its engine is ready, where its panels will be.

    Returns:
        HTML with the image that the page begins with and, unless images are large, the same latents
        with each label and samples of the prior. Empty if onnxruntime is missing or refuses the
        bundle: the page reports what is wrong with it.
    """
    try:
        with Autoencoder(bundle, device="cpu") as model:
            return _draw(model)
    except VaeError:
        return ""


def _draw(model: Autoencoder) -> str:
    spec = model.spec
    classes = np.arange(min(len(spec.classes), _COLUMNS))
    start = min(_START_LABEL, len(spec.classes) - 1) if spec.classes else None
    z = model.sample_latents(1, start, seed=0)
    panels = [_panel("Image", f'<div class="frame">{_picture(model.decode(z, start))}</div>'), ""]
    if prod(spec.image.shape) <= _MAX_QUICK:
        labels = np.tile(classes, _ROWS) if spec.classes else None
        count = _ROWS * (len(classes) or _COLUMNS)
        samples = _picture(model.sample(count, labels, seed=1), len(classes) or _COLUMNS)
        if spec.classes:
            tiles = model.decode(z.repeat(len(classes), 0), classes)
            row = "".join(f'<span class="tile">{_picture(tile[None])}</span>' for tile in tiles)
            panels[1] = _panel("Every label", f'<div class="tiles">{row}</div>')
        panels[1] += _panel("Samples", samples)
    return '<main class="first">' + "".join(f"<div>{panel}</div>" for panel in panels) + "</main>"


def _panel(title: str, content: str) -> str:
    return f'<section class="panel"><h2>{title}</h2>{content}</section>'


def _picture(images: NDArray[np.float32], columns: int = 1) -> str:
    """Return an `<img>` that holds images f32[n, C, H, W] as one PNG."""
    buffer = io.BytesIO()
    grid(images, columns=columns, scale=1).save(buffer, "PNG", optimize=True)
    return (
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )


def with_policy(page: str, policy: str) -> str:
    """Return the page with a Content-Security-Policy inserted into its head."""
    meta = f'{CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return page.replace(CHARSET, meta, 1)


def write_folder(content: PageContent, folder: Path) -> int:
    """Write a page as a folder in one atomic step; an earlier studio in that folder is replaced.

    Other files in that folder, such as a domain name for a web host, are copied to the new one.

    Returns:
        The number of bytes written.

    Raises:
        FileError: `folder` is neither a studio nor empty, or cannot be written.
    """
    files = folder_files(content)
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / "page.json").is_file():
            raise FileError(f"{folder}: exists and is not a studio. Choose another --out.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with writing_folder(folder) as new:
            for name, raw in files.items():
                path = new / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
            for entry in folder.iterdir() if folder.exists() else ():
                if not (new / entry.name).exists():
                    _copy(entry, new / entry.name)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{folder}: {describe_os_error(error)}") from error
    return sum(map(len, files.values()))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def encode_points(bundle: Bundle, data: Dataset, limit: int = _MAX_POINTS) -> Points:
    """Encode at most `limit` images, spread evenly over the data set, for the map.

    If the data has the same classes as the bundle, the encoder also receives the labels.

    Raises:
        InputError: the images and the bundle differ in shape.
    """
    spec = bundle.manifest.spec
    if data.image_shape != spec.image.shape:
        raise InputError(
            f"{data.name}: images are {data.image_shape} (C, H, W), the bundle's {spec.image.shape}"
        )
    n = min(limit, len(data))
    part = data.take(np.linspace(0, len(data) - 1, n).astype(np.intp))
    same = part.labels is not None and part.classes == spec.classes
    with Autoencoder(bundle, device="cpu") as model:
        latents = model.encode(part.images, part.labels if same else None)
    return Points(latents, part.labels)
