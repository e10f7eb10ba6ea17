"""What every studio is made of: the page, onnxruntime-web, a bundle, latents for the map."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autoencoder import Autoencoder
from ..bundle.archive import pack
from ..bundle.reader import Bundle
from ..datasets import Dataset
from ..errors import FileError, InputError, MissingExtra, StateError
from ..files.atomic import write_atomic
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
        """The latents as an `.npz`."""
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


# What the page needs and no more; a server should send it, `vae-run studio` does.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_META = POLICY.partition("; frame-ancestors")[0]  # which only a header may say


def folder_files(parts: Parts) -> dict[str, bytes]:
    """Every file by path; the page itself carries the policy, for servers that send none.

    Raises:
        MissingExtra: onnxruntime-web is not there.
    """
    files = page_files() | parts.files()
    charset = b'<meta charset="utf-8">'
    meta = f'\n<meta http-equiv="Content-Security-Policy" content="{_META}">'.encode()
    files[PAGE] = files[PAGE].replace(charset, charset + meta, 1)
    del files["boot/single.js"]
    return files


def write_folder(parts: Parts, folder: Path) -> int:
    """Write all files; an earlier studio is replaced.

    Returns:
        Bytes written.

    Raises:
        FileError: `folder` is neither a studio nor empty, or cannot be written.
    """
    files = folder_files(parts)
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / "page.json").is_file():
            raise FileError(f"{folder}: exists and is not a studio. Choose another --out.")
        for name, raw in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, raw)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    return sum(map(len, files.values()))


# `import … from "./x.js"` and `export … from "./x.js"`, at the beginning of a line.
_FROM = re.compile(rb'^((?:import|export)\s[^"\';]*?from\s*)"(\.[^"\n]+)"', re.MULTILINE)
SCHEME = b"studio:"


def linked(path: str, source: bytes) -> tuple[bytes, list[str]]:
    """A module whose relative imports are written `"studio:PATH"`, and those paths."""
    wanted: list[str] = []

    def absolute(match: re.Match[bytes]) -> bytes:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2].decode()))
        wanted.append(target)
        return match[1] + b'"' + SCHEME + target.encode() + b'"'

    return _FROM.sub(absolute, source), wanted


def in_order(sources: dict[str, bytes], entry: str) -> dict[str, bytes]:
    """The linked modules that `entry` needs, each behind those that it imports.

    Raises:
        StateError: a module that is not there, or two that import each other.
    """
    done: dict[str, bytes] = {}

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in done:
            return
        if path in above or path not in sources:
            chain = " → ".join((*above, path))
            raise StateError(f"studio: {chain}: a module that is missing or imports itself")
        source, wanted = linked(path, sources[path])
        for other in wanted:
            visit(other, (*above, path))
        done[path] = source

    visit(entry, ())
    return done


ENTRY = "boot/run.js"
_BOOT = "boot/single.js"
_BARRED = (0x00, 0x0D, 0x3C)  # NUL, carriage return, `<`: HTML changes them, or reads an end
_BLOCK = 4096  # of each file in turn: two decoders share their weights, and gzip looks 32 kB back


def single_file(parts: Parts) -> bytes:
    """The whole page.

    Raises:
        MissingExtra: onnxruntime-web is not there.
    """
    files = page_files()
    boot, style = files[_BOOT].decode(), files[STYLE].decode()
    if "</script" in boot or "</style" in style:
        raise StateError("studio: a script or style would end the element that it stands in")
    packed = {
        "wasm": files[f"assets/{WASM}"],
        "payload": gzip.compress(_payload(files, parts), 9, mtime=0),
    }
    policy = (
        f"default-src 'none'; script-src '{_digest(boot)}' blob: 'wasm-unsafe-eval'; "
        f"style-src '{_digest(style)}'; img-src blob: data:; base-uri 'none'; form-action 'none'"
    )
    head, foot = files[PAGE].decode().split(SCRIPT_LINE)
    foot = f"{foot}<!--\n{files[LICENCE].decode()}-->\n"
    charset = '<meta charset="utf-8">'
    meta = f'{charset}\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    head = head.replace(charset, meta, 1).replace(STYLE_LINE, f"<style>{style}</style>", 1)
    if meta not in head or style not in head:
        raise StateError(f"studio: {PAGE} has lost a line that a single file needs")
    return b"".join(
        (
            head.encode(),
            *(_element(name, raw) for name, raw in packed.items()),
            f'<script type="module">{boot}</script>'.encode(),
            foot.encode(),
        )
    )


def seven_bits(raw: bytes) -> bytes:
    """Bytes as UTF-8 text that stands in a `<script>` unchanged: 8 characters for 7 bytes.

    Each character holds seven bits. A barred one and its successor become one of two bytes, U+0080
    and up: which it was, and the successor's bits.
    """
    bits = np.unpackbits(np.frombuffer(raw, np.uint8))
    padding = -len(bits) % 7 + 7  # a whole group of ones behind the end: no barred one is the last
    groups = np.pad(bits, (0, padding), constant_values=1).reshape(-1, 7)
    text = np.packbits(groups, axis=1)[:, 0] >> 1
    taken = -1
    for i in np.flatnonzero(np.isin(text, _BARRED)).tolist():
        if i > taken:
            code = (1 + _BARRED.index(text[i])) << 7 | int(text[i + 1])
            text[i], text[i + 1], taken = 0xC0 | code >> 6, 0x80 | code & 0x3F, i + 1
    return text.tobytes()


def _element(name: str, raw: bytes) -> bytes:
    """Bytes in a `<script>` that no browser runs."""
    head = f'<script type="text/plain" id="{name}" data-size="{len(raw)}">'
    return head.encode() + seven_bits(raw) + b"</script>\n"


def _payload(files: dict[str, bytes], parts: Parts) -> bytes:
    """A line of JSON that names all files, the files, and the bundle's cut in blocks in turn."""
    modules = in_order(files, ENTRY)
    plain = modules | {"points.npz": parts.points_file()}
    bundle = parts.bundle.read_all()
    head = {
        "name": parts.name,
        "modules": list(modules),
        "files": [[name, len(raw)] for name, raw in plain.items()],
        "bundle": [[name, len(raw)] for name, raw in bundle.items()],
        "block": _BLOCK,
    }
    longest = max(map(len, bundle.values()))
    blocks = [
        raw[start : start + _BLOCK]
        for start in range(0, longest, _BLOCK)
        for raw in bundle.values()
    ]
    return b"".join((json.dumps(head).encode(), b"\n", *plain.values(), *blocks))


def _digest(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


LIMIT = 1000  # images: enough to see where each class lies


def encode_points(bundle: Bundle, data: Dataset, limit: int = LIMIT) -> Points:
    """The mean latents f32[n, D] of at most `limit` images, spread evenly over the data; its labels.

    An encoder that takes labels gets them where the data's classes are the bundle's.

    Raises:
        InputError: images of another shape than the bundle's.
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
