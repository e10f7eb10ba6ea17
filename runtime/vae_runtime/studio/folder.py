"""A studio as a folder of static files, for any web server."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..files import write_atomic
from .parts import PAGE, Parts, page_files

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
