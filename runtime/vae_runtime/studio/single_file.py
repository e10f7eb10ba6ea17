"""Build a bundle's page as one HTML file that works offline when opened from disk.

The file contains the modules, the bundle and the wasm; `boot/single.js` unpacks them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import posixpath
import re

import numpy as np

from ..errors import StateError
from .build import (
    LICENCE,
    PAGE,
    PICTURES,
    STYLE,
    PageContent,
    first_pictures,
    page_files,
    with_policy,
)
from .fetch import WASM

# The two lines of the page that the style and the scripts replace.
_STYLE_LINE = f'<link rel="stylesheet" href="{STYLE}">'
_SCRIPT_LINE = '<script type="module" src="boot/folder.js"></script>'
_ENTRY = "boot/run.js"
_BOOT = "boot/single.js"
# `import … from "./x.js"` and `export … from "./x.js"`, at the beginning of a line.
_FROM = re.compile(rb'^((?:import|export)\s[^"\';]*?from\s*)"(\.[^"\n]+)"', re.MULTILINE)
_SCHEME = b"studio:"  # marks the paths of modules inside the file
_RESERVED = (0x00, 0x0D, 0x3C)  # NUL, carriage return, `<`: HTML changes them or starts a tag
# The bundle's files are interleaved in blocks of this size: two decoders share weights, and gzip
# finds repetitions only within 32 kB.
_BLOCK = 4096


def single_file(content: PageContent) -> bytes:
    """Build the page as a single file.

    Raises:
        MissingExtra: the packages were not fetched.
    """
    files = page_files()
    boot, style = files[_BOOT].decode(), files[STYLE].decode()
    if "</script" in boot or "</style" in style:
        raise StateError("studio: the script or the style contains its own closing tag")
    policy = (
        f"default-src 'none'; script-src '{_checksum(boot)}' blob: 'wasm-unsafe-eval'; "
        f"style-src '{_checksum(style)}'; img-src blob: data:; base-uri 'none'; form-action 'none'"
    )
    head, foot = files[PAGE].decode().split(_SCRIPT_LINE)
    head = head.replace(PICTURES, first_pictures(content.bundle), 1)
    head = with_policy(head, policy).replace(_STYLE_LINE, f"<style>{style}</style>", 1)
    if policy not in head or style not in head:
        raise StateError(f"studio: {PAGE} lacks a line that a single file needs")
    wasm = _element("wasm", files[f"assets/{WASM}"])
    payload = _element("payload", gzip.compress(_payload(files, content), 9, mtime=0))
    script = f'<script type="module">{boot}</script>'
    foot = f"{foot}<!--\n{files[LICENCE].decode()}-->\n"
    return b"".join((head.encode(), wasm, payload, script.encode(), foot.encode()))


def link_modules(sources: dict[str, bytes], entry: str) -> dict[str, bytes]:
    """Return the modules that `entry` needs; each comes after the modules that it imports.

    Their imports become `"studio:PATH"`, which the page's script replaces.

    Raises:
        StateError: a module is missing, or modules import each other in a cycle.
    """
    done: dict[str, bytes] = {}

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in done:
            return
        if path in above or path not in sources:
            chain = " → ".join((*above, path))
            raise StateError(f"studio: {chain}: the last module is missing or imports itself")
        source, imported = _link(path, sources[path])
        for other in imported:
            visit(other, (*above, path))
        done[path] = source

    visit(entry, ())
    return done


def _link(path: str, source: bytes) -> tuple[bytes, list[str]]:
    """Rewrite a module's relative imports as `"studio:PATH"`; return the module and the paths."""
    imported: list[str] = []

    def absolute(match: re.Match[bytes]) -> bytes:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2].decode()))
        imported.append(target)
        return match[1] + b'"' + _SCHEME + target.encode() + b'"'

    return _FROM.sub(absolute, source), imported


def seven_bits(raw: bytes) -> bytes:
    """Encode bytes as UTF-8 text that HTML parsers leave unchanged: 8 characters for 7 bytes.

    Each character holds seven bits. A reserved character and its successor become one two-byte
    character (U+0080 or above): it encodes which one was reserved, and the successor's bits.
    """
    bits = np.unpackbits(np.frombuffer(raw, np.uint8))
    padding = -len(bits) % 7 + 7  # adds a whole group of ones, so a reserved one is never last
    groups = np.pad(bits, (0, padding), constant_values=1).reshape(-1, 7)
    text = np.packbits(groups, axis=1)[:, 0] >> 1
    taken = -1
    for i in np.flatnonzero(np.isin(text, _RESERVED)).tolist():
        if i > taken:
            code = (1 + _RESERVED.index(text[i])) << 7 | int(text[i + 1])
            text[i], text[i + 1], taken = 0xC0 | code >> 6, 0x80 | code & 0x3F, i + 1
    return text.tobytes()


def _element(name: str, raw: bytes) -> bytes:
    """Put bytes into a `<script>` element that no browser runs."""
    head = f'<script type="text/plain" id="{name}" data-size="{len(raw)}">'
    return head.encode() + seven_bits(raw) + b"</script>\n"


def _payload(files: dict[str, bytes], content: PageContent) -> bytes:
    """Join a line of JSON (names and lengths), the files and the interleaved bundle."""
    modules = link_modules(files, _ENTRY)
    plain = modules | {"points.npz": content.points.to_npz()}
    bundle = content.bundle.read_all()
    head = {
        "name": content.name,
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


def _checksum(text: str) -> str:
    """Return the sha256 of an inline script or style, formatted for a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
