"""Fetch the page's packages: with `python -m vae_runtime.studio.fetch`, or when a wheel is built.

npm installs the packages, pinned by sha512 in `package-lock.json`, into a temporary folder; three
of their files are kept. This module needs only the standard library, so that a wheel build can run
it.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ASSETS = HERE / "assets"
ORT = "ort.min.mjs"
WASM = "ort-wasm.gz.bin"  # does not end in .gz because some servers would unpack it
GIF = "gifenc.js"
COMMAND = "python -m vae_runtime.studio.fetch"
_TIMEOUT = 600  # seconds
# The first lines of each script contain this text with the version of its package.
_VERSIONS = {ORT: ("onnxruntime-web", "ONNX Runtime Web v{}\n"), GIF: ("gifenc", "gifenc v{}\n")}


def present(folder: Path = ASSETS) -> bool:
    """Return whether the files are present in the versions that `package.json` specifies."""
    versions = json.loads((HERE / "package.json").read_text())["dependencies"]
    for name, (package, text) in _VERSIONS.items():
        path = folder / name
        if not path.is_file():
            return False
        with path.open(encoding="utf-8") as file:
            if text.format(versions[package]) not in file.read(200):
                return False
    return (folder / WASM).is_file()


def fetch(folder: Path = ASSETS) -> None:
    """Install the pinned packages and copy the files that a page needs to `folder`.

    Raises:
        OSError: npm or the network is missing, or a package differs from the lock file.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise OSError(f"npm is not installed. Install Node.js 20 or newer, then run: {COMMAND}")
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        for part in ("package.json", "package-lock.json"):
            shutil.copy(HERE / part, temporary / part)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                command, cwd=temporary, capture_output=True, text=True, timeout=_TIMEOUT,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise OSError(f"npm ci took over {_TIMEOUT} seconds") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "npm error" in line]
            raise OSError(f"npm ci failed: {lines[0] if lines else done.returncode}")
        _keep(temporary / "node_modules", folder)


def _keep(packages: Path, folder: Path) -> None:
    """Copy two scripts, without their references to source maps, and the compressed wasm."""
    folder.mkdir(exist_ok=True)
    ort = packages / "onnxruntime-web" / "dist"
    (folder / ORT).write_text(_script(ort / "ort.wasm.bundle.min.mjs"), encoding="utf-8")
    raw = (ort / "ort-wasm-simd-threaded.wasm").read_bytes()
    (folder / WASM).write_bytes(gzip.compress(raw, 9, mtime=0))  # no date: reproducible
    gif = packages / "gifenc"
    version = json.loads((gif / "package.json").read_text())["version"]
    script = f"// gifenc v{version}\n{_script(gif / 'dist' / 'gifenc.esm.js')}"
    (folder / GIF).write_text(script, encoding="utf-8")


def _script(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return re.sub(r"\n//# sourceMappingURL=.*\s*$", "\n", text)


if __name__ == "__main__":
    try:
        if not present():
            fetch()
    except OSError as error:
        sys.exit(f"error: {error}")
    print(f"onnxruntime-web and gifenc are in {ASSETS}", file=sys.stderr)
