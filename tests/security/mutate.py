"""Turn off every check of the loaders and writers in turn; some test must fail each time.

    python -m tests.security.mutate [MODULE...]

A mutant has one `raise` removed, or one operand of a condition that guards a `raise` or is returned
made true (in `and`) or false (in `or`). Each runs in a forked child, in which the changed source
takes the place of the module; its tests stop at the first failure. Survivors are printed with
their line; those in EQUIVALENT change nothing that can be seen, for the reason given.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS = 90  # of one mutant's tests
RUNTIME, TRAIN = ROOT / "runtime" / "vae_runtime", ROOT / "train" / "vae_train"
_LIMITS = ["tests/security/test_guards.py", "tests/security/test_guard_limits.py"]
_GRAPHS = [*_LIMITS, "tests/security/test_graphs.py"]
_BUNDLES = [*_LIMITS, "tests/security/test_bad_bundles.py"]
_FILES = ["tests/runtime/test_files.py", "tests/security/test_guards.py",
          "tests/security/test_full_disk.py", "tests/security/test_kills.py"]  # fmt: skip
_POINTS = ["tests/train/test_checkpoint.py", "tests/security/test_hostile_checkpoints.py"]
# The modules, and the tests that must notice, the quickest first.
TESTS: dict[str, list[str]] = {
    "vae_runtime.guard.wire": _GRAPHS,
    "vae_runtime.guard.tensors": _GRAPHS,
    "vae_runtime.guard.nodes": _GRAPHS,
    "vae_runtime.guard.model": _GRAPHS,
    "vae_runtime.guard.promise": _GRAPHS,
    "vae_runtime.guard.seal": ["tests/security/test_bit_rot.py", *_GRAPHS],
    "vae_runtime.guard.trial": ["tests/security/test_trial.py"],
    "vae_runtime.archive": [*_BUNDLES, "tests/security/test_bit_rot.py"],
    "vae_runtime.bundle": [*_BUNDLES, "tests/security/test_bit_rot.py"],
    "vae_runtime.schema": _BUNDLES,
    "vae_runtime.card": _BUNDLES,
    "vae_runtime.manifest": _BUNDLES,
    "vae_runtime.graphs": ["tests/runtime/test_graphs.py", "tests/security/test_guards.py",
                           "tests/runtime/test_api.py", "tests/security/test_bit_rot.py"],
    "vae_runtime.arrays": ["tests/runtime/test_arrays.py", "tests/security/test_wrong_numbers.py"],
    "vae_runtime.npz": ["tests/security/test_guards.py",
                        "tests/runtime/test_golden.py", "tests/runtime/test_datasets_files.py"],
    "vae_runtime.datasets.idx": ["tests/runtime/test_datasets_idx.py",
                                 "tests/security/test_guards.py"],
    "vae_runtime.files": _FILES,
    "vae_runtime.leftovers": _FILES,
    "vae_runtime.exchange": _FILES,
    "vae_runtime.images": ["tests/runtime/test_images.py", "tests/runtime/test_pictures.py",
                           "tests/security/test_hostile_images.py"],
    "vae_train.container": _POINTS,
    "vae_train.checkpoint": _POINTS,
}  # fmt: skip
# Part of the line, and why turning it off changes nothing.
EQUIVALENT = {
    "archive: raise ValueError('files overlap')": "no digest that was written covers such a frame",
    "files: raise LimitError(f'{path}: over {limit >> 20:,} MB')": "saves reading what is too big",
    "container: not isinstance(argument, int)": "always a number there; the type checker asks",
}
_REWRITE = "ignore::pytest.PytestAssertRewriteWarning"  # hypothesis is imported already
_ALL = ast.BoolOp(ast.And(), [])


class Mutant(NamedTuple):
    """One check turned off: where, what it was, and the module without it."""

    module: str
    line: int
    what: str
    tree: ast.Module


def source(module: str) -> Path:
    package, _, rest = module.partition(".")
    folder = {"vae_runtime": RUNTIME, "vae_train": TRAIN}[package]
    return folder / f"{rest.replace('.', '/')}.py"


def mutants(module: str) -> Iterator[Mutant]:
    """Every check of a module, turned off."""
    tree = ast.parse(source(module).read_text())
    for index, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.Raise):
            yield _changed(module, tree, index, node, ast.Pass())
        for place, value in _operands(node):
            put = ast.Constant(isinstance(place, ast.BoolOp) and isinstance(place.op, ast.And))
            yield _changed(module, tree, _index(tree, value), value, put)


def _operands(node: ast.AST) -> Iterator[tuple[ast.BoolOp, ast.expr]]:
    """Operands of conditions that guard a `raise`, or that a function of checks returns."""
    test: ast.expr | None = None
    if isinstance(node, ast.If) and any(isinstance(s, ast.Raise) for s in node.body):
        test = node.test
    elif isinstance(node, ast.Return):
        test = node.value
    elif isinstance(node, ast.Dict):  # of checks by what they are called
        checks = [v for v in node.values if isinstance(v, (ast.BoolOp, ast.Compare))]
        yield from ((_ALL, check) for check in checks)
        parts = [v for v in checks if isinstance(v, ast.BoolOp)]
        yield from ((part, value) for part in parts for value in part.values)
    for part in ast.walk(test) if test is not None else ():
        # What is returned by `or` is a default, not a check.
        default = isinstance(node, ast.Return) and not isinstance(getattr(part, "op", 0), ast.And)
        if isinstance(part, ast.BoolOp) and not default:
            yield from ((part, value) for value in part.values)


def _index(tree: ast.Module, wanted: ast.AST) -> int:
    return next(i for i, node in enumerate(ast.walk(tree)) if node is wanted)


def _changed(
    module: str, tree: ast.Module, index: int, old: ast.expr | ast.stmt, new: Any
) -> Mutant:
    """A copy of the tree with the node of that index replaced."""
    other = copy.deepcopy(tree)
    wanted = next(node for i, node in enumerate(ast.walk(other)) if i == index)

    class Swap(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return ast.copy_location(new, node) if node is wanted else self.generic_visit(node)

    what = " ".join(ast.unparse(old).split())
    return Mutant(module, old.lineno, what, ast.fix_missing_locations(Swap().visit(other)))


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the changed source for one module, and leaves all others alone."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.mutant.module:
            return None
        return importlib.util.spec_from_file_location(name, source(name), loader=self)

    def exec_module(self, module: Any) -> None:
        exec(compile(self.mutant.tree, module.__spec__.origin, "exec"), module.__dict__)


def run(mutant: Mutant | None, tests: list[str]) -> str:
    """`killed` if a test failed, `survived` if none did, `timeout`, in a forked child."""
    child = os.fork()
    if child == 0:
        import pytest

        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        if mutant is not None:
            sys.meta_path.insert(0, Finder(mutant))
        signal.alarm(SECONDS)
        code = 3
        with contextlib.suppress(BaseException):
            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", _REWRITE]
            few = ["-m", "not slow and not cuda", "-k", "not mutants"]  # chance finds nothing fast
            code = int(pytest.main([*options, *few, *tests]))
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) == signal.SIGALRM else "killed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "killed"


def reason(mutant: Mutant) -> str:
    """Why a survivor changes nothing, or nothing."""
    key = f"{mutant.module.partition('.')[2]}: {mutant.what}"
    return next((why for part, why in EQUIVALENT.items() if key.startswith(part)), "")


def main() -> None:
    """Every module, or those named; the exit code is 1 where a mutant survives without a reason."""
    import hypothesis  # noqa: F401 - what every child needs is imported once
    import numpy as np  # noqa: F401
    import onnxruntime  # noqa: F401
    import PIL.Image  # noqa: F401
    import pytest  # noqa: F401

    os.chdir(ROOT)
    wanted = sys.argv[1:] or list(TESTS)
    if any(name.startswith("vae_train") for name in wanted):
        with contextlib.suppress(ImportError):
            import torch  # noqa: F401
    total: Counter[str] = Counter()
    for module in wanted:
        began, tally = time.perf_counter(), Counter[str]()
        tests = [test for test in TESTS[module] if (ROOT / test).exists()]
        assert run(None, tests) == "survived", f"{module}: its tests fail without any change"
        for mutant in mutants(module):
            found = run(mutant, tests)
            why = reason(mutant) if found == "survived" else ""
            tally["equivalent" if why else found] += 1
            if found == "survived":
                print(
                    f"{module}:{mutant.line}: {mutant.what[:110]} {why or 'SURVIVED'}", flush=True
                )
        print(f"{module}: {dict(tally)}, {time.perf_counter() - began:.0f} s", flush=True)
        total += tally
    print(f"{sum(total.values())} checks turned off: {dict(total)}")
    sys.exit(1 if total["survived"] else 0)


if __name__ == "__main__":
    main()
