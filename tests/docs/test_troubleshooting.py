"""Every line that the troubleshooting page quotes is in the code, so that a search finds it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from .pages import ROOT, find_examples

pytestmark = pytest.mark.torch_free

PACKAGES = ("runtime/vae_runtime", "models/vae_models", "export/vae_export", "train/vae_train")


def texts(source: str) -> Iterator[str]:
    """Yield every string of a module; of an f-string, the parts between its values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_quoted_messages_exist() -> None:
    known = "\0".join(
        text
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for text in texts(path.read_text(encoding="utf-8"))
    )
    quoted = [
        line
        for example in find_examples()
        if example.page == "docs/troubleshooting.md" and example.language == "text"
        for line in example.text.splitlines()
    ]
    assert len(quoted) > 15
    # A message may be put together from several strings: at values, and between its sentences.
    parts = [part for line in quoted for part in re.split(r"…|[.:;] ", line)]
    parts = [part for part in parts if re.search(r"\w{2}", part)]
    assert not [part for part in parts if part not in known]


def test_the_parts_of_an_f_string_are_found() -> None:
    assert list(texts('f"{name}: no such file"')) == [": no such file"]
