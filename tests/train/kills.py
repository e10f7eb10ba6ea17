"""Kill `vae-train` at random moments, resume it, and compare with an uninterrupted run.

    python tests/train/kills.py --kills 100        # prints one line per run, and the totals

Each run is a process of its own and dies by SIGKILL. It is forked after the imports, which take
longer than the training.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

# Options with a state to save: label dropout, noise, averages, best weights, warm-up.
RECIPE = [
    *("cvae", "--data", "digits", "--backbone", "mlp", "--hidden", "24", "--latent-dim", "4"),
    *("--epochs", "12", "--batch-size", "64", "--components", "1", "--quiet", "--save-every", "0"),
    *("--validation", "0.1", "--patience", "11", "--ema", "0.9", "--kl-warmup", "2"),
    *("--noise", "0.1", "--binarise", "--precision", "float32", "--no-report"),
]


def start(out: Path, log: Path) -> multiprocessing.Process:
    """Start a process that runs `vae-train … --resume` and prints to `log`."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(out, log))
    process.start()
    return process  # type: ignore[return-value]


def _train(out: Path, log: Path) -> None:
    from vae_train.cli import main

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["vae-train", *RECIPE, "--out", str(out), "--resume"]
    main()


def uninterrupted(out: Path, log: Path) -> float:
    """Write a checkpoint without interruption; return the seconds it took."""
    began = time.monotonic()
    process = start(out, log)
    process.join()
    _check(process, log)
    return time.monotonic() - began


def killed(out: Path, log: Path, max_kills: int, seconds: float, rng: random.Random) -> int:
    """Write a checkpoint, killing up to `max_kills` processes within `seconds` of their start.

    A kill may hit the start, a step, a save, the fit of the prior or the writing of the checkpoint.
    Returns the number of kills.
    """
    hits = 0
    while True:
        process = start(out, log)
        process.join(rng.uniform(0, seconds) if hits < max_kills else None)
        if not process.is_alive():
            _check(process, log)
            return hits
        process.kill()
        process.join()
        hits += 1


def _check(process: multiprocessing.Process, log: Path) -> None:
    if process.exitcode:
        raise SystemExit(f"exit code {process.exitcode} without a kill: {log.read_text()}")


def epochs(out: Path) -> list[int]:
    """Read the epochs from the metrics file of a checkpoint."""
    lines = (out.with_suffix(".run") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def digest(path: Path) -> str:
    """Compute the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run until `--kills` processes were killed; exit with 1 if any result differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--each", type=int, default=10, help="kills of one run, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Import here what each process would otherwise import after its start.
    import sklearn.datasets
    import sklearn.mixture  # noqa: F401

    import vae_train.command  # noqa: F401

    rng = random.Random(options.seed)
    hits = wrong = runs = 0
    with tempfile.TemporaryDirectory() as name:
        log, out = Path(name) / "log", Path(name) / "model.pt"
        seconds = uninterrupted(out, log)
        expected = digest(out)
        print(f"uninterrupted run: {seconds:.1f} s, sha256 {expected[:16]}", flush=True)
        while hits < options.kills:
            out_of = min(options.each, options.kills - hits)
            # The checkpoint records the file name, so it must be the same for all runs.
            out = Path(name) / str(runs) / "model.pt"
            out.parent.mkdir()
            hit = killed(out, log, out_of, seconds / 2, rng)
            same = digest(out) == expected and epochs(out) == epochs(Path(name) / "model.pt")
            print(f"run {runs}: {hit} kills, {'same' if same else 'DIFFERENT'}", flush=True)
            hits, wrong, runs = hits + hit, wrong + (not same), runs + 1
    print(f"{hits} kills in {runs} runs: {wrong} checkpoints or metrics differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
