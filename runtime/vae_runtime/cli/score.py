"""`vae-run score`: score how well a model fits each image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ..console import PATH, pluralize, print_status
from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from ..metrics import Scores
    from .inputs import InputImages

EPILOG = """\b
Examples:
  vae-run score digits/
  vae-run score digits/ -o scores.csv
  vae-run score new/ --normal digits/ --threshold p99 -o anomalies.csv
  vae-run score new/ --threshold 120 --by mse --json
"""
COLUMNS = ("mse", "kl", "negative_elbo")


@click.command(epilog=EPILOG)
@options.inputs()
@click.option(
    "--threshold",
    metavar="SCORE|pN",
    help="Mark images above this score as anomalies; pN is the N-th percentile of --normal.",
)
@click.option(
    "--normal",
    type=PATH,
    metavar="INPUT",
    multiple=True,
    help="Normal images, for the percentile. May be repeated.",
)
@options.choice("--by", *reversed(COLUMNS), help="Score to compare with the threshold.")
@options.samples(1)
@options.seed("Seed for the posterior samples.")
@options.output("-", "a .csv file", extension=".csv", pictures=False)
@options.model()
def command(
    source: options.InputOptions,
    threshold: str | None,
    normal: tuple[str, ...],
    by: str,
    samples: int,
    seed: int,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Score how well a model fits each image.

    Reports squared error per pixel, KL and negative ELBO in nats, one line per image. Images unlike
    the training data score high. With --threshold, a column marks anomalies. INPUTS are image
    files, any data that vae-train reads (its test split), or - for standard input.
    """
    import numpy as np

    from .inputs import read_inputs
    from .output import write_bytes

    if output.path == "-" and output.as_json:
        output = output.without_file()  # the JSON holds the rows
    else:
        output.check(".csv", inputs=(*source.inputs, *normal, model_options.bundle))
    bound, percent = _parse_threshold(threshold, normal)
    with model_options.load() as model:

        def scored(source: options.InputOptions) -> tuple[InputImages, Scores]:
            found, label = read_inputs(source, model.spec)
            return found, model.score(found.images, label, samples=samples, seed=seed)

        if percent is not None:
            _, scores = scored(replace(source, inputs=normal or source.inputs))
            bound = float(np.percentile(getattr(scores, by), percent))
        found, scores = scored(source)
        device = model.device
    rows = _rows(found, scores, bound, by)
    if output.path is not None:
        write_bytes(as_csv(rows), output)
    _report(output, rows, bound, by, device)


def _report(
    output: options.OutputOptions,
    rows: list[dict[str, object]],
    bound: float | None,
    by: str,
    device: str,
) -> None:
    from .output import report

    text = f"{pluralize(len(rows), 'image')} scored"
    anomalies = sum(bool(row.get("anomaly")) for row in rows)
    if bound is not None:
        text += f", {pluralize(anomalies, 'anomaly', 'anomalies')}: {by} above {bound:.6g}"
    if output.as_json:
        used = {"threshold": bound, "by": by} if bound is not None else {}
        report(text, output, n=len(rows), device=device, **used, images=rows)
    else:
        print_status(text + output.wrote)


def _parse_threshold(
    text: str | None, normal: tuple[str, ...]
) -> tuple[float | None, float | None]:
    """Parse --threshold: `120.5` gives (120.5, None); the percentile `p99` gives (None, 99.0)."""
    if text is None:
        if normal:
            raise UsageError("--normal needs --threshold, for example --threshold p99")
        return None, None
    is_percentile = text.startswith("p")
    try:
        value = float(text.removeprefix("p"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (is_percentile and not 0 <= value <= 100):
        raise UsageError(f"threshold {text!r}: expected a number, or p0 to p100")
    return (None, value) if is_percentile else (value, None)


def _rows(
    found: InputImages, scores: Scores, bound: float | None, by: str
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i, name in enumerate(found.names):
        row: dict[str, object] = {"name": name}
        row |= {key: float(getattr(scores, key)[i]) for key in COLUMNS}
        if bound is not None:
            row["anomaly"] = int(getattr(scores, by)[i] > bound)
        rows.append(row)
    return rows


def as_csv(rows: list[dict[str, object]]) -> list[bytes]:
    """Format rows of the same keys as a table, with six digits of each number."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return [text.getvalue().encode(errors="backslashreplace")]
