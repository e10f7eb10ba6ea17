"""Write a run's report: `report.html`, `report.json` and the pictures beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_runtime.errors import FileError
from vae_runtime.files.atomic import write_atomic

from . import charts, pictures
from .advice import Finding, advise
from .figures import Figures
from .measure import measure
from .network import Network
from .page import Picture, report_page
from .subject import Subject

FORMAT = 1


@dataclass(frozen=True)
class Report:
    """What was found, and the pictures that show it."""

    figures: Figures
    findings: list[Finding]
    pictures: list[Picture]

    def lines(self) -> Iterator[str]:
        """One line a finding, for a terminal."""
        for finding in self.findings:
            yield f"{finding.level}: {finding.seen} Try: {finding.advice}"

    def to_json(self) -> dict[str, Any]:
        """Figures and findings as plain values."""
        return {
            "format": FORMAT,
            "findings": [finding.to_json() for finding in self.findings],
            "figures": self.figures.to_json(),
        }


def write_report(subject: Subject, folder: Path, title: str) -> Report:
    """Measure, judge, draw, and write everything into `folder`, which is made if missing.

    Raises:
        FileError: a file could not be written.
    """
    network = Network(subject.checkpoint)
    figures = measure(subject, network)
    report = Report(figures, advise(figures, subject), _pictures(subject, network, figures))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    for picture in report.pictures:
        write_atomic(folder / f"{picture.name}.png", picture.png)
    data = json.dumps(report.to_json(), indent=1, allow_nan=False)
    write_atomic(folder / "report.json", f"{data}\n".encode())
    page = report_page(title, subject, figures, report.findings, report.pictures)
    write_atomic(folder / "report.html", page.encode())
    return report


def _pictures(subject: Subject, network: Network, figures: Figures) -> list[Picture]:
    sheet, drawn = pictures.samples(subject, network)
    pairs, paired = pictures.reconstructions(subject, network)
    strips, varied = pictures.traversals(subject, network, figures)
    bars = "Variance of each code unit" if figures.kl is None else "KL of each latent dimension"
    return [
        Picture("losses", "Loss curves", "Means over each epoch.",
                charts.losses(subject), charts.losses(subject, dark=True)),
        Picture("samples", "Samples", drawn, sheet),
        Picture("reconstructions", "Reconstructions", paired, pairs),
        Picture("traversals", "Traversals", varied, strips),
        Picture("units", bars, "The busiest first; red ones are not active.",
                charts.units(subject, figures), charts.units(subject, figures, dark=True)),
    ]  # fmt: skip
