"""Measure what models are used for, and write docs/uses-results.md.

    python -m tests.uses [anomalies features denoising compression] [--data mnist …] [--seeds 0 1 …]

Models are trained with default options; checkpoints are kept in build/uses, so that a run goes on
where it was stopped. Rows of earlier runs are kept in docs/uses-results.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.uses import anomalies, compression, denoising, features
from vae_runtime.datasets import Dataset, load_dataset

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
# Where a copy of a data set may lie; otherwise its name is enough.
COPIES = {
    "mnist": SHARED / "mnist", "cifar10": SHARED / "cifar10",
    "fashion": Path("/usr/share/datasets/fashion-mnist"),
}  # fmt: skip
USES = ("anomalies", "features", "denoising", "compression")
ROWS = {
    "anomalies": anomalies.Row, "features": features.Worth, "denoising": denoising.Denoised,
    "compression": compression.Rate,
}  # fmt: skip
# The tables of one data set; that of the anomalies has all data sets.
TABLES: dict[str, Any] = {
    "features": features.table, "denoising": denoising.table, "compression": compression.table,
}  # fmt: skip


def read(name: str, split: str) -> Dataset:
    """Read a split of a data set, from a copy if there is one."""
    copy = COPIES.get(name)
    return load_dataset(copy if copy is not None and copy.exists() else name, split)


def measure(use: str, name: str, seeds: list[int], work: Path) -> Any:
    """Yield the rows of one use and one data set."""
    if use == "anomalies" and name == "textures":
        return anomalies.textures(seeds, work)
    if use == "anomalies":
        return anomalies.one_class(name, read(name, "train"), read(name, "test"), seeds, work)
    if use == "features":
        return features.worth(name, read(name, "train"), read(name, "test"), seeds, work)
    if use == "denoising":
        return denoising.denoise(name, read(name, "train"), read(name, "test"), seeds, work)
    return compression.rates(name, read(name, "test"), name)


def page(rows: dict[str, list[Any]], date: str) -> str:
    """Render the results as a page."""
    parts = [
        "# Results of the uses",
        f"Written by `python -m tests.uses` on {date}, with Python {platform.python_version()}, "
        f"torch {torch.__version__} and NumPy {np.__version__}. [Uses](uses.md) explains the "
        "columns.",
    ]
    for use, own in rows.items():
        if not own:
            continue
        parts.append(f"## {use.capitalize()}")
        if use == "anomalies":
            parts.append(anomalies.table(own))
            continue
        for name in dict.fromkeys(row.data for row in own):
            parts.append(TABLES[use]([row for row in own if row.data == name]))
    return "\n\n".join(parts) + "\n"


def key(row: Any) -> tuple[Any, ...]:
    """Return what identifies a row: its fields that are no measured floats."""
    fields = asdict(row)
    names = ("data", "normal", "seed", "features", "noise", "method", "setting")
    return tuple(fields.get(name) for name in names)


def main() -> None:
    """Measure the chosen uses and data sets, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("uses", nargs="*", default=USES, metavar="USE", help=", ".join(USES))
    parser.add_argument("--data", nargs="*", default=["mnist"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "uses")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "uses-results.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    rows = {use: {key(r): r for r in (ROWS[use](**d) for d in stored.get(use, []))} for use in USES}
    for use in chosen.uses:
        for name in chosen.data:
            for row in measure(use, name, chosen.seeds, chosen.work):
                print(json.dumps(asdict(row)), flush=True)
                rows[use][key(row)] = row
                text = {use: [asdict(one) for one in own.values()] for use, own in rows.items()}
                path.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    lists = {use: list(own.values()) for use, own in rows.items()}
    (chosen.out / "uses-results.md").write_text(page(lists, date))
    draw(chosen.uses, lists["compression"], chosen.work, chosen.out / "pictures")


def draw(uses: list[str], rates: list[compression.Rate], work: Path, folder: Path) -> None:
    """Draw the pictures of docs/uses.md whose models are there."""
    if rates:
        compression.draw(rates, folder / "compression.png")
    if "anomalies" in uses and (work / "textures-0.pt").exists():
        anomalies.draw(work, folder / "heat-maps.png")
    if "denoising" in uses and (work / "denoise-mnist-0.pt").exists():
        denoising.draw("mnist", read("mnist", "test"), work, folder / "denoising.png")


if __name__ == "__main__":
    main()
