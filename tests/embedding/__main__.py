"""Run one bundle in every host and print size, start time, decode time and parity with torch.

    python -m tests.embedding [--bundle BUNDLE.zip] [--json] [--only HOST]

The default bundle is the embedded one; another must be the zip of a conditional model. Hosts whose
tools are missing are listed below the table with the reason. Exits with 4 if a host misses the
tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from vae_runtime.verification import TOLERANCE

from . import c, node, python, servers, studio
from .host import Missing, Row, Vectors

HOSTS: dict[str, Callable[[Vectors], Row]] = {
    "python": python.whole_bundle,
    "one-file": python.single_graph,
    "onnxruntime": python.onnxruntime_alone,
    "node": node.node,
    "node-web": node.node_web,
    "c-api": c.c_api,
    "c": c.generated_c,
    "web-app": servers.web_app_row,
    "mlserver": servers.mlserver_row,
    "triton": servers.triton_row,
    "studio": studio.studio,
}


def main() -> None:
    """Measure every host and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, help="a zip; default: the embedded bundle")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", metavar="HOST", choices=HOSTS, action="append")
    chosen = parser.parse_args()
    rows, missing = [], {}
    for name in chosen.only or HOSTS:
        with tempfile.TemporaryDirectory() as work:
            try:
                rows.append(HOSTS[name](Vectors(chosen.bundle or "mnist", Path(work))))
            except Missing as reason:
                missing[name] = str(reason)
    if chosen.json:
        print(json.dumps({"hosts": [r.to_json() for r in rows], "missing": missing}, indent=1))
    else:
        print(table(rows))
        for name, why in missing.items():
            print(f"\nskipped: {name}: {why}")
    if any(row.max_error > TOLERANCE for row in rows):
        sys.exit(4)


def table(rows: list[Row]) -> str:
    """Render the rows as Markdown."""
    lines = [
        "| host | folder | size, MB | start, s | one decode, ms | max error |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row.host} | `{row.example}` | {row.size / 1e6:.1f} | {row.start:.3f} "
            f"| {row.ms:.2f} | {row.max_error:.1e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
