"""Fuzz one reader with atheris, guided by coverage. Run `pip install atheris`, then

    python -m tests.fuzz.fuzz TARGET [SECONDS] [FOLDER]

FOLDER keeps the corpus between runs. The run ends at the first input that raises anything but a
`VaeError`, takes more than ten seconds, or uses more than a gigabyte of memory. It writes that
input to `crash-…` in the current folder.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Write the seeds to the corpus and fuzz the target."""
    import atheris

    with atheris.instrument_imports(
        include=["vae_runtime", "vae_train.checkpoint_file", "zipfile"]
    ):
        from tests.fuzz.targets import TARGETS, accepts
    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "120"
    if name not in TARGETS:
        sys.exit(f"{name}: unknown target, expected one of: {', '.join(TARGETS)}")
    with contextlib.ExitStack() as stack:
        corpus = Path(
            sys.argv[3] if len(sys.argv) > 3
            else stack.enter_context(tempfile.TemporaryDirectory(prefix=f"corpus-{name}-"))
        )  # fmt: skip
        corpus.mkdir(parents=True, exist_ok=True)
        for i, raw in enumerate(TARGETS[name].seeds()):
            (corpus / f"seed-{i:02}").write_bytes(raw)
        options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=1024",
                   "-max_len=20000", "-print_final_stats=1", "-verbosity=1"]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, str(corpus)], lambda raw: accepts(name, raw))
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
