"""Train and measure every row of the quality table: `python -m tests.quality.table --data FOLDER`.

Each row and seed leaves a checkpoint and a JSON file in the work folder. Existing files are kept:
an interrupted run continues where it stopped, and a checkpoint put there by hand is only measured.
Then the table is written from all JSON files as docs/quality-results.md and .json.
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
import sklearn
import torch

from tests.quality.classifier import load_or_train
from tests.quality.judge import Judge
from tests.quality.rows import ROWS, Bench, Figure, Row
from vae_models import PRESETS
from vae_runtime.datasets import load_dataset
from vae_runtime.files.atomic import write_atomic
from vae_runtime.inference.session import onnxruntime
from vae_train import load_checkpoint

Record = dict[str, Any]


def train_row(row: Row, seed: int, preset: str, data: str, threads: int, out: Path) -> None:
    """Train a row with its `vae-train` command, unless its checkpoint exists."""
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
    """Measure one training run; return the record for the table and its JSON file."""
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
            "onnxruntime": onnxruntime().__version__,
            "scikit-learn": sklearn.__version__,
        },
        "found": found,
    }


def markdown(records: Sequence[Record], seeds: Sequence[int]) -> str:
    """Format the results as Markdown, with one line per figure and one column per seed."""
    lines = ["# Quality results", "", "Written by `python -m tests.quality.table`. "
             "A missed target is marked ✗.", ""]  # fmt: skip
    for preset in [p for p in PRESETS if p != "reference"]:
        runs = {(r["row"], r["seed"]): r for r in records if r["preset"] == preset}
        lines += [f"## Preset {preset}", ""]
        columns = ["model", "figure", "target", *(f"seed {seed}" for seed in seeds)]
        lines += [_line(columns), _line(["---"] * len(columns))]
        for row in ROWS:
            for figure in row.figures:
                cells = [_cell(figure, preset, runs.get((row.name, seed))) for seed in seeds]
                lines.append(_line([row.title, figure.title, _target_cell(figure, preset), *cells]))
        lines += ["", *_trained(runs), ""] if runs else [""]
    return "\n".join(lines).rstrip() + "\n"


def _trained(records: dict[tuple[str, int], Record]) -> list[str]:
    """Format one line per training run: date, size, duration, and figures without a target."""
    columns = ["model", "seed", "date", "parameters", "epochs", "training", "other figures"]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for (name, seed), record in sorted(records.items()):
        seconds, found = record["seconds"], record["found"]
        others = [f"{title} {found[key]:.4g}" for key, title in _OTHERS.items() if key in found]
        time = "unknown" if seconds is None else f"{seconds / 60:.0f} min"
        lines.append(
            _line(
                [name, seed, record["date"], f"{record['parameters']:,}",
                 record["train"]["epochs"], time, ", ".join(others)]
            )
        )  # fmt: skip
    return lines


_OTHERS = {
    "pca": "PCA",
    "normal_ratio": "Fréchet distance / floor, N(0, I)",
    "standard_error": "standard error",
    "nll_few": "NLL with few posterior samples",
    "gain": "gain with many",
    "fitted_standard_error": "standard error, fitted prior",
    "subset": "digits in the subset",
    "first_fidelity": "first of five seeds: fidelity",
    "first_ratio": "its Fréchet distance / floor",
    "first_precision": "its precision",
    "first_recall": "its recall",
    "again_fidelity": "reconstructions: fidelity",
    "again_ratio": "Fréchet distance / floor",
    "again_precision": "precision",
    "again_recall": "recall",
}


def _target_cell(figure: Figure, preset: str) -> str:
    return f"{'≥' if figure.higher_is_better else '≤'} {_target(figure, preset):g}"


def _target(figure: Figure, preset: str) -> float:
    return figure.best if preset == "best" and figure.best is not None else figure.target


def _cell(figure: Figure, preset: str, record: Record | None) -> str:
    if record is None:
        return "not run"
    value, target = record["found"][figure.key], _target(figure, preset)
    met = value >= target if figure.higher_is_better else value <= target
    return f"{value:.4g}" + ("" if met else " ✗")


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


@click.command()
@click.option("--data", default="mnist")
@click.option("--work", default="build/quality", type=click.Path(path_type=Path))
@click.option("--out", default="docs", type=click.Path(path_type=Path), help="Table folder.")
@click.option("--classifier", "path", default="classifier.pt", type=click.Path(path_type=Path))
@click.option("--preset", default="default", type=click.Choice(["default", "best"]))
@click.option("--seeds", default="0,1,2")
@click.option("--only", multiple=True, type=click.Choice([row.name for row in ROWS]))
@click.option("--threads", default=os.cpu_count() or 1, help="Threads of torch.")
@click.option("--few", default=100, help="Posterior samples per digit.")
@click.option("--many", default=5000, help="Posterior samples per subset digit.")
@click.option("--subset", default=100, help="Digits in the subset; 10000 for all.")
def main(
    data: str, work: Path, out: Path, path: Path, preset: str, seeds: str,
    only: tuple[str, ...], threads: int, few: int, many: int, subset: int,
) -> None:  # fmt: skip
    """Train and measure missing rows, seed by seed, and write the table."""
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    train, test = load_dataset(data), load_dataset(data, "test")
    judge = Judge.of(load_or_train(data, path), train, test)
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
    """Write both files of the table from all records in `work`."""
    records = [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
    text = markdown(records, sorted({*seeds, *(r["seed"] for r in records)}))
    write_atomic(out / "quality-results.md", text.encode())
    write_atomic(out / "quality-results.json", (json.dumps(records, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
