"""Train and measure every row of the quality table: `python -m tests.quality.table --data FOLDER`.

Each row and seed leaves a checkpoint and a JSON file in the work folder; what is there already is
not done again, so that a run which was stopped goes on where it was. Then the table is written from
all JSON files, as docs/quality-results.md and .json. A checkpoint put there by hand is measured.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import onnxruntime
import sklearn
import torch

from tests.quality.judge import Judge, classifier
from tests.quality.rows import ROWS, Bench, Figure, Row
from vae_models import PRESETS
from vae_runtime.datasets import load_dataset
from vae_runtime.files.atomic import write_atomic
from vae_train import load_checkpoint

Record = dict[str, Any]


def train_row(row: Row, seed: int, preset: str, data: str, threads: int, out: Path) -> None:
    """Train a row with the command that the table shows, unless its checkpoint is there."""
    if out.exists():
        return
    command = [
        *(Path(sys.executable).with_name("vae-train"), *row.arguments, "--preset", preset),
        *("--data", data, "--seed", seed, "--threads", threads, "--out", out),
        "--resume",
    ]
    print("+", *command[1:], file=sys.stderr)
    subprocess.run([str(word) for word in command], check=True)


def measure_row(row: Row, seed: int, preset: str, checkpoint: Path, bench: Bench) -> Record:
    """All that the table and its JSON file say of one training run."""
    trained = load_checkpoint(checkpoint)
    found: dict[str, float] = {}
    for measure in row.measures:
        found |= measure(trained, bench)
    epochs = checkpoint.with_suffix(".run") / "metrics.jsonl"
    lines = epochs.read_text().splitlines() if epochs.exists() else []
    return {
        "row": row.name,
        "preset": preset,
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["vae-train", *row.arguments, f"--preset {preset} --seed {seed}"]),
        "train": trained.train.to_dict(),
        "model": trained.model.to_dict(),
        "parameters": sum(t.numel() for t in trained.state.values()),
        "seconds": round(sum(json.loads(line)["seconds"] for line in lines)) if lines else None,
        "judge": bench.judge.accuracy,
        "versions": {
            "torch": str(torch.__version__),
            "onnxruntime": onnxruntime.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "found": found,
    }


def markdown(records: Sequence[Record], seeds: Sequence[int]) -> str:
    """The table: a line for each figure of each row, a column for each seed."""
    lines = ["# Quality results", "", "Written by `python -m tests.quality.table`. "
             "What was not run says so; an aim that was missed is marked ✗.", ""]  # fmt: skip
    for preset in [p for p in PRESETS if p != "reference"]:
        mine = {(r["row"], r["seed"]): r for r in records if r["preset"] == preset}
        lines += [f"## Preset {preset}", ""]
        columns = ["model", "figure", "aim", *(f"seed {seed}" for seed in seeds)]
        lines += [_line(columns), _line(["---"] * len(columns))]
        for row in ROWS:
            for figure in row.figures:
                cells = [_cell(figure, preset, mine.get((row.name, seed))) for seed in seeds]
                lines.append(_line([row.words, figure.words, _aim(figure, preset), *cells]))
        lines += ["", *_trained(mine), ""] if mine else [""]
    return "\n".join(lines).rstrip() + "\n"


def _trained(records: dict[tuple[str, int], Record]) -> list[str]:
    """What was trained, when, for how long, and what was measured beside the aims."""
    columns = ["model", "seed", "date", "parameters", "epochs", "training", "beside"]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for (name, seed), record in sorted(records.items()):
        seconds, found = record["seconds"], record["found"]
        beside = [f"{words} {found[key]:.4g}" for key, words in _BESIDE.items() if key in found]
        time = "unknown" if seconds is None else f"{seconds / 60:.0f} min"
        lines.append(
            _line(
                [name, seed, record["date"], f"{record['parameters']:,}",
                 record["train"]["epochs"], time, ", ".join(beside)]
            )
        )  # fmt: skip
    return lines


_BESIDE = {
    "pca": "PCA",
    "normal_ratio": "N(0, I) in floors",
    "standard_error": "standard error",
    "nll_few": "few draws, all digits",
    "gain": "gain of many draws",
    "fitted_standard_error": "standard error, fitted prior",
    "subset": "on digits",
    "first_fidelity": "first of five draws: fidelity",
    "first_ratio": "in floors",
    "first_precision": "its precision",
    "first_recall": "its recall",
    "again_fidelity": "reconstructions: fidelity",
    "again_ratio": "floors",
    "again_precision": "precision",
    "again_recall": "recall",
}


def _aim(figure: Figure, preset: str) -> str:
    return f"{'≥' if figure.least else '≤'} {_limit(figure, preset):g}"


def _limit(figure: Figure, preset: str) -> float:
    return figure.best if preset == "best" and figure.best is not None else figure.aim


def _cell(figure: Figure, preset: str, record: Record | None) -> str:
    if record is None:
        return "not run"
    value, limit = record["found"][figure.key], _limit(figure, preset)
    return f"{value:.4g}" + ("" if (value >= limit if figure.least else value <= limit) else " ✗")


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


@click.command()
@click.option("--data", default="mnist")
@click.option("--work", default="build/quality", type=click.Path(path_type=Path))
@click.option("--out", default="docs", type=click.Path(path_type=Path), help="Of the table.")
@click.option("--classifier", "path", default="classifier.pt", type=click.Path(path_type=Path))
@click.option("--preset", default="default", type=click.Choice(["default", "best"]))
@click.option("--seeds", default="0,1,2")
@click.option("--only", multiple=True, type=click.Choice([row.name for row in ROWS]))
@click.option("--threads", default=os.cpu_count() or 1, help="Of torch.")
@click.option("--few", default=100, help="Draws for every digit.")
@click.option("--many", default=5000, help="Draws for the digits of the subset.")
@click.option("--subset", default=100, help="Digits; 10000 for all.")
def main(
    data: str, work: Path, out: Path, path: Path, preset: str, seeds: str,
    only: tuple[str, ...], threads: int, few: int, many: int, subset: int,
) -> None:  # fmt: skip
    """Train and measure what is missing, seed by seed, and write the table."""
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    train, test = load_dataset(data), load_dataset(data, "test")
    judge = Judge.of(classifier(data, path), train, test)
    bench = Bench(train, test, judge, few, many, subset)
    rows = [row for row in ROWS if not only or row.name in only]
    for seed in _numbers(seeds):
        for row in rows:
            name = f"{row.name}-{preset}-{seed}"
            file, checkpoint = work / f"{name}.json", work / f"{name}.pt"
            if not file.exists():
                train_row(row, seed, preset, data, threads, checkpoint)
                record = measure_row(row, seed, preset, checkpoint, bench)
                write_atomic(file, json.dumps(record, indent=1).encode())
            write(work, out, _numbers(seeds))


def write(work: Path, out: Path, seeds: Sequence[int]) -> None:
    """Both files of the table, from all records in `work`."""
    records = [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
    text = markdown(records, sorted({*seeds, *(r["seed"] for r in records)}))
    write_atomic(out / "quality-results.md", text.encode())
    write_atomic(out / "quality-results.json", (json.dumps(records, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
