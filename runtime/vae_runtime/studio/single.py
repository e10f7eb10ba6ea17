"""A studio as one `.html` file: opens from a disk, asks no network, and says so in its policy.

onnxruntime's wasm is one gzip stream, the modules and the bundle another, written as text of seven
bits a character: UTF-8 all through, and a seventh smaller than base64 would be.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json

import numpy as np

from ..errors import StateError
from .fetch import WASM
from .modules import in_order
from .parts import LICENCE, PAGE, SCRIPT_LINE, STYLE, STYLE_LINE, Parts, page_files

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
