"""Kill `vae-train` at random moments, resume it, and compare with an uninterrupted run.

    python tests/train/kills.py --kills 100        # prints one line per run, and the totals

Half of the kills hit runs that have no checkpoint yet. The other half hit commands that are started
where there is a finished checkpoint: it must stay, or be replaced as a whole where `--force` says
so.

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


def start(out: Path, log: Path, *options: str) -> multiprocessing.Process:
    """Start a process that runs `vae-train` with `RECIPE` and prints to `log`."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(out, log, options))
    process.start()
    return process  # type: ignore[return-value]


def _train(out: Path, log: Path, options: tuple[str, ...]) -> None:
    from vae_train.cli import main

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["vae-train", *RECIPE, "--out", str(out), *options]
    main()


def uninterrupted(out: Path, log: Path) -> float:
    """Write a checkpoint without interruption; return the seconds it took."""
    began = time.monotonic()
    process = start(out, log, "--resume")
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
        process = start(out, log, "--resume")
        process.join(rng.uniform(0, seconds) if hits < max_kills else None)
        if not process.is_alive():
            _check(process, log)
            return hits
        process.kill()
        process.join()
        hits += 1


# Commands on a finished run; those with `--force` may replace its checkpoint.
COMMANDS: tuple[tuple[str, ...], ...] = (
    (),
    ("--resume",),
    ("--resume", "--seed", "1"),
    ("--force",),
    ("--force", "--seed", "1"),
)


def disturbed(out: Path, log: Path, kills: int, seconds: float, rng: random.Random) -> list[str]:
    """Kill commands on a finished run at random moments.

    After each, the checkpoint must be unchanged. Once `--force` has started a run, the checkpoint
    may also be the other complete one, that of seed 0 or 1.

    Returns:
        A description of each violation.
    """
    old, lost = digest(out), []
    other = out.with_name("other") / out.name
    other.parent.mkdir()
    run = start(other, log, "--seed", "1")
    run.join()
    _check(run, log)
    allowed = {old, digest(other)}
    for _ in range(kills):
        options = rng.choice(COMMANDS)
        before = digest(out)
        replaced = "--force" in options or (out.with_suffix(".run") / "state.pt").exists()
        process = start(out, log, *options)
        process.join(rng.uniform(0, seconds))
        process.kill()
        process.join()
        found = digest(out) if out.exists() else "none"
        if found not in (allowed if replaced else {before}):
            lost.append(f"{' '.join(options)}: {before[:8]} became {found[:8]}")
    return lost


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

    import vae_train.training  # noqa: F401

    rng = random.Random(options.seed)
    hits = wrong = runs = 0
    with tempfile.TemporaryDirectory() as name:
        log, out = Path(name) / "log", Path(name) / "model.pt"
        seconds = uninterrupted(out, log)
        expected = digest(out)
        print(f"uninterrupted run: {seconds:.1f} s, sha256 {expected[:16]}", flush=True)
        while hits < options.kills // 2:
            out_of = min(options.each, options.kills // 2 - hits)
            again = Path(name) / f"{runs}.pt"
            hit = killed(again, log, out_of, seconds / 2, rng)
            same = digest(again) == expected and epochs(again) == epochs(out)
            print(f"run {runs}: {hit} kills, {'same' if same else 'DIFFERENT'}", flush=True)
            hits, wrong, runs = hits + hit, wrong + (not same), runs + 1
        rest = options.kills - hits
        lost = disturbed(out, log, rest, 1.2 * seconds, rng)
    print("\n".join(lost))
    print(f"{hits} kills in {runs} runs: {wrong} checkpoints or metrics differ")
    print(f"{rest} kills of commands on a finished run: {len(lost)} models lost")
    sys.exit(wrong > 0 or bool(lost))


if __name__ == "__main__":
    main()
