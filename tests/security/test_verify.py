"""`vae-run verify` runs graphs in a subprocess, which may crash, hang or fail in its place."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

import pytest

from tests.runtime.conftest import Run
from tests.runtime.conftest import run as run
from tests.security.rechecksum import read_files, with_checksums
from vae_runtime import verification
from vae_runtime.bundle.reader import Bundle, open_bundle, open_files
from vae_runtime.errors import DeviceError, InputError
from vae_runtime.verification import compare, compare_in_subprocess

pytestmark = pytest.mark.torch_free

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def bundle() -> Bundle:
    return open_bundle(DATA / "cvae_mlp.zip")


def test_it_finds_what_this_process_would_find(bundle: Bundle) -> None:
    assert compare_in_subprocess(bundle, device="cpu") == list(compare(bundle, device="cpu"))
    assert all(match.ok for match in compare_in_subprocess(bundle, device="cpu"))
    strict = compare_in_subprocess(bundle, device="cpu", tolerance=0.0)
    assert {match.tolerance for match in strict} == {0.0}


def test_the_path_of_the_bundle_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "ein Bündel\u2028.zip"
    path.write_bytes((DATA / "vae_mlp.zip").read_bytes())
    bundle = open_bundle(path)
    assert compare_in_subprocess(bundle, device="cpu") == list(compare(bundle, device="cpu"))


def python(tmp_path: Path, script: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("script", "where", "how"),
    [
        ("kill -8 $$", "encoder.onnx", "signal 8"),
        ("kill -11 $$", "encoder.onnx", "signal 11"),
        ("exit 1", "encoder.onnx", "an error or lack of memory"),
        ("exit 0", "encoder.onnx", "an error or lack of memory"),
    ],
)
def test_a_crash_is_reported(
    script: str, where: str, how: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "executable", python(tmp_path, script))
    with pytest.raises(InputError) as caught:
        compare_in_subprocess(bundle)
    assert str(caught.value) == (
        f"{bundle.name}/{where}: refused: running its golden vectors in a subprocess ended by {how}"
    )


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_an_endless_run_is_stopped(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", python(tmp_path, "exec sleep 60"))
    began = time.perf_counter()
    with pytest.raises(InputError) as caught:
        compare_in_subprocess(bundle, timeout=0.2)
    assert str(caught.value) == (
        f"{bundle.name}: refused: running the golden vectors took over 0.2 seconds. For a large "
        "model, raise --timeout."
    )
    assert time.perf_counter() - began < 10


def test_an_error_in_the_subprocess_is_raised_here() -> None:
    files = with_checksums(read_files(DATA / "cvae_mlp.zip") | {"golden.npz": b"not an archive"})
    with pytest.raises(InputError) as caught:
        compare_in_subprocess(open_files(files, "b"))
    assert str(caught.value) == "b/golden.npz: not a readable .npz of plain arrays"


def test_the_graphs_are_checked_before(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(raw: bytes, where: str) -> None:
        raise InputError(f"{where}: no")

    monkeypatch.setattr(verification, "check_graph", refuse)
    with pytest.raises(InputError, match=r"/encoder\.onnx: no$"):
        compare_in_subprocess(bundle)


def test_a_device_that_is_missing_is_a_device_error(bundle: Bundle) -> None:
    from vae_runtime.inference.devices import cuda_driver

    if cuda_driver().devices:
        pytest.skip("there is CUDA here")
    with pytest.raises(DeviceError, match=r"^device cuda:0: not available: "):
        compare_in_subprocess(bundle, device="cuda")


def test_modules_in_the_current_folder_are_not_imported(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("import pathlib; pathlib.Path('trap').touch()")
    monkeypatch.chdir(tmp_path)
    compare_in_subprocess(bundle, device="cpu")
    assert not (tmp_path / "trap").exists()


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_warnings_reach_the_caller(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = '["warning", "CUDA did not start (no driver); running on the CPU"]'
    monkeypatch.setattr(sys, "executable", python(tmp_path, f"echo '{line}'"))
    with (
        warnings.catch_warnings(record=True, action="always") as caught,
        pytest.raises(InputError, match="ended by an error"),
    ):
        compare_in_subprocess(bundle)
    assert [str(w.message) for w in caught] == [
        "CUDA did not start (no driver); running on the CPU"
    ]
    assert caught[0].filename == __file__


def test_a_frozen_program_compares_in_its_own_process(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert all(match.ok for match in compare_in_subprocess(bundle, device="cpu"))


def test_the_option_for_the_time(run: Run) -> None:
    done = run("verify", "-b", DATA / "vae_mlp.zip", "--timeout", "0.0001")
    assert done.code == 3
    assert done.error.endswith(
        "refused: running the golden vectors took over 0.0001 seconds. For a large model, raise "
        "--timeout."
    )
