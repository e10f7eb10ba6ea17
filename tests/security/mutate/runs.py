"""Run the tests that reach a disabled check, the fastest first.

The tests are collected once. Every run is in a forked child, in which the changed code takes the
place of that of the functions, wherever they were imported.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from .checks import Mutant

_OPTIONS = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
_OPTIONS += ["-m", "not slow and not cuda", "-k", "not mutants"]  # random mutants are slow
_OPTIONS += ["-o", "tmp_path_retention_policy=none"]
_NOT_CHANGED = 2  # exit code of a subprocess that could not change the code
# Address space of a subprocess: a reader without its limit would use all memory.
_MEMORY = 6 << 30
_SECONDS = 20.0  # processor time of a subprocess, at least; ten times as much wall time


class Tests:
    """The tests of a pytest session, and the lines of certain files that each test reaches."""

    def __init__(self, session: pytest.Session, paths: Iterable[Path]) -> None:
        """Run all tests once with the unchanged code; report and drop those that fail."""
        self._session = session
        self._items = {item.nodeid: item for item in session.items}
        watch = _Watch({str(path) for path in paths})
        ends = os.pipe()

        def tell() -> None:
            with os.fdopen(ends[1], "wb") as pipe:
                pickle.dump((watch.seconds, dict(watch.lines), self._failed), pipe)

        self._failed: list[str] = []
        child = self._fork(lambda: None, list(self._items), 3600, watch, tell)
        os.close(ends[1])
        with os.fdopen(ends[0], "rb") as pipe:
            self.seconds, self.lines, failed = pickle.load(pipe)
        os.waitpid(child, 0)
        for test in failed:
            self.lines.pop(test, None)
            print(f"fails without any change, left out: {test}", flush=True)

    def run(self, path: Path, mutant: Mutant) -> str:
        """Run the tests and return `killed` if one failed, `survived` if none did, or `timeout`."""
        wanted = {(str(path), line) for line in mutant.lines}
        reached = [test for test, seen in self.lines.items() if test and seen & wanted]
        order = sorted(reached, key=self.seconds.__getitem__)
        seconds = _SECONDS + 3 * sum(self.seconds[test] for test in order)
        child = self._fork(lambda: swap(path, mutant.tree()), order, seconds)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _NOT_CHANGED:
            raise RuntimeError(f"{path}:{mutant.lines.start}: cannot be changed")
        if os.WIFSIGNALED(status):
            late = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
            return "timeout" if late else "killed"
        return "killed" if os.WEXITSTATUS(status) else "survived"

    def _fork(
        self,
        change: Callable[[], None],
        order: Sequence[str],
        seconds: float,
        watch: _Watch | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> int:
        """Fork a subprocess, call `change` and run tests: all with `watch`, or until one fails."""
        child = os.fork()
        if child:
            return child
        code = _NOT_CHANGED
        with contextlib.suppress(BaseException):
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.alarm(round(10 * seconds))
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            change()
            code = 1
            items = [self._items[test] for test in order]
            for item, following in zip(items, [*items[1:], None], strict=True):
                with watch.during(item.nodeid) if watch else contextlib.nullcontext():
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self._session.testsfailed > len(self._failed):
                    self._failed.append(item.nodeid)
                    if watch is None:
                        break
            after()
            code = int(bool(self._failed))
        os._exit(code)


def with_tests(files: Sequence[str], paths: Sequence[Path], work: Callable[[Tests], None]) -> None:
    """Collect tests, record which lines of `paths` they reach, and call `work` with them.

    Raises:
        SystemExit: the tests cannot be collected.
    """

    class Plugin:
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            if session.testsfailed:
                raise session.Interrupted("the tests cannot be collected")
            session.config.pluginmanager.unregister(name="terminalreporter")
            work(Tests(session, paths))
            return True

    code = pytest.main([*_OPTIONS, *files], plugins=[Plugin()])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(int(code))


def swap(path: Path, tree: ast.Module) -> None:
    """Replace the code of every function of a file by the code compiled from a tree."""
    compiled = {_place(code): code for code in _code_objects(compile(tree, str(path), "exec"))}
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename == str(path):
            new = compiled.get(_place(thing.__code__))
            if new is not None and len(new.co_freevars) == len(thing.__code__.co_freevars):
                thing.__code__ = new


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _code_objects(code: CodeType) -> Iterator[CodeType]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from _code_objects(part)


class _Watch:
    """Records the processor time of each test, and the lines of certain files that it reaches."""

    def __init__(self, paths: set[str]) -> None:
        self._paths, self._test = paths, ""
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, set[tuple[str, int]]] = defaultdict(set)

    @contextlib.contextmanager
    def during(self, test: str) -> Iterator[None]:
        """Record while one test runs."""
        began, self._test = time.process_time(), test
        threading.settrace(self._call)
        sys.settrace(self._call)
        yield
        sys.settrace(None)
        self.seconds[test] = time.process_time() - began

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self._paths:
            return None
        return self._line(frame, event, argument)

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.lines[self._test].add((frame.f_code.co_filename, frame.f_lineno))
        return self._line
