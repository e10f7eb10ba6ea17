"""Disable every check of the loaders and writers in turn; each time a test must fail.

    python -m tests.security.mutate [MODULE...]

For each check, the tests that reach it run without it, the fastest first, until one fails.
Surviving mutants are printed with their line; EQUIVALENT lists those without visible effect.
The exit code is 1 if any other mutant survives, or if an entry of EQUIVALENT is not needed.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections import Counter

from .checks import mutants
from .modules import EQUIVALENT, ROOT, files_of, names, source_of
from .runs import Tests, with_tests


def main() -> None:
    """Disable the checks of every module, or of those named on the command line."""
    os.chdir(ROOT)
    wanted = sys.argv[1:] or names()
    files = dict.fromkeys(test for name in wanted for test in files_of(name))
    total = Counter[str]()

    def work(tests: Tests) -> None:
        print(f"{len(tests.seconds)} tests", flush=True)
        for name in wanted:
            total.update(disable(name, tests))

    with_tests(list(files), [source_of(name) for name in wanted], work)
    print(f"{total.total() - total['stale']} checks disabled: {dict(total)}")
    sys.exit(1 if total["survived"] or total["stale"] else 0)


def disable(name: str, tests: Tests) -> Counter[str]:
    """Disable each check of a module and count the results."""
    began, tally = time.perf_counter(), Counter[str]()
    path, reasons, used = source_of(name), EQUIVALENT.get(name, {}), set()
    importlib.import_module(name)
    for mutant in mutants(path.read_text()):
        found = tests.run(path, mutant)
        known = next((part for part in reasons if mutant.what.startswith(part)), None)
        if found == "survived" and known is not None:
            used.add(known)
            found = "equivalent"
        tally[found] += 1
        if found in ("survived", "equivalent"):
            print(f"{name}:{mutant.lines.start}: {mutant.what[:110]}: {found}", flush=True)
    for part in reasons.keys() - used:
        tally["stale"] += 1
        print(f"{name}: {part}: does not survive, remove it from the list", flush=True)
    print(f"{name}: {dict(tally)}, {time.perf_counter() - began:.0f} s", flush=True)
    return tally


if __name__ == "__main__":
    main()
