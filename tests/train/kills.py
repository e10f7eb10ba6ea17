"""Kill `vae-train` at random moments, resume it, and compare with a run that nobody disturbed.

    python tests/train/kills.py --kills 100        # prints one line a run, and the totals

Every process is a real one and dies by SIGKILL.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Everything that has a state of its own: label dropout, noise, averages, best weights, warm-up.
RECIPE = [
    *("cvae", "--data", "digits", "--backbone", "mlp", "--hidden", "24", "--latent-dim", "4"),
    *(
        "--epochs",
        "12",
        "--batch-size",
        "64",
        "--components",
        "1",
        "--quiet",
        "--save-every",
        "0.2",
    ),
    *("--validation", "0.1", "--patience", "11", "--ema", "0.9", "--kl-warmup", "2"),
    *("--noise", "0.1", "--binarise", "--precision", "float32"),
]


def command(out: Path, *more: str) -> list[str]:
    """`vae-train` as this interpreter runs it."""
    return [sys.executable, "-m", "vae_train", *RECIPE, "--out", str(out), *more]


def whole(folder: Path) -> tuple[str, float]:
    """The digest of a checkpoint that nobody disturbed, and the seconds it took."""
    out = folder / "whole" / "model.pt"
    out.parent.mkdir()
    start = time.monotonic()
    subprocess.run(command(out), check=True, capture_output=True)
    return digest(out), time.monotonic() - start


def killed(folder: Path, kills: int, seconds: float, seed: int) -> tuple[str, int]:
    """The digest of one that was killed up to `kills` times, and how many kills hit a live process.

    A kill falls anywhere in the time that a whole run takes, so also while it starts, saves, fits
    the prior or writes the checkpoint.
    """
    rng = random.Random(seed)
    out = folder / f"killed{seed}" / "model.pt"
    out.parent.mkdir()
    hits = 0
    while hits < kills:
        process = subprocess.Popen(
            command(out, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, errors = process.communicate(timeout=rng.uniform(0.3, 1) * seconds)
            if process.returncode:
                raise SystemExit(f"failed without a kill: {errors.decode()}")
            return digest(out), hits
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            hits += 1
    subprocess.run(command(out, "--resume"), check=True, capture_output=True)
    return digest(out), hits


def epochs(folder: Path, seed: int) -> list[int]:
    """The epochs in the metrics of a killed run."""
    lines = (folder / f"killed{seed}" / "model.run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def digest(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run until so many kills have hit; exit with 1 if any checkpoint differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected, seconds = whole(folder)
        print(f"whole run: {seconds:.1f} s, sha256 {expected[:16]}", flush=True)
        hits = wrong = runs = 0
        while hits < options.kills:
            found, hit = killed(folder, 10, seconds, options.seed + runs)
            same = found == expected and epochs(folder, options.seed + runs) == list(range(1, 13))
            print(f"run {runs}: {hit} kills, {'same' if same else 'DIFFERENT'}", flush=True)
            hits, wrong, runs = hits + hit, wrong + (not same), runs + 1
        print(f"{hits} kills in {runs} runs: {wrong} checkpoints or metrics differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
