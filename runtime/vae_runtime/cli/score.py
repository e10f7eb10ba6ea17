"""`vae-run score`: how well a model knows each image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from .options import (
    Source,
    label_one_option,
    limit_option,
    model_options,
    one_label,
    output_options,
    resize_option,
)
from .target import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..metrics import Scores
    from .inputs import Pictures

EPILOG = """\b
Examples:
  vae-run score digits/
  vae-run score digits/ -o scores.csv
  vae-run score new/ --normal digits/ --threshold p99 -o anomalies.csv
  vae-run score new/ --threshold 120 --by error --json
"""
COLUMNS = ("error", "kl", "negative_elbo")


@click.command(epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True)
@label_one_option
@limit_option
@resize_option
@click.option(
    "--threshold", help="A score, or pN: the N-th percentile of --normal. Above: anomaly."
)
@click.option("--normal", multiple=True, help="Normal images that pN is taken from.")
@click.option(
    "--by",
    type=click.Choice(COLUMNS),
    default="negative_elbo",
    show_default=True,
    help="The score that is compared with the threshold.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Codes drawn an image for negative_elbo.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="Of those draws.",
)
@output_options("-", ".csv, or standard output.", pictures=False)
@model_options
def command(
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
    limit: int | None,
    resize: bool,
    threshold: str | None,
    normal: tuple[str, ...],
    by: str,
    samples: int,
    seed: int,
    source: Source,
    target: Target,
) -> None:
    """Score images: squared error a pixel, KL and negative ELBO in nats, one line an image.

    What the model has not seen scores high: with --threshold a column says which images are
    anomalies.
    """
    from .inputs import read_pictures

    if target.out == "-" and target.as_json:
        target.out = None  # the JSON holds the rows
    else:
        target.default = "scores.csv"  # whose type standard output has
        target.check(".csv")
    bound = _parse(threshold, normal)
    with source.open() as model:
        spec = model.spec

        def scored(names: tuple[str, ...]) -> tuple[Pictures, Scores]:
            pictures = read_pictures(names, spec.image, limit, resize=resize)
            name = one_label(labels)
            label = pictures.indices(spec) if name is None else name
            return pictures, model.score(pictures.images, label, samples=samples, seed=seed)

        if bound is not None and bound[0] == "p":
            bound = ("=", _percentile(scored(normal or inputs)[1], by, bound[1]))
        pictures, scores = scored(inputs)
        device = model.device
    rows = _rows(pictures, scores, None if bound is None else bound[1], by)
    if target.out is not None:
        target.put(_csv(rows))
    _report(target, rows, None if bound is None else bound[1], by, device)


def _report(
    target: Target, rows: list[dict[str, object]], bound: float | None, by: str, device: str
) -> None:
    from ..console import pluralize, print_status

    text = f"{pluralize(len(rows), 'image')} scored"
    found = sum(bool(row.get("anomaly")) for row in rows)
    if bound is not None:
        text += f", {pluralize(found, 'anomaly', 'anomalies')}: {by} above {bound:.6g}"
    if target.as_json:
        facts = {"threshold": bound, "by": by} if bound is not None else {}
        target.report(text, n=len(rows), device=device, **facts, images=rows)
    else:
        print_status(text)


def _parse(text: str | None, normal: tuple[str, ...]) -> tuple[str, float] | None:
    """`p99` → ("p", 99); `120.5` → ("=", 120.5)."""
    from ..errors import UsageError

    if text is None:
        if normal:
            raise UsageError("--normal needs --threshold, for example --threshold p99")
        return None
    kind, number = ("p", text[1:]) if text.startswith("p") else ("=", text)
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (kind == "p" and not 0 <= value <= 100):
        raise UsageError(f"threshold {text!r}: expected a number, or p0 to p100")
    return kind, value


def _percentile(scores: Scores, by: str, percent: float) -> float:
    import numpy as np

    values: NDArray[np.float64] = getattr(scores, by)
    return float(np.percentile(values, percent))


def _rows(
    pictures: Pictures, scores: Scores, bound: float | None, by: str
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i, name in enumerate(pictures.names):
        row: dict[str, object] = {"name": name}
        row |= {key: float(getattr(scores, key)[i]) for key in COLUMNS}
        if bound is not None:
            row["anomaly"] = int(getattr(scores, by)[i] > bound)
        rows.append(row)
    return rows


def _csv(rows: list[dict[str, object]]) -> list[bytes]:
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return [text.getvalue().encode(errors="backslashreplace")]
