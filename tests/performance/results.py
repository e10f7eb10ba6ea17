"""Write the table of results as Markdown, JSON and plots."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vae_runtime.inference.session import onnxruntime

from .timing import Row, Table, Times, rounded

NAME = "performance.json"
HEAD = ("work", "compared with", "ours", "other", "ratio", "target", "")


def write(table: Table, folder: Path) -> None:
    """Write performance-results.md, performance.json and both plots in pictures/."""
    folder.mkdir(parents=True, exist_ok=True)
    measured_on = machine()
    (folder / "performance-results.md").write_text(markdown(measured_on, table.rows))
    data = {"machine": measured_on, "rows": [asdict(row) | {"met": row.met} for row in table.rows]}
    (folder / NAME).write_text(json.dumps(data, indent=1) + "\n")
    plot(table.rows, folder / "pictures")


def markdown(measured_on: dict[str, Any], rows: list[Row]) -> str:
    """Render the results page."""
    return "\n".join([
        "# Performance, measured", "",
        "Written by `python -m tests.performance --out docs`; [performance.md](performance.md) "
        "explains the numbers.", "",
        "{date}, {cpu}, {cores} cores, one thread unless stated otherwise; Python {python}, NumPy "
        "{numpy}, onnxruntime {onnxruntime}, torch {torch}.".format(**measured_on), "",
        "Medians, with the quartiles in brackets. *faster* is the other's time over ours, *cost* "
        "ours over the other's. Times of decoding, PNG files, IWAE and training are per latent "
        "vector, file, digit or image. Unless convolutions are named, the decoder is that of the "
        "reference CVAE (8 → 256 → 784). Parts may have been measured in separate runs.", "",
        *table_lines(rows), "",
    ])  # fmt: skip


def read(folder: Path) -> list[Row]:
    """Read the rows that an earlier run wrote to a folder, if any."""
    path = folder / NAME
    found = json.loads(path.read_text())["rows"] if path.exists() else []
    for values in found:
        del values["met"]
        for side in ("ours", "against"):
            if isinstance(values[side], dict):
                values[side] = Times(**values[side])
    return [Row(**values) for values in found]


def machine() -> dict[str, Any]:
    """Describe the processor and the versions that were used."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime().__version__,
        "torch": str(torch.__version__),
    }


def table_lines(rows: list[Row]) -> list[str]:
    """Render the Markdown table, one line per row."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in rows:
        sign = "≥" if row.better == "faster" else "≤"
        target = "" if row.target is None else f"{sign} {row.target:.3g}"
        verdict = {None: "", True: "met", False: "**missed**"}[row.met]
        growth = row.work.startswith("growth")
        cells = (row.comment, "") if growth else (_text(row.ours, row), _text(row.against, row))
        ratio = f"slope {row.ratio:.2f}" if growth else f"{row.ratio:.2f} {row.better}"
        lines.append((row.work, row.other, *cells, ratio, target, verdict))
    return ["| " + " | ".join(line) + " |" for line in lines]


def plot(rows: list[Row], folder: Path) -> None:
    """Plot how many times as fast each row is, and the growth on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(exist_ok=True)
    speeds = {
        f"{row.work}\ncompared with {row.other}": row.against.median / row.ours.median
        for row in rows
        if isinstance(row.ours, Times) and isinstance(row.against, Times)
    }
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(speeds) + 1), layout="constrained")
    colours = ["#2a7f62" if speed >= 1 else "#999999" for speed in speeds.values()]
    bars = axes.barh(list(speeds), list(speeds.values()), color=colours)
    axes.bar_label(bars, [f" {speed:.2g}×" for speed in speeds.values()], fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(ticks := [0.5, 1, 2, 4, 8], [f"{tick}×" for tick in ticks])
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(right=1.25 * max([1.0, *speeds.values()]))
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("times as fast; grey: slower than a bare lower bound")
    figure.savefig(folder / "performance.png", dpi=110)
    plt.close(figure)
    _plot_growth([r for r in rows if r.work.startswith("growth")], folder / "growth.png")


def _plot_growth(rows: list[Row], path: Path) -> None:
    from matplotlib import pyplot as plt

    if not rows:
        return
    figure, all_axes = plt.subplots(1, len(rows), figsize=(4 * len(rows), 3), layout="constrained")
    for axes, row in zip(np.atleast_1d(all_axes), rows, strict=True):
        pairs = [part.rsplit(": ", 1) for part in row.comment.split(", ")]
        sizes = [int(size.replace(",", "")) for size, _ in pairs]
        times = [float(ms.removesuffix(" ms").replace(",", "")) for _, ms in pairs]
        axes.loglog(sizes, times, "o-")
        axes.set(title=row.work.removeprefix("growth: "), xlabel=row.other, ylabel="ms")
        axes.text(0.05, 0.9, f"slope {row.ratio:.2f}", transform=axes.transAxes)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _text(value: Times | float, row: Row) -> str:
    if isinstance(value, Times):
        return f"{rounded(value.median)} {row.unit} ({rounded(value.low)}–{rounded(value.high)})"
    return f"{rounded(value)} {row.unit}"
