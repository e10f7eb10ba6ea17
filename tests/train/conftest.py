"""Seed torch for each test, and do not collect the tests if torch is not installed."""

from __future__ import annotations

import importlib.util

from tests.models.conftest import seeded as seeded

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
