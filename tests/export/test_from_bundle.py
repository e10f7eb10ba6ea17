"""`vae-export --bundle`: other targets of a finished bundle, where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vae_export.targets.triton import write_triton
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.studio import fetch

pytestmark = pytest.mark.torch_free

BUNDLE = Path(__file__).parents[1] / "data" / "cvae_mlp.zip"
WITHOUT = (
    "import sys\nfor name in sys.argv.pop(1).split(','): sys.modules[name] = None\n"
    "from vae_export.cli import main; main()"
)


def run(*args: str | Path, without: str = "torch,onnx,onnxscript") -> tuple[int, str]:
    """Run `vae-export` in a process that cannot import some packages."""
    command = [sys.executable, "-c", WITHOUT, without, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_triton_needs_neither_torch_nor_onnx(tmp_path: Path) -> None:
    code, text = run("--bundle", BUNDLE, "--triton", tmp_path / "models")
    assert (code, text.splitlines()[-1][:6]) == (0, "wrote ")
    bundle = open_bundle(BUNDLE)
    names = write_triton(bundle.manifest, bundle.read_all(), tmp_path / "expected", "cvae_mlp")
    for name in names:
        for file in ("1/model.onnx", "config.pbtxt", "labels.txt"):
            found = (tmp_path / "models" / name / file).read_bytes()
            assert found == (tmp_path / "expected" / name / file).read_bytes()


def test_html_needs_neither_torch_nor_onnx(tmp_path: Path) -> None:
    if not fetch.present():
        pytest.skip(f"no onnxruntime-web: run {fetch.COMMAND}")
    code, _ = run("--bundle", BUNDLE, "--html", tmp_path / "x.html")
    assert code == 0
    assert (tmp_path / "x.html").read_bytes().startswith(b"<!doctype html>")


def test_c_needs_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("emx_onnx_cgen", reason="the extra c is not installed")
    code, text = run("--bundle", BUNDLE, "--c", tmp_path / "c", without="torch")
    assert (code, text) == (0, f"wrote {tmp_path / 'c'}. Next: make -C {tmp_path / 'c'}\n")
    assert (tmp_path / "c" / "decoder.c").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--bundle: add --c, --triton or --html, for what to write."),
        (("--ckpt", "x.pt", "--triton", "t"), "--ckpt: no effect with --bundle. Leave it out."),
        (("--variant", "int8", "--triton", "t"), "--variant: no effect with --bundle. Leave it"),
        (("--opset", "19", "--triton", "t"), "--opset: no effect with --bundle. Leave it out."),
    ],
)
def test_what_has_no_effect_is_refused(args: tuple[str, ...], message: str) -> None:
    code, text = run("--bundle", BUNDLE, *args)
    assert code == 2
    assert text.startswith(f"error: {message}")


def test_a_missing_bundle(tmp_path: Path) -> None:
    code, text = run("--bundle", tmp_path / "none", "--triton", tmp_path / "t")
    assert code == 6
    assert text.startswith(f"error: {tmp_path / 'none'}: no such bundle.")
    assert not (tmp_path / "t").exists()
