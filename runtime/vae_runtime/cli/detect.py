"""`vae-run detect`: find the images that are unlike normal ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console import NORMAL_NAMES, PATH, Percent, check_output_file, pluralize, print_status
from ..dependencies import require
from ..errors import MissingExtra, UsageError
from . import options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..detection import Detection
    from ..detection.quality import Quality
    from .inputs import InputImages

EPILOG = """\b
Examples:
  vae-run detect new/ -b parts.zip
  vae-run detect new/ --normal good/ -b parts.zip --false-alarms 5%
  vae-run detect bottle/ -b bottle.zip --maps maps/ --curves curves.png
  vae-run detect new/ -b parts.zip --json
"""


@click.command(epilog=EPILOG)
@options.collect(
    "source", options.InputOptions,
    (click.argument("inputs", nargs=-1, required=True, type=PATH), options.limit(), options.resize),
)  # fmt: skip
@click.option(
    "--normal",
    type=PATH,
    metavar="INPUT",
    multiple=True,
    help="Normal images that the model was not trained on. May be repeated. [default: what the "
    "bundle says]",
)
@click.option(
    "--normal-class",
    metavar="NAME",
    help=f"The class of INPUTS that is normal. [default: {', '.join(NORMAL_NAMES)}]",
)
@click.option(
    "--false-alarms",
    type=Percent(),
    metavar="PERCENT",
    help="The share of normal images that may be flagged. [default: 1%, or the lowest that the "
    "held-out images allow]",
)
@click.option("--maps", type=click.Path(path_type=Path), metavar="DIR", help="Write heat maps.")
@click.option(
    "--curves", type=click.Path(path_type=Path), metavar="PNG", help="Draw the ROC curve."
)
@options.output("-", "a .csv file", extension=".csv", pictures=False)
@options.model()
def command(
    source: options.InputOptions,
    normal: tuple[str, ...],
    normal_class: str | None,
    false_alarms: float | None,
    maps: Path | None,
    curves: Path | None,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Find the images that are unlike normal ones.

    Reports a score and a decision per image. The threshold follows from --false-alarms and the
    scores of normal images that the model was not trained on: those that vae-train held out, or
    --normal. If the classes of INPUTS say which images are normal, as those of MVTec do, the
    quality of the detection is reported as well. INPUTS are image files, any data that vae-train
    reads (its test split), or - for standard input.
    """
    from .inputs import read_images
    from .output import write_bytes
    from .score import as_csv

    if output.path == "-" and output.as_json:
        output = output.without_file()  # the JSON holds the rows
    else:
        output.check(".csv", inputs=(*source.inputs, *normal, model_options.bundle))
    if curves is not None:
        check_output_file(curves, (".png",))
        require("--curves", "matplotlib", "sklearn", extra="cpu,detect")
    if maps is not None and maps.suffix.lower() in options.PICTURES:
        raise UsageError(f"--maps {maps}: the name of a file, expected a folder")
    with model_options.load() as model:
        found = read_images(source.inputs, model.spec.image, source.limit, resize=source.resize)
        truth = _truth(found, normal_class)
        if curves is not None and truth is None:
            raise UsageError(
                "--curves: the classes of INPUTS do not say what is normal. "
                "Name it: --normal-class."
            )
        normality = model.normality
        if normal:
            held_out = read_images(normal, model.spec.image, resize=source.resize)
            others = _truth(held_out, None)
            normality = model.learn_normality(
                held_out.images if others is None else held_out.images[~others]
            )
        result = model.detect(found.images, normality=normality, false_alarms=false_alarms)
        assert normality is not None  # without it, detect raises an error
        device = model.device
    quality = None if truth is None else _quality(found, result, truth)
    drawn = None if maps is None else _write_maps(found, result, maps)
    if curves is not None and truth is not None and quality is not None:
        from ..detection.pictures import draw_curves
        from ..files.atomic import write_atomic

        curve = draw_curves(result.scores, truth, result.threshold, quality.auroc)
        write_atomic(curves, curve)
    rows = _rows(found, result, drawn)
    if output.path is not None:
        write_bytes(as_csv(rows), output)
    _report(output, rows, result, quality, device, normality.held_out)


def _truth(found: InputImages, normal_class: str | None) -> NDArray[np.bool_] | None:
    """Return which images are anomalous according to their classes; None if these do not say."""
    import numpy as np

    classes = set(found.labels or ())
    names = [normal_class] if normal_class else [n for n in NORMAL_NAMES if n in classes]
    if normal_class and normal_class not in classes:
        listed = ", ".join(sorted(classes)) or "none"
        raise UsageError(f"--normal-class {normal_class}: the classes of INPUTS are {listed}")
    if not names or len(classes) < 2:
        return None
    return np.array([label not in names for label in found.labels or ()])


def _quality(found: InputImages, result: Detection, truth: NDArray[np.bool_]) -> Quality | None:
    from ..detection.quality import measure_maps, measure_quality, read_masks

    try:
        quality = measure_quality(result.scores, truth, result.threshold)
    except MissingExtra as error:
        print_status(f"note: the quality is not measured: {error}")
        return None
    masks = read_masks(found.names, truth, result.maps.shape[1:])
    if masks is None:
        return quality
    pixel_auroc, aupro = measure_maps(result.maps, masks)
    return replace(quality, pixel_auroc=pixel_auroc, aupro=aupro)


def _write_maps(found: InputImages, result: Detection, folder: Path) -> list[str]:
    """Write each image beside its heat map, all on one scale, the highest score first.

    Returns:
        The name of each image's file in the folder.
    """
    import numpy as np

    from ..arrays import to_float32
    from ..detection.pictures import heat
    from ..grids import file_name, save_folder

    images = to_float32(found.images)
    colour = np.broadcast_to(images[:, :3], (len(images), 3, *images.shape[2:]))
    drawn = heat(images, result.maps)
    order = np.argsort(-result.scores, kind="stable")
    pairs = np.concatenate([colour, drawn], axis=3)[order]
    save_folder(pairs, len(pairs), folder)
    ranks = np.argsort(order).tolist()
    return [file_name(rank, len(ranks)) for rank in ranks]


def _rows(found: InputImages, result: Detection, maps: list[str] | None) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i, name in enumerate(found.names):
        row: dict[str, object] = {"name": name}
        row |= {} if found.labels is None else {"class": found.labels[i]}
        row |= {"score": float(result.scores[i]), "rarity": float(result.rarity[i])}
        row |= {"anomalous": int(result.anomalous[i])}
        rows.append(row | ({} if maps is None else {"map": maps[i]}))
    return rows


def _report(
    output: options.OutputOptions,
    rows: list[dict[str, object]],
    result: Detection,
    quality: Quality | None,
    device: str,
    held_out: int,
) -> None:
    from .output import report

    count = int(result.anomalous.sum())
    text = f"{count} of {pluralize(len(rows), 'image')} {'is' if count == 1 else 'are'} anomalous "
    text += f"(score above {result.threshold:.3g}; expected false-alarm rate "
    text += f"{result.false_alarms:.1%}, calibrated on {pluralize(held_out, 'held-out image')})"
    text += output.wrote
    if output.as_json:
        measured = None if quality is None else quality.to_json()
        report(
            text, output, n=len(rows), anomalous=count, threshold=result.threshold,
            false_alarms=result.false_alarms, quality=measured, device=device, images=rows,
        )  # fmt: skip
        return
    print_status(text)
    if quality is not None:
        print_status(_describe(quality))


def _describe(q: Quality) -> str:
    counts = q.confusion
    text = (
        f"AUROC {q.auroc:.3f} ({q.auroc_low:.3f} to {q.auroc_high:.3f}), average precision "
        f"{q.average_precision:.3f}, F1 {q.f1:.3f}: {counts['true_alarms']} of {q.anomalous} "
        f"anomalies found, {counts['false_alarms']} of {q.normal} normal images flagged"
    )
    if q.pixel_auroc is not None:
        text += f"; pixels: AUROC {q.pixel_auroc:.3f}, AUPRO {q.aupro:.3f}"
    return text
