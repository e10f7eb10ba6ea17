"""What is done: one line a finished part while a job runs, `parts.json` when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import FileError, InputError
from ..files.atomic import write_atomic
from .mapper import Mapper
from .part import Done
from .plan import Plan

NAME = "parts.json"
LINES = (
    "parts.jsonl"  # appended to, a line a part: rewriting a long list for each takes ever longer
)
FORMAT = 1
_ELSEWHERE = "Name another folder."


def describe(mapper: Mapper, plan: Plan) -> dict[str, Any]:
    """What a job is: the same description gives the same files."""
    return {
        "format": FORMAT,
        "verb": mapper.verb,
        "bundle_sha256": mapper.sha256,
        "options": asdict(mapper.options),
        "input_sha256": plan.digest,
        "parts": len(plan.parts),
        "rows": plan.rows,
    }


class Journal:
    """The record of one output folder.

    Attributes:
        done: the finished parts by file name.
    """

    def __init__(self, out: Path, job: dict[str, Any], *, resume: bool) -> None:
        """Open the folder, made where it is missing.

        Args:
            out: the output folder.
            job: what `describe` gave.
            resume: go on with what an earlier run of the same job left; each finished part counts
                if its bytes still have the digest that was written down.

        Raises:
            InputError: the folder holds something else, or another job.
            FileError: it cannot be read or written.
        """
        self._out, self._job = out, job
        self._lines = out / LINES
        try:
            out.mkdir(parents=True, exist_ok=True)
            known = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
        except OSError as error:
            raise FileError(f"{out}: {(error.strerror or str(error)).lower()}") from error
        if known and not resume:
            raise InputError(
                f"{out}: not empty, it holds {known[0]}. Name another folder, or use --resume."
            )
        self.done = self._read() if known else {}
        for left in out.glob(".part-*.part"):  # of workers that were killed
            left.unlink(missing_ok=True)
        if not self.done:
            write_atomic(self._lines, _line(job))

    def add(self, done: Done) -> None:
        """Note a finished part; it is on the disk when this returns."""
        self.done[done.file] = done
        with self._lines.open("ab") as file:
            file.write(_line(asdict(done)))
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Write `parts.json`; the lines are not needed any more."""
        parts = [asdict(self.done[name]) for name in sorted(self.done)]
        whole = {
            **self._job,
            "errors": sum(done.errors for done in self.done.values()),
            "bytes": sum(done.bytes for done in self.done.values()),
            "producer": {"vae-onnx": __version__},
            "files": parts,
        }
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        write_atomic(self._out / NAME, f"{text}\n".encode())
        self._lines.unlink(missing_ok=True)
        for left in self._out.glob(".part-*.part"):
            left.unlink(missing_ok=True)

    def _read(self) -> dict[str, Done]:
        whole, lines = self._out / NAME, self._lines
        if whole.exists():
            data = _parse(whole.read_bytes(), whole)
            job, items = {key: data.get(key) for key in self._job}, data.get("files", [])
            write_atomic(lines, b"".join(map(_line, [job, *items])))
        elif lines.exists():
            # A line that was cut off belongs to a part that is simply done again.
            found = [_parse(line, lines) for line in lines.read_bytes().split(b"\n")[:-1]]
            job, items = (found[0] if found else {}), found[1:]
            write_atomic(lines, b"".join(map(_line, [job, *items])))
        else:
            raise InputError(f"{self._out}: no {NAME} in it, so no job to resume")
        if job != self._job:
            wrong = next(key for key in self._job if job.get(key) != self._job[key])
            raise InputError(
                f"{self._out}: holds another job, its {wrong} is another. {_ELSEWHERE}"
            )
        try:
            parts = [Done(**item) for item in items]
        except TypeError as error:
            raise InputError(f"{self._out}: its list of parts is damaged. {_ELSEWHERE}") from error
        return {done.file: done for done in parts if self._intact(done)}

    def _intact(self, done: Done) -> bool:
        try:
            with (self._out / done.file).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == done.sha256
        except OSError:
            return False


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


def _parse(raw: bytes, where: Path) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise InputError(f"{where}: damaged. {_ELSEWHERE}") from error
    if not isinstance(data, dict):
        raise InputError(f"{where}: damaged. {_ELSEWHERE}")
    return data
