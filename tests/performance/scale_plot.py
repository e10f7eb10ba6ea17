"""Draw what `scale.py` wrote: python tests/performance/scale_plot.py docs/scale.json OUT.png."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Two panels: rows a second of each way, efficiency by workers and part length."""
    source, out = map(Path, sys.argv[1:3])
    found = json.loads(source.read_text())
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    rates(left, found["rows"])
    efficiency(right, found["simulation"])
    figure.savefig(out, dpi=110)


def rates(axes: Any, rows: dict[str, Any]) -> None:
    """Bars of rows a second as a multiple of the bare loop."""
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
    axes.set_xlabel("of the bare loop; images a second beside the bar")
    axes.legend(fontsize=7, loc="lower right")


def efficiency(axes: Any, simulation: list[dict[str, Any]]) -> None:
    """A line a number of workers."""
    for workers in sorted({one["workers"] for one in simulation}):
        of = [one for one in simulation if one["workers"] == workers]
        axes.plot([one["part_s"] for one in of], [one["efficiency"] for one in of], "o-",
                  ms=3, label=f"{workers} workers")  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("seconds of work in a part")
    axes.set_ylabel("efficiency (simulated)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


if __name__ == "__main__":
    main()
