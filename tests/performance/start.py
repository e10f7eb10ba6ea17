"""Time `vae-run sample --digit 3 -o x.png` as a process and compare it with bare scripts.

    python -m tests.performance.start [--bundle BUNDLE] [--repeat 40]

Three programs take turns: ours; the shortest script with NumPy, onnxruntime and Pillow that runs
the same graph on the same latents and saves the same PNG; and its equivalent in torch, if it is
installed. Prints the medians and their ratio to the bare script.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.performance.timing import Row, Table, Times

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
    """Measure cold starts, the import and --help for the table of all benchmarks."""
    repeat = 3 if table.quick else 40
    with tempfile.TemporaryDirectory() as name:
        times = measure(prepare("mnist", sys.executable, Path(name)), repeat)
        found = {key: Times.of(seconds) for key, seconds in times.items()}
        ours = found["vae-run"]
        for key, better, target in (("bare", "cost", 1.25), ("torch", "faster", 6.0)):
            if key in found:
                ratio = ours.median / found[key].median
                ratio = ratio if better == "cost" else 1 / ratio
                work = "vae-run sample --digit 3 -o x.png, from cold"
                row = Row(work, f"{key} script", ratio, better, target, ours, found[key])
                table.add(row)
        for work, mine, other, theirs, target in (
            ("import vae_runtime", [sys.executable, "-c", "import vae_runtime"],
             "import numpy", [sys.executable, "-c", "import numpy"], 1.1),
            ("vae-run --help", [str(Path(sys.executable).parent / "vae-run"), "--help"],
             "an empty click program", [sys.executable, "-c", EMPTY, "--help"], 1.3),
        ):  # fmt: skip
            pair = measure({"mine": mine, "theirs": theirs}, repeat)
            one, two = Times.of(pair["mine"]), Times.of(pair["theirs"])
            table.add(Row(work, other, one.median / two.median, "cost", target, one, two))


def main() -> None:
    """Measure a bundle and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="mnist", help="a CVAE; by default the embedded one")
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--torch", default=sys.executable, help="a Python interpreter with torch")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = prepare(chosen.bundle, chosen.torch, folder)
        times = measure(commands, chosen.repeat)
        ours, bare = ((folder / f"{key}.png").read_bytes() for key in ("vae-run", "bare"))
        print(f"identical PNG files: {ours == bare}")
    floor = statistics.median(times["bare"])
    print(
        f"{'program':<10} {'median s':>9} {'fastest s':>10} {'ratio':>8}   ({chosen.repeat} runs)"
    )
    for key, found in times.items():
        median = statistics.median(found)
        print(f"{key:<10} {median:>9.3f} {min(found):>10.3f} {median / floor:>8.2f}")


def prepare(source: str, torch: str, folder: Path) -> dict[str, list[str]]:
    """Write the files of the bare scripts and return the commands that run without an error."""
    import numpy as np

    from vae_runtime.bundle.reader import open_bundle

    bundle = open_bundle(source)
    spec = bundle.manifest.graph("conditional_decoder")
    if spec is None:
        sys.exit(f"{source}: a conditional model is needed")
    (folder / "graph.onnx").write_bytes(bundle.read(spec.file))
    (folder / "manifest.json").write_bytes(bundle.manifest.to_bytes())
    np.save(folder / "z.npy", bundle.manifest.spec.prior.sample(1, 3, seed=0))
    (folder / "bare.py").write_text(BARE)
    (folder / "with_torch.py").write_text(TORCH)
    graph, manifest, z = (str(folder / n) for n in ("graph.onnx", "manifest.json", "z.npy"))
    program = str(Path(sys.executable).parent / "vae-run")
    commands = {
        "vae-run": [program, "sample", "-b", source, "--digit", "3", "--seed", "0", "-o"],
        "bare": [sys.executable, str(folder / "bare.py"), graph, z],
        "torch": [torch, str(folder / "with_torch.py"), manifest, z],
    }
    if source == "mnist":
        commands["vae-run"] = [program, "sample", "--digit", "3", "--seed", "0", "-o"]
    # As after an installation with pip: every module is compiled, whatever the environment says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    commands = {key: [*words, str(folder / f"{key}.png")] for key, words in commands.items()}
    for key in list(commands):
        done = subprocess.run(commands[key], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{key}: skipped: {done.stderr.strip().splitlines()[-1]}")
            del commands[key]
    return commands


def measure(commands: dict[str, list[str]], repeat: int) -> dict[str, list[float]]:
    """Seconds of each run; programs take turns, so that other load affects all alike."""
    times: dict[str, list[float]] = {key: [] for key in commands}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(repeat):
        for key, words in commands.items():
            start = time.perf_counter()
            subprocess.run(words, capture_output=True, check=True, env=environment)
            times[key].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
