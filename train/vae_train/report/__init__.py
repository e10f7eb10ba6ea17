"""What a finished run is judged by: measurements, warnings, pictures, one page.

`measure` takes the figures, `advise` turns them into warnings, `write_report` puts both with the
pictures into the run's folder.
"""

from __future__ import annotations

from .advice import Finding, advise
from .figures import Figures
from .measure import measure
from .recorder import Recorder
from .subject import Subject
from .write import Report, write_report

__all__ = [
    "Figures",
    "Finding",
    "Recorder",
    "Report",
    "Subject",
    "advise",
    "measure",
    "write_report",
]
