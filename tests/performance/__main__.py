"""Measure speed and size and compare them with torch, bare onnxruntime and other baselines.

    python -m tests.performance [--only decode,pictures] [--quick] [--out docs]

Prints each row as soon as it is measured. With --out, writes performance-results.md,
performance.json and the plots after each part, so an interrupted run keeps its results. With
--only, the folder keeps the rows of the other parts. Needs the train and dev extras and an idle
machine, and takes about ten minutes without --quick. OMP_NUM_THREADS defaults to 1.
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

PARTS = ("start", "decode", "pictures", "scoring", "disk", "training", "bulk", "growth")


def main() -> None:
    """Measure the chosen parts and write the results."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # before NumPy is imported
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="comma-separated parts: " + ", ".join(PARTS))
    parser.add_argument(
        "--quick", action="store_true", help="run only a few rounds, to check that it works"
    )
    parser.add_argument("--out", type=Path, help="folder for the table, the JSON and the plots")
    chosen = parser.parse_args()
    parts = chosen.only.split(",") if chosen.only else list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}, expected some of {', '.join(PARTS)}")

    import torch

    from .results import read, write
    from .timing import Table

    torch.set_num_threads(1)
    table = Table(chosen.quick, read(chosen.out) if chosen.out and chosen.only else [])
    for part in parts:
        table.begin(part)
        import_module(f".{part}", __package__).run(table)
        table.rows.sort(key=lambda row: PARTS.index(row.part))
        if chosen.out:
            write(table, chosen.out)


if __name__ == "__main__":
    main()
