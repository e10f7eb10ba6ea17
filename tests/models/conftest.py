"""Seed torch for each test, and do not collect the tests if torch is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Give each test the same random numbers, whichever tests run before it, and one thread."""
    import torch

    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
