"""Words to avoid in code, help, errors and pages, and what readers in this field expect instead."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch_free

ROOT = Path(__file__).parent.parent
_UNITS = "pixels?|nats|latents|images|bytes|errors?|lines?|rows?|samples|bits|microseconds|seconds"
_PER = "pixel|image|dimension|digit|class|row|second|step|run|call|batch|file|label|sample|core"
BETTER = {
    rf"\b({_UNITS}) an? ({_PER})\b": "per",
    r"\b[Ss]ay `?--": "use --option",
    r"\b[Bb]ehind (the|that|its|it|a|an|each|them|this)\b": "after",
    r"\b[Ss]tands? (there|beside|for itself|in the)\b": "is",
    r"\"[Oo]f (those|these|the) [a-z ]+\.\"": "a whole phrase",
    r"\b[Ll]ikewise\.": "the thing itself",
    r"\b(stranger|strangers|foreign)\b": "custom module, or untrusted",
    r"(?<![Mm]odel )\b(card|cards)\b": "spec, or a hub's model card",
    r"\b(seal|seals|sealed|unsealed)\b": "checksum",
    r"\b(leftover|leftovers)\b": "temporary files",
    r"\b(trial|trials)\b": "smoke test",
    r"\b[Pp]arity gate\b|\bthe gate\b": "parity check",
    r"\b(a code|codes of|the codes|mean code|mean codes|codes f32)\b": "latents",
    r"\b(grayscale|gray|optimize(?!=)|optimizes|optimized|optimizing)\b": "grey, optimise",
    r"--(codes|pixel-limit|draws)\b": "--latents, --max-pixels, --samples",
}
ENDINGS = {".py", ".md", ".js", ".mjs", ".c", ".h", ".html", ".css", ".toml", ""}
ALLOWED = {
    # Words of others: keys of Python's own modules, names in ONNX, legal texts.
    "tests/test_words.py": "*",
    "LICENSE": "*",
}


def tracked() -> list[Path]:
    """The text files of the checkout."""
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [
        ROOT / name for name in names if Path(name).suffix in ENDINGS and ALLOWED.get(name) != "*"
    ]


@pytest.mark.parametrize("pattern", BETTER)
def test_words_are_the_field_s(pattern: str) -> None:
    word = re.compile(pattern)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if word.search(line)
    ]
    assert not found, f"write {BETTER[pattern]} instead"
