"""Get onnxruntime-web: `python -m vae_runtime.studio.fetch`, or when a wheel is built.

npm installs what `package-lock.json` pins, by its sha512, into a temporary folder; two files of it
are kept. Needs the standard library alone, so that the build of a wheel can run this very file.
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
SCRIPT = "ort.min.mjs"
WASM = "ort-wasm.gz.bin"  # no .gz at its end: servers would unpack it on the way, or not
COMMAND = "python -m vae_runtime.studio.fetch"
_FROM = "node_modules/onnxruntime-web/dist"
_SECONDS = 600


def present(folder: Path = ASSETS) -> bool:
    """Whether onnxruntime-web is there, in the version that `package.json` names."""
    if not all((folder / name).is_file() for name in (SCRIPT, WASM)):
        return False
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    with (folder / SCRIPT).open(encoding="utf-8") as file:
        return f"ONNX Runtime Web v{wanted}\n" in file.read(200)


def fetch(folder: Path = ASSETS) -> None:
    """Install the pinned packages and keep what a page needs in `folder`.

    Raises:
        OSError: no npm, no network, or a package that is not what the lock file says.
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
                command, cwd=temporary, capture_output=True, text=True, timeout=_SECONDS,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise OSError(f"npm ci took over {_SECONDS} seconds") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "npm error" in line]
            raise OSError(f"npm ci failed: {lines[0] if lines else done.returncode}")
        _keep(temporary / _FROM, folder)


def _keep(source: Path, folder: Path) -> None:
    """The script without the address of its map, and the wasm in gzip, the same bytes each time."""
    folder.mkdir(exist_ok=True)
    script = (source / "ort.wasm.bundle.min.mjs").read_text(encoding="utf-8")
    script = re.sub(r"\n//# sourceMappingURL=.*\s*$", "\n", script)
    (folder / SCRIPT).write_text(script, encoding="utf-8")
    raw = (source / "ort-wasm-simd-threaded.wasm").read_bytes()
    (folder / WASM).write_bytes(gzip.compress(raw, 9, mtime=0))


if __name__ == "__main__":
    try:
        if not present():
            fetch()
    except OSError as error:
        sys.exit(f"error: {error}")
    print(f"onnxruntime-web is in {ASSETS}", file=sys.stderr)
