"""Manners that all commands share: options, help, completion, pipes, terminals and errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.shell_completion import BashComplete

from vae_runtime.cli import COMMANDS, cli
from vae_runtime.console import format_duration

from .conftest import Run

pytestmark = pytest.mark.torch_free


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command of all three programs, by what a user types."""
    from vae_export.cli import cli as export
    from vae_train.cli import cli as train

    yield from (("vae-train", train), ("vae-export", export))
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"vae-run {name} {inner}", c) for inner, c in command.commands.items())
        else:
            yield f"vae-run {name}", command


def all_options() -> list[tuple[str, click.Option]]:
    return [(n, p) for n, c in commands() for p in c.params if isinstance(p, click.Option)]


def test_an_option_means_the_same_in_every_command() -> None:
    """A long name always has the same short name and the same kind of value."""
    kinds: dict[str, set[Any]] = defaultdict(set)
    shorts: dict[str, set[str]] = defaultdict(set)
    for _, option in all_options():
        long = max(option.opts, key=len)
        short = tuple(sorted(o for o in option.opts if len(o) == 2))
        kinds[long].add((option.is_flag, short))
        for name in short:
            shorts[name].add(long)
    different = {
        "--samples": "-k where it is the K of the IWAE bound",
        "--binarise": "whether, at every step of training; how, in an evaluation",
    }
    assert {n for n, found in kinds.items() if len(found) > 1} == different.keys()
    # vae-train's own K is --importance-samples.
    assert {n for n, longs in shorts.items() if len(longs) > 1} == {"-k"}


@pytest.mark.parametrize("name", ["--out", "--quiet", "--size", "--data", "--threads", "--device"])
def test_shared_options_exist_in_more_than_one_program(name: str) -> None:
    programs = {n.split()[0] for n, option in all_options() if name in option.opts}
    assert len(programs) > 1, programs


def test_every_command_can_be_quiet(run: Run, cvae_path: Path) -> None:
    assert all("-q" in {o for p in c.params for o in p.opts} for _, c in commands())
    done = run("sample", cvae_path, "-q", "-o", "x.png")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert run("sample", "nowhere", "-q").error.startswith("error: nowhere: no such bundle")


def test_every_default_is_in_the_help() -> None:
    group = click.Context(cli, **cli.context_settings)
    for name, command in commands():
        parent = group if name.startswith("vae-run") else None
        context = click.Context(command, parent=parent, **command.context_settings)
        for option in command.params:
            if isinstance(option, click.Option) and not (option.required or option.is_flag):
                record = option.get_help_record(context)
                assert record is not None
                default = option.get_default(context)
                has_default = isinstance(default, str | int | float)
                assert not has_default or "default: " in record[1], (name, option.name)


def test_every_summary_is_whole(run: Run) -> None:
    for args in (("--help",), ("batch", "--help")):
        listed = run(*args).out.decode().partition("Commands:")[2].partition("Examples:")[0]
        assert "..." not in listed
        assert all(entry.rstrip().endswith(".") for entry in listed.strip().split("\n\n"))


@pytest.mark.parametrize("command", ["sample", "traverse", "verify", "info"])
def test_the_bundle_is_an_argument_or_an_option(
    run: Run, cvae_path: Path, tmp_path: Path, command: str
) -> None:
    assert run(command, cvae_path).code == 0
    assert run(command, "--bundle", cvae_path).code == 0
    done = run(command, cvae_path, "-b", cvae_path)
    assert (done.code, done.error) == (
        2, "error: BUNDLE and --bundle are both given. Leave one out.",
    )  # fmt: skip


@pytest.mark.parametrize(
    "typed",
    ["sample ", "sample --bundle ", "sample -o ", "sample --latents ", "reconstruct ", "decode ",
     "interpolate ", "traverse --from ", "score --normal ", "evaluate ", "studio --data "],
)  # fmt: skip
def test_file_names_are_completed(typed: str) -> None:
    complete = BashComplete(cli, {}, "vae-run", "_VAE_RUN_COMPLETE")
    found = complete.get_completions(typed.split(), "dig")
    assert [item.type for item in found] == ["file"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("reconstruct", "s.png", "-o", "s.png"), "s.png"),
        (("reconstruct", "folder", "-o", "folder/1.png"), "folder/1.png"),
        (("reconstruct", "folder", "-o", "folder"), "folder"),
        (("reconstruct", "reconstruction.png"), "reconstruction.png"),
        (("encode", "z.npy", "-o", "./z.npy"), "z.npy"),
        (("decode", "z.npy", "-o", "z.npy"), "z.npy"),
        (("sample", "--latents", "z.npy", "-o", "z.npy"), "z.npy"),
        (("sample", "bundle", "-o", "bundle"), "bundle"),
        (("traverse", "--from", "s.png", "-o", "link.png"), "link.png"),
        (("interpolate", "s.png", "s.png", "-o", "s.png"), "s.png"),
        (("score", "s.csv", "-o", "s.csv"), "s.csv"),
    ],
)
def test_an_input_is_never_overwritten(run: Run, args: tuple[str, ...], named: str) -> None:
    Path("folder").mkdir()
    Path("bundle").mkdir()
    for name in ("s.png", "folder/1.png", "z.npy", "s.csv", "reconstruction.png"):
        Path(name).write_bytes(b"kept")
    Path("link.png").symlink_to("s.png")
    done = run(*args)
    assert (done.code, done.error) == (
        2, f"error: {named}: is an input and would be overwritten. Choose another --out.",
    )  # fmt: skip
    assert Path("s.png").read_bytes() == b"kept"


def test_a_picture_beside_the_inputs_is_allowed(run: Run, cvae_path: Path, digits: Path) -> None:
    assert run("reconstruct", digits, "-b", cvae_path, "-o", digits / "both.png").code == 0


def test_images_left_in_a_folder_are_named(run: Run, cvae_path: Path) -> None:
    assert run("sample", cvae_path, "-n", 5, "-o", "out", "--seed", 0).err.count("\n") == 1
    assert run("sample", cvae_path, "-n", 5, "-o", "out", "--seed", 1).err.count("\n") == 1
    done = run("sample", cvae_path, "-n", 3, "-o", "out", "--seed", 0)
    assert done.err.splitlines()[0] == (
        "note: out: keeps 2 other images from before, such as 003.png"
    )
    assert len(list(Path("out").iterdir())) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of a shell")
@pytest.mark.parametrize("program", ["vae_runtime.cli", "vae_train.cli", "vae_export.cli"])
def test_head_ends_a_command_without_an_error(program: str) -> None:
    code = f"import sys; from {program} import main; sys.argv[1:] = ['--help']; main()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert (child.wait(), child.stderr.read()) == (0, b"")


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", ["png", "npy", "npz"])
def test_binary_data_is_not_printed_on_a_terminal(
    cvae_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from vae_runtime.cli.options import OutputOptions
    from vae_runtime.errors import UsageError

    monkeypatch.setattr(sys, "stdout", Terminal(io.BytesIO()))
    with pytest.raises(UsageError, match=rf"^-o - would print {kind} data to the terminal"):
        OutputOptions(out="-", format=kind).check(f".{kind}")
    OutputOptions(out="-", format="csv").check(".csv")


@pytest.mark.parametrize(
    ("args", "code", "kind"),
    [
        (("sample", "nowhere", "--json"), 6, "NotFound"),
        (("sample", "--nonsense", "--json"), 2, "UsageError"),
        (("sample", "--label", "eleven", "--json"), 2, "UsageError"),
        (("sample", "-n", "9", "--max-images", "8", "--json"), 5, "LimitError"),
        (("reconstruct", "bad.png", "--json"), 3, "InputError"),
    ],
)
def test_an_error_is_json_too(
    run: Run, cvae_path: Path, args: tuple[str, ...], code: int, kind: str
) -> None:
    Path("bad.png").write_bytes(b"no image")
    more = () if "nowhere" in args else ("-b", cvae_path)
    done = run(*args, *more)
    error = json.loads(done.out)["error"]
    assert (done.code, error["type"], error["exit_code"]) == (code, kind, code)
    assert done.err == f"error: {error['message']}\n"


def test_a_failed_verify_prints_one_document(run: Run, cvae_path: Path) -> None:
    done = run("verify", cvae_path, "--tolerance", 0, "--json")
    assert done.code == 4
    assert json.loads(done.out)["ok"] is False
    assert done.err.startswith("error: ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7_800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_standard_error_may_be_closed(cvae_path: Path, tmp_path: Path) -> None:
    script = 'exec "$0" -m vae_runtime sample "$1" --seed 0 -o x.npy 2>&- >&- <&-'
    command = ["sh", "-c", script, sys.executable, str(cvae_path)]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert np.load(tmp_path / "x.npy").shape == (1, 1, 8, 8)


def test_the_environment_is_not_changed() -> None:
    code = (
        "import os; before = dict(os.environ); import vae_runtime as vae\n"
        "vae.load().sample(1); after = dict(os.environ)\n"
        "print(sorted(k for k in after if after[k] != before.get(k)))"
    )
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout == "['ORT_DISABLE_TELEMETRY']\n"
