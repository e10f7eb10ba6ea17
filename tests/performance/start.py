"""Time `vae-run sample --digit 3 -o x.png` as a process and compare it with bare scripts.

Three programs take turns: ours; the shortest script with NumPy, onnxruntime and Pillow that runs
the same graph on the same latents and saves the same PNG; and its equivalent in torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vae_runtime.bundle.reader import open_bundle

from .timing import Row, Table, Times

BARE = """
import sys
import numpy, onnxruntime
from PIL import Image
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
z, label = numpy.load(sys.argv[2]), numpy.array([3])
image = session.run(["image"], {"z": z, "label": label})[0]
pixels = numpy.rint(image[0, 0] * 255).astype(numpy.uint8)
Image.fromarray(pixels).save(sys.argv[3])
"""

TORCH = """
import json, sys
import numpy, torch
from PIL import Image
from vae_models import ModelConfig, build
torch.set_num_threads(1)
fields = json.load(open(sys.argv[1]))["training"]["model"]
config = ModelConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
model = build(config).eval()
with torch.no_grad():
    image = model.decode(torch.from_numpy(numpy.load(sys.argv[2])), torch.tensor([3])).numpy()
pixels = numpy.rint(image[0, 0] * 255).astype(numpy.uint8)
Image.fromarray(pixels).save(sys.argv[3])
"""

EMPTY = "import click; click.command()(lambda: None)()"


def run(table: Table) -> None:
    """Measure cold starts, the import and --help."""
    repeat = 3 if table.quick else 40
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = measure(prepare(folder), repeat)
        ours, bare = ((folder / f"{key}.png").read_bytes() for key in ("vae-run", "bare"))
        assert ours == bare
        work = "vae-run sample --digit 3 -o x.png, from cold"
        for key, better, target in (("bare", "cost", 1.25), ("torch", "faster", 6.0)):
            row = Row.of(work, f"{key} script", better, target, found["vae-run"], found[key])
            table.add(row)
        for work, mine, other, theirs, target in (
            ("import vae_runtime", [sys.executable, "-c", "import vae_runtime"],
             "import numpy", [sys.executable, "-c", "import numpy"], 1.1),
            ("vae-run --help", [str(Path(sys.executable).parent / "vae-run"), "--help"],
             "an empty click program", [sys.executable, "-c", EMPTY, "--help"], 1.3),
        ):  # fmt: skip
            pair = measure({"mine": mine, "theirs": theirs}, repeat)
            table.add(Row.of(work, other, "cost", target, pair["mine"], pair["theirs"]))


def prepare(folder: Path) -> dict[str, list[str]]:
    """Write the files of the bare scripts and return the commands, each of which writes a PNG."""
    bundle = open_bundle("mnist")
    spec = bundle.manifest.graph("conditional_decoder")
    assert spec is not None
    (folder / "graph.onnx").write_bytes(bundle.read(spec.file))
    (folder / "manifest.json").write_bytes(bundle.manifest.to_bytes())
    np.save(folder / "z.npy", bundle.manifest.spec.prior.sample(1, 3, seed=0))
    (folder / "bare.py").write_text(BARE)
    (folder / "with_torch.py").write_text(TORCH)
    graph, manifest, z = (str(folder / n) for n in ("graph.onnx", "manifest.json", "z.npy"))
    program = str(Path(sys.executable).parent / "vae-run")
    commands = {
        "vae-run": [program, "sample", "--digit", "3", "--seed", "0", "-o"],
        "bare": [sys.executable, str(folder / "bare.py"), graph, z],
        "torch": [sys.executable, str(folder / "with_torch.py"), manifest, z],
    }
    # Compile every module, as an installation with pip does, whatever the environment says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    commands = {key: [*words, str(folder / f"{key}.png")] for key, words in commands.items()}
    for command in commands.values():
        subprocess.run(command, capture_output=True, check=True)
    return commands


def measure(commands: dict[str, list[str]], repeat: int) -> dict[str, Times]:
    """Time each command; they take turns, so that other load affects all of them."""
    times: dict[str, list[float]] = {key: [] for key in commands}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(repeat):
        for key, words in commands.items():
            start = time.perf_counter()
            subprocess.run(words, capture_output=True, check=True, env=environment)
            times[key].append(time.perf_counter() - start)
    return {key: Times.of(seconds) for key, seconds in times.items()}
