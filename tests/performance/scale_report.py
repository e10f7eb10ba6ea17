"""Write the results of `scale.py` as a page and a plot.

    python tests/performance/scale_report.py docs/scale-results.json

This writes docs/scale-results.md and docs/pictures/scale.png. The plan for a billion images is
computed from the measurements; its prices and failure rates are assumptions, as the page says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

IMAGES = 10**9
WORKERS = 512
PRICE = 0.04  # dollars per core hour
DEATHS = 0.05  # share of workers lost per hour: cheap machines may be reclaimed at any time
LATENT = 16


def main() -> None:
    """Read the figures, write the page and the plot."""
    source = Path(sys.argv[1])
    found = json.loads(source.read_text())
    source.with_suffix(".md").write_text(page(found, source.name))
    plot(found, source.parent / "pictures" / "scale.png")


def page(found: dict[str, Any], name: str) -> str:
    """Format the whole page."""
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join([
        "# Scale: measurements",
        "",
        f"Written by `tests/performance/scale_report.py` from [{name}]({name}), one run of "
        "`tests/performance/scale.py`.",
        f"Machine: {machine}.",
        "",
        "![Rows per second of each way, and efficiency by workers](pictures/scale.png)",
        "",
        *tables(found),
        *long_job(found["samples"]),
        *saturation(found),
        *billion(found),
        "",
    ])  # fmt: skip


def tables(found: dict[str, Any]) -> list[str]:
    """Format the tables of rows per second."""
    lines = ["## Rows per second", ""]
    lines += ["Read Parquet with images of 28×28 bytes, encode, write Parquet. The ways take "
              "turns, and the best run of each counts. The bare loop is plain onnxruntime in one "
              "process and one thread, without any check of its input.", ""]  # fmt: skip
    for name, one in found["rows"].items():
        rate = one["rows_per_second"]
        lines += [
            f"| {name}, {one['n']:,} rows | rows/s | bare loop = 1 |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {way} | {value:,.0f} | {value / rate['bare loop']:.2f} |"
                  for way, value in rate.items()]  # fmt: skip
        two = rate["dask, 2 workers"] / rate["dask, 1 worker"]
        lines += ["", f"Two Dask workers are {two:.2f}× as fast as one.", ""]
    return lines


def long_job(found: dict[str, Any]) -> list[str]:
    """Format the job of many samples."""
    rate = found["rows"] / found["seconds"]
    return [
        f"## {found['rows']:,} samples", "",
        "`vae-run batch sample` with the decoder of the reference recipe on two Dask workers, from "
        "the command line to the finished folder: images of 28×28 bytes, in parts of 100,000, on "
        f"{found['date']}.", "",
        "| | |", "| --- | --- |",
        f"| time | {found['seconds']:.0f} s, {rate:,.0f} rows/s |",
        f"| written | {found['bytes'] / 1e9:.2f} GB in {found['parts']} parts |",
        f"| largest process | {found['largest_process_mb']:,.0f} MB |",
        f"| `--resume` of the finished job, which verifies every part | "
        f"{found['resumed_seconds']:.0f} s |", "",
    ]  # fmt: skip


def saturation(found: dict[str, Any]) -> list[str]:
    """Format the efficiency by workers and time per part, and the scheduler's limit."""
    cells = {(one["workers"], one["part_s"]): one for one in found["simulation"]}
    lengths = sorted({part_s for _, part_s in cells})
    peak = max(one["tasks_per_second"] for one in found["simulation"])
    lines = ["## Where the scheduler saturates", "",
             "Simulated: the threads of a Dask cluster on this machine sleep instead of working, "
             "on the engine that jobs use. Share of the ideal speed:", "",
             "| workers | " + " | ".join(f"{s:g} s per part" for s in lengths) + " |",
             "| --- |" + " --- |" * len(lengths)]  # fmt: skip
    for workers in sorted({workers for workers, _ in cells}):
        row = (f"{cells[workers, s]['efficiency']:.2f}" for s in lengths)
        lines.append(f"| {workers} | " + " | ".join(row) + " |")
    lines += ["",
              f"The overhead is {found['overhead_ms']:.2f} ms per task, and no setting exceeded "
              f"{peak:,.0f} tasks per second. So parts of W / {peak:,.0f} seconds or more keep W "
              f"workers busy: parts of one second about {peak:,.0f} workers, parts of three "
              "seconds three times as many.", ""]  # fmt: skip
    return lines


def billion(found: dict[str, Any]) -> list[str]:
    """Format the plan for a billion images."""
    peak = max(one["tasks_per_second"] for one in found["simulation"])
    pixels, latents = 28 * 28, 2 * 4 * LATENT + 8
    lines = ["## On paper: 10⁹ images", "",
             f"Assumed: {WORKERS} workers of one core like this one, ${PRICE:g} per core hour, "
             f"{DEATHS:.0%} of the workers lost per hour, {LATENT} latent dimensions with "
             f"`log_var`. Bytes: {IMAGES * pixels / 1e12:.2f} TB of pixels in before compression, "
             f"{IMAGES * latents / 1e12:.2f} TB of latents out.", "",
             "| | rows per part | seconds per part | parts | core hours | hours | cost | tasks/s "
             "(of the maximum) | repeated work | input, MB/s |",
             "| --- |" + " --- |" * 9]  # fmt: skip
    for name, one in found["rows"].items():
        rate = one["rows_per_second"]["dask, 1 worker"]
        for rows in (1024, 16_384, 131_072):
            seconds, hours = rows / rate, IMAGES / rate / 3600
            again = DEATHS * seconds / 3600 / 2  # half a part on average
            tasks = WORKERS / seconds
            wall = hours / WORKERS * max(1.0, tasks / peak)
            lines.append(
                f"| {name} | {rows:,} | {seconds:.2f} | {IMAGES // rows + 1:,} | {hours:,.1f} | "
                f"{wall:.2f} | ${PRICE * wall * WORKERS:.2f} | "
                f"{tasks:,.0f} ({tasks / peak:.0%}) | {again:.4%} | "
                f"{IMAGES * pixels / 1e6 / wall / 3600:,.0f} |"
            )
    slow, fast = sorted(one["rows_per_second"]["dask, 1 worker"] for one in found["rows"].values())
    lines += ["", "Above 100% the scheduler limits the speed, and more workers do not help. "
              "Parts of the default 16,384 rows keep "
              f"{peak * 16_384 / slow:,.0f} workers busy with the slow encoder and "
              f"{peak * 16_384 / fast:,.0f} with the fast one; larger parts keep more busy, and "
              "lost workers still cost next to nothing."]  # fmt: skip
    return lines


def plot(found: dict[str, Any], out: Path) -> None:
    """Plot two panels: rows per second of each way, efficiency by workers and time per part."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    rates(left, found["rows"])
    efficiency(right, found["simulation"])
    figure.savefig(out, dpi=110)


def rates(axes: Any, rows: dict[str, Any]) -> None:
    """Plot rows per second as multiples of the bare loop."""
    for i, (name, one) in enumerate(rows.items()):
        rate = one["rows_per_second"]
        floor = rate["bare loop"]
        places = [k + 0.4 * i - 0.2 for k in range(len(rate))]
        bars = axes.barh(places, [value / floor for value in rate.values()], 0.38, label=name)
        axes.bar_label(bars, [f"{value:,.0f}" for value in rate.values()], padding=2, fontsize=7)
    axes.set_yticks(range(len(rate)), list(rate), fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="grey", lw=0.8)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.2)
    axes.set_xlabel("multiple of the bare loop; rows per second beside the bar")
    axes.legend(fontsize=7, loc="upper right")


def efficiency(axes: Any, simulation: list[dict[str, Any]]) -> None:
    """Plot one line for each number of workers."""
    for workers in sorted({one["workers"] for one in simulation}):
        of = [one for one in simulation if one["workers"] == workers]
        axes.plot([one["part_s"] for one in of], [one["efficiency"] for one in of], "o-",
                  ms=3, label=f"{workers} workers")  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("seconds of work per part")
    axes.set_ylabel("efficiency (simulated)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


if __name__ == "__main__":
    main()
