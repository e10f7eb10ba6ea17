"""Export public modules, each library in its own environment, and write docs/modules.md.

    python -m tests.modules [--large] [--library NAME] [--environments FOLDER]

`--large` adds the autoencoder of Stable Diffusion, which takes about half an hour and 8 GB.
`--library` runs only the modules of one library and keeps the other rows of docs/modules.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from tests.modules.catalogue import CASES, Case
from tests.modules.page import page

ROOT = Path(__file__).parents[2]
JSON, PAGE = ROOT / "docs" / "modules.json", ROOT / "docs" / "modules.md"
PACKAGES = ("torch", "onnx", "onnxruntime", "diffusers", "pythae", "lightning")


def main() -> int:
    """Measure the chosen cases; return 1 if one did not do what it should."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--library", help="diffusers, pythae, lightning or torch")
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "modules")
    chosen = parser.parse_args()
    rows = json.loads(JSON.read_text())["rows"] if JSON.exists() else {}
    failed = []
    for case in CASES:
        if (case.large and not chosen.large) or chosen.library not in (None, name_of(case)):
            continue
        python = environment(case, chosen.environments)
        print(f"{case.name} …", file=sys.stderr, flush=True)
        rows[case.name] = run(case, python) | {"versions": versions(python)}
        if wrong := what_is_wrong(case, rows[case.name]):
            failed.append(f"{case.name}: {wrong}")
    known = {case.name: rows[case.name] for case in CASES if case.name in rows}
    document = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "rows": known}
    JSON.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(document))
    print(*failed, sep="\n", file=sys.stderr)
    return bool(failed)


def name_of(case: Case) -> str:
    """Return the library's name without its version; `torch` if it needs no other."""
    return case.library.partition("==")[0] or "torch"


def environment(case: Case, folder: Path) -> Path:
    """Return the Python of an environment with the case's library, made if missing."""
    home = folder / name_of(case)
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    done = home / "complete"
    if not done.exists():
        pins = ["-c", str(ROOT / "constraints.txt")]
        library = [case.library] if case.library else []
        command = [python, "-m", "pip", "install", "-q", *pins, "-e", f"{ROOT}[cpu,train]"]
        subprocess.run([*command, *library], check=True)
        done.touch()
    return python


def run(case: Case, python: Path) -> dict[str, Any]:
    """Measure one case in its environment."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-m", "tests.modules.measure", case.name, folder],
            cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        return {"crashed": done.returncode}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def versions(python: Path) -> dict[str, str]:
    """Return the versions of the packages that matter."""
    code = (
        "import importlib.metadata as m, json\n"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    installed = json.loads(done.stdout)
    return {name: installed[name] for name in PACKAGES if name in installed}


def what_is_wrong(case: Case, row: dict[str, Any]) -> str:
    """Describe how a result differs from what is promised; empty if it does not."""
    if "crashed" in row:
        return f"exit status {row['crashed']}"
    if case.refused or "refused" in row:
        reason = row.get("refused", "exported")
        return "" if case.refused and case.refused in reason else reason
    bad = [f"{name}: {text}" for name, text in row["commands"].items() if text != "ok"]
    return "; ".join(bad)


if __name__ == "__main__":
    sys.exit(main())
