"""Ctrl-C while a graph runs for minutes, and limits on the number of images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.security.build import graph, integers, model, node
from vae_runtime.cli import cli
from vae_runtime.errors import LimitError

pytestmark = pytest.mark.torch_free

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "cvae_mlp.zip"
SLOW = """
import os, sys
from pathlib import Path
import click
import numpy as np
from vae_runtime.console import exit_now, run
from vae_runtime.inference.interrupt import listen
from vae_runtime.inference.session import Session

raw = Path(sys.argv.pop()).read_bytes()

@click.command()
def command():
    session = Session(raw, device="cpu")
    os.write(1, b"x")
    session.run(["y"], x=np.zeros((1, 4), np.float32))

listen()
try:
    run(command, "slow")
except SystemExit as end:
    exit_now(end.code)
"""


def products(side: int, count: int) -> bytes:
    """A tiny graph of `count` products of square matrices, which runs for minutes."""
    nodes = [node("ReduceSum", "x", "one", keepdims=0), node("Expand", "one side", "a0")]
    nodes += [node("MatMul", f"a{i} a{i}", f"a{i + 1}") for i in range(count)]
    nodes += [node("ReduceSum", f"a{count}", "s", keepdims=0), node("Add", "x s", "y")]
    return model(graph(nodes, [integers("side", side, side)]))


@pytest.mark.skipif(os.name != "posix", reason="no SIGINT to send")
@pytest.mark.parametrize(
    ("side", "count", "pause"),
    [(1000, 2000, 0.3), (12_000, 1, 0.3), (1000, 2000, 0.0)],
    ids=["many operators", "one operator", "at once"],
)
def test_ctrl_c_in_a_slow_graph(side: int, count: int, pause: float, tmp_path: Path) -> None:
    path = tmp_path / "slow.onnx"
    path.write_bytes(products(side, count))
    command = [sys.executable, "-c", SLOW, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(1) == b"x"
        time.sleep(pause)
        pressed = time.monotonic()
        child.send_signal(signal.SIGINT)
        code, seconds = child.wait(timeout=60), time.monotonic() - pressed
        said = child.stderr.read()
    print(f"\n{seconds:.2f} s")
    assert code == 130
    assert said == b"error: interrupted\n"
    assert seconds < 2, "a second on an idle machine"


COUNT = "{needed:,} images, limit {limit:,}. Use --max-images {needed} to allow it."
PICTURE = (
    "a picture of {n} images would have {needed:,} pixels, limit {limit:,}. Write .npy, .npz, .csv "
    "or a folder, or use --max-pixels {needed}."
)


@pytest.mark.parametrize(
    ("arguments", "option", "needed", "message"),
    [
        ("sample --digit all -n 2 -o x.npy", "--max-images", 20, COUNT),
        ("decode z.csv -o x.csv", "--max-images", 3, COUNT),
        ("traverse -o x.npz", "--max-images", 88, COUNT),
        ("sample -n 4 --scale 2 -o x.png", "--max-pixels", 1600, PICTURE),
        ("sample -n 4 --scale 2 --show", "--max-pixels", 1600, PICTURE),
        ("traverse --dim 0 --scale 1 -o x.gif", "--max-pixels", 704, PICTURE),
    ],
)
def test_a_limit(
    arguments: str, option: str, needed: int, message: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("z.csv").write_text("0,0,0,0,0,0,0,0\n" * 3)
    command = [*arguments.split(), "-b", str(BUNDLE), option]
    with pytest.raises(LimitError) as caught:
        cli.main([*command, str(needed - 1)], standalone_mode=False)
    assert caught.value.exit_code == 5
    n = 4 if "sample" in arguments else 11
    assert str(caught.value) == message.format(n=n, needed=needed, limit=needed - 1)
    assert [p.name for p in tmp_path.iterdir()] == ["z.csv"]
    cli.main([*command, str(needed)], standalone_mode=False)  # exactly the limit is allowed


def test_more_than_a_million_images_need_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        LimitError, match=r"^1,000,001 images, limit 1,000,000\. .*--max-images 1000001"
    ):
        cli.main(["sample", "-n", "1000001", "-o", "x.npy"], standalone_mode=False)
