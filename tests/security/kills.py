"""Kill writers at random times; their files must have the old or the new content.

    python -m tests.security.kills [COUNT] [FOLDER] [light]

A writer is a forked child that writes an artefact again and again, alternating between the old
and the new content, so that any kill interrupts a write.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.security.rechecksum import read_files
from vae_runtime.bundle.manifest import NAME, Manifest
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.cli.options import OutputOptions
from vae_runtime.cli.output import Column, write_images
from vae_runtime.files.atomic import append_line, write_atomic
from vae_runtime.files.npz import read_npy, read_npz
from vae_runtime.images import read_image

DATA = Path(__file__).parents[1] / "data"
MAX_LIFE_S = 0.06  # of a writer


class Artefact(NamedTuple):
    """A kind of output: `write(path, k)` writes version k, `version(path)` returns k."""

    name: str
    write: Callable[[Path, int], object]
    version: Callable[[Path], int]


def artefacts(light: bool = False) -> list[Artefact]:
    """All kinds of output; checkpoints only with torch and without `light`."""
    found = [
        Artefact("bundle", _bundle, _bundle_version),
        Artefact("bundle.zip", _bundle, _bundle_version),
        Artefact("images.png", _images, lambda p: int(read_image(p).max()) // 200),
        Artefact("images.bmp", _images, lambda p: int(read_image(p).max()) // 200),
        Artefact("images.npy", _images, lambda p: _level(read_npy(p.read_bytes(), "npy"))),
        Artefact(
            "images.npz", _images, lambda p: _level(read_npz(p.read_bytes(), "npz")["images"])
        ),
        Artefact("images.csv", _images, _csv_version),
        Artefact("report.html", _text, _text_version),
        Artefact("metrics.jsonl", _line, _line_version),
    ]
    if light or importlib.util.find_spec("torch") is None:
        return found
    return [*found, Artefact("model.pt", _checkpoint, _checkpoint_version)]


_FILES: dict[int, tuple[Manifest, dict[str, bytes]]] = {}


def prepare(kinds: list[Artefact]) -> None:
    """Import and create what all writers need before they are forked."""
    for k, name in enumerate(("cvae_mlp", "ae_conv")):
        files = read_files(DATA / f"{name}.zip")
        _FILES[k] = Manifest.from_bytes(files.pop(NAME), name), files
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            kind.write(Path(folder) / kind.name, 1)
            assert kind.version(Path(folder) / kind.name) == 1


def _bundle(path: Path, k: int) -> None:
    from vae_export.writer import write_bundle

    write_bundle(*_FILES[k], path)


def _bundle_version(path: Path) -> int:
    bundle = open_bundle(path)
    for spec in bundle.manifest.files().values():
        bundle.read(spec)
    return ("cvae", "ae").index(bundle.manifest.spec.family)


def _images(path: Path, k: int) -> None:
    whole = np.full((64, 1, 28, 28), k, np.float32)
    write_images(Column.of(whole), OutputOptions(out=str(path), scale=1))


def _level(array: Any) -> int:
    assert array.shape == (64, 1, 28, 28)
    return _one(set(np.unique(array).tolist()))


def _csv_version(path: Path) -> int:
    lines = path.read_text().split("\n")
    assert len(lines) == 65
    return _one({float(cell) / 255 for line in lines[:-1] for cell in line.split(",")})


def _one(values: set[float]) -> int:
    assert len(values) == 1, "old and new mixed"
    return int(values.pop())


def _text(path: Path, k: int) -> None:
    write_atomic(path, str(k).encode() * 200_000)


def _text_version(path: Path) -> int:
    raw = path.read_bytes()
    assert len(raw) == 200_000
    return _one({float(chr(byte)) for byte in set(raw)})


def _line(path: Path, k: int) -> None:
    append_line(path, json.dumps({"version": k, "text": "x" * 20_000}).encode())


def _line_version(path: Path) -> int:
    """Return the version in the last complete line; at most an incomplete line may follow."""
    lines = path.read_bytes().split(b"\n")
    records = [json.loads(line) for line in lines[:-1]]
    if len(records) > 500:
        path.unlink()
    return int(records[-1]["version"])


def _checkpoint(path: Path, k: int) -> None:
    import torch

    from vae_models import build, preset
    from vae_runtime.prior import Prior
    from vae_train import TrainConfig
    from vae_train.checkpoint import Checkpoint, save_checkpoint

    model = preset("reference", "ae", (1, 8, 8))
    torch.manual_seed(k)
    prior = Prior.normal(model.latent_dim)
    examples = torch.zeros((4, 1, 8, 8), dtype=torch.uint8)
    state = build(model).state_dict()
    save_checkpoint(
        Checkpoint(model, state, TrainConfig(), prior, examples, metadata={"version": k}), path
    )


def _checkpoint_version(path: Path) -> int:
    from vae_train import load_checkpoint

    return int(load_checkpoint(path).metadata["version"])


def kill(artefact: Artefact, path: Path, seconds: float) -> None:
    """Start a writer and kill it `seconds` after its first write."""
    reader, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(ready, b"x")
            for turn in range(1_000_000):
                artefact.write(path, turn % 2)
        finally:
            os._exit(1)
    os.close(ready)
    os.read(reader, 1)
    os.close(reader)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{artefact.name}: the writer failed by itself"


def in_child(work: Callable[[], object]) -> None:
    """Run a function in a new process, like the next command."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def temporary_files(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def hunt(count: int, folder: Path, kinds: list[Artefact]) -> Counter[str]:
    """Kill `count` writers of all kinds in turn and return the totals."""
    chance, tally = random.Random(0), Counter[str]()
    prepare(kinds)
    for kind in kinds:
        in_child(lambda kind=kind: kind.write(folder / kind.name, 0))  # type: ignore[misc]
    for index in range(count):
        kind = kinds[index % len(kinds)]
        kill(kind, folder / kind.name, chance.uniform(0, MAX_LIFE_S))
        version = kind.version(folder / kind.name)
        tally[f"version {version}"] += 1
        tally["left something"] += bool(temporary_files(folder))
        assert len(temporary_files(folder)) <= 1, "each writer removes what the one before left"
        if not (folder / kind.name).exists():
            in_child(lambda kind=kind: kind.write(folder / kind.name, 0))  # type: ignore[misc]
    for kind in kinds:
        in_child(lambda kind=kind: kind.write(folder / kind.name, 1))  # type: ignore[misc]
        assert kind.version(folder / kind.name) == 1
    assert not temporary_files(folder), "the next writer removes it"
    assert sorted(p.name for p in folder.iterdir()) == sorted(kind.name for kind in kinds)
    print(f"\n{count} kills over {len(kinds)} kinds of artefact: {dict(tally)}")
    return tally


def hunt_images(count: int, folder: Path) -> None:
    """Kill `count` writers of one PNG per image; each file must be complete, old or new."""
    folder.mkdir()
    pictures = Artefact("pictures", _images, lambda p: int(read_image(p).max()) // 200)
    chance, tally = random.Random(1), Counter[int]()
    for _ in range(count):
        kill(pictures, folder, chance.uniform(0, MAX_LIFE_S))
        tally.update(pictures.version(path) for path in folder.glob("*.png"))
        assert len(temporary_files(folder)) <= 1, "each writer removes what the one before left"
    in_child(lambda: _images(folder, 1))
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:03}.png" for i in range(64)]
    print(f"{count} kills among images, whole each time: {dict(tally)}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        began = time.perf_counter()
        hunt(count, Path(folder), artefacts(light=len(sys.argv) > 3))
        hunt_images(count // 4, Path(folder) / "pictures")
        print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
