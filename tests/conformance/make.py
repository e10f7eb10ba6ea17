"""Write the corpus: `python -m tests.conformance.make FOLDER`.

Each case becomes a file or folder with its number as the name. `cases.json` lists name, rule,
verdict and path of each case, and whether only native readers give that verdict.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conformance import containers, contents, json_text, manifests
from tests.conformance.corpus import Case


def every_case() -> Iterator[Case]:
    """Return the whole corpus in a fixed order."""
    yield from containers.all_cases()
    yield from json_text.all_cases()
    yield from manifests.all_cases()
    yield from contents.all_cases()


def write(folder: Path) -> list[tuple[Case, Path]]:
    """Write every case into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for index, case in enumerate(every_case()):
        path = folder / f"{index:03}{case.suffix}"
        case.make(path)
        made.append((case, path))
    return made


if __name__ == "__main__":
    target = Path(sys.argv[1])
    rows = [
        {"name": case.name, "rule": case.rule, "verdict": case.verdict, "native": case.native,
         "path": str(path)}
        for case, path in write(target)
    ]  # fmt: skip
    (target / "cases.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    print(f"{len(rows)} bundles in {target}")
