"""Skip tests that need torch if it is not installed."""

from __future__ import annotations

import importlib.util

collect_ignore = (
    [] if importlib.util.find_spec("torch") is not None else ["test_hostile_checkpoints.py"]
)
