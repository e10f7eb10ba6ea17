"""The report of a finished run: measurements, findings, pictures, and a page with all of them.

`measure` takes the measurements, `find_problems` derives findings from them, and `write_report`
writes both, with the pictures, into the run folder.
"""

from __future__ import annotations

from .figures import Picture
from .findings import Finding, find_problems
from .measure import Measurements, measure
from .trained_model import TrainedModel
from .write import Report, write_report

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
