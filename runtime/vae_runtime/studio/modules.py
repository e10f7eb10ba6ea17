"""JavaScript modules without a bundler: which imports which, and an order to load them in."""

from __future__ import annotations

import posixpath
import re

from ..errors import StateError

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
