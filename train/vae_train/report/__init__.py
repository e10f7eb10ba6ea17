"""The report of a finished run: measurements, findings and pictures, also as one HTML page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vae_runtime.errors import FileError, describe_os_error
from vae_runtime.files.atomic import write_atomic

from .figures import Picture, draw_pictures
from .findings import Finding, find_problems
from .html import render_report
from .measure import Measurements, measure
from .trained_model import TrainedModel

__all__ = [
    "Finding",
    "Measurements",
    "Picture",
    "Report",
    "TrainedModel",
    "find_problems",
    "measure",
    "write_report",
]

FORMAT = 1  # of report.json


@dataclass(frozen=True)
class Report:
    """The measurements, the findings derived from them, and the pictures."""

    measurements: Measurements
    findings: list[Finding]
    pictures: list[Picture]


def write_report(trained: TrainedModel, folder: Path, title: str) -> Report:
    """Measure a model and write `report.html`, `report.json` and the pictures into `folder`.

    The folder is created if necessary.

    Raises:
        FileError: a file could not be written.
    """
    measured = measure(trained)
    findings = find_problems(measured, trained)
    report = Report(measured, findings, draw_pictures(trained, measured))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: {describe_os_error(error)}") from error
    for picture in report.pictures:
        write_atomic(folder / f"{picture.name}.png", picture.png)
    content = {
        "format": FORMAT,
        "findings": [asdict(finding) for finding in findings],
        "measurements": asdict(measured),
    }
    data = json.dumps(content, indent=1, allow_nan=False)
    write_atomic(folder / "report.json", f"{data}\n".encode())
    html = render_report(title, trained, measured, findings, report.pictures)
    write_atomic(folder / "report.html", html.encode())
    return report
