"""Size on disk: the wheel, the embedded bundle, installations with and without torch."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vae_runtime
from vae_runtime.studio import fetch

from .timing import Row, Table

_MB = 1e6


def run(table: Table) -> None:
    """Measure all sizes in megabytes."""
    bundle = Path(vae_runtime.__file__).parent / "embedded" / "mnist.zip"
    _size(table, "the embedded bundle", bundle.stat().st_size / _MB, 4)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(__file__).parents[2]
        words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(root)]
        if subprocess.run(words, check=False, capture_output=True).returncode:
            print("wheel: skipped: pip cannot build it here")
        else:
            engine = fetch.present()
            what = "the wheel, with the studio's engine" if engine else "the wheel"
            size = next(Path(folder).glob("*.whl")).stat().st_size / _MB
            _size(table, what, size, 8 if engine else 4)
    # This project adds only its wheel to these packages.
    ours = _installed("onnxruntime", "numpy", "pillow", "click")
    theirs = _installed("torch", "numpy", "pillow")
    largest = sorted(ours.items(), key=lambda item: -item[1])[:4]
    floor = ", ".join(f"{name} {size:.0f}" for name, size in largest)
    less, more = sum(ours.values()), sum(theirs.values())
    table.add(
        Row.of("installed, without torch", "installed, torch", "cost", 1 / 8, less, more, "MB",
               f"{floor} MB; torch built for CPUs; with CUDA it is ten times larger")
    )  # fmt: skip


def _size(table: Table, what: str, megabytes: float, limit: float) -> None:
    table.add(Row.of(what, f"{limit:g} MB", "cost", 1.0, megabytes, limit, "MB"))


def _installed(*roots: str) -> dict[str, float]:
    """Return the megabytes of these distributions and of their dependencies, by name."""
    wanted, sizes = list(roots), dict[str, float]()
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in sizes:
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        needs = (Requirement(text) for text in found.requires or ())
        wanted += [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
        paths = (Path(str(found.locate_file(f))) for f in found.files or () if f.suffix != ".pyc")
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file()) / _MB
    return sizes
