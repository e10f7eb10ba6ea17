"""The exact error line and exit code for every wrong output, option or value."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .conftest import Run

pytestmark = pytest.mark.torch_free


def test_an_output_folder_that_does_not_exist(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-o", "no/x.png")
    assert (done.code, done.error) == (
        6, "error: no/x.png: there is no folder no. Create it first.",
    )  # fmt: skip


def test_an_unwritable_output(
    run: Run, cvae_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the system call is replaced.
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "locked")
    done = run("sample", "-b", cvae_path, "-o", "locked/x.png")
    assert (done.code, done.error) == (
        6, "error: locked/x.png: folder locked is not writable",
    )  # fmt: skip


def test_an_output_of_unknown_type(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-o", "x.tiff")
    assert (done.code, done.error) == (
        2,
        "error: x.tiff: unknown type .tiff, expected .png .jpg .jpeg .webp .bmp .gif .npy .npz "
        ".csv or a folder",
    )


def test_two_outputs_on_standard_output(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-o", "-", "--json")
    message = "-o - and --json both write to standard output. Give -o a file."
    assert (done.code, done.err) == (2, f"error: {message}\n")
    assert json.loads(done.out)["error"]["message"] == message


def test_a_grid_that_is_too_large(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "-n", 1_000_000, "-o", "x.png")
    assert (done.code, done.error) == (
        5,
        "error: a picture of 1,000,000 images would have 100,000,000 pixels, limit 64,000,000. "
        "Write .npy, .npz, .csv or a folder, or use --max-pixels 100000000.",
    )


def test_device(run: Run, cvae_path: Path) -> None:
    done = run("sample", "-b", cvae_path, "--device", "gpu")
    assert (done.code, done.error) == (
        2, "error: device is 'gpu', expected auto, cpu, cuda or cuda:N, or another execution "
        "provider: coreml, directml, migraphx, openvino, qnn, rocm, tensorrt, webgpu, xnnpack",
    )  # fmt: skip


def test_cuda_without_cuda(run: Run, cvae_path: Path) -> None:
    from vae_runtime.inference.devices import cuda_driver, obstacle
    from vae_runtime.inference.session import onnxruntime

    if cuda_driver().devices:
        pytest.skip("there is CUDA here")
    done = run("sample", "-b", cvae_path, "--device", "cuda")
    assert (done.code, done.error) == (
        7,
        f"error: device cuda:0: not available: {obstacle(onnxruntime())}. "
        "Run vae-run doctor, or use --device cpu.",
    )


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["paint"], 2, "No such command 'paint'. Try: vae-run --help"),
        (["sample", "--seed", "-1"], 2,
         "Invalid value for '--seed': -1 is not in the range 0<=x<=18446744073709551615. "
         "Try: vae-run sample --help"),
        (["sample", "-n", "0"], 2,
         "Invalid value for '-n' / '--count': 0 is not in the range x>=1. "
         "Try: vae-run sample --help"),
        (["reconstruct"], 2, "Missing argument 'INPUTS...'. Try: vae-run reconstruct --help"),
    ],
)  # fmt: skip
def test_usage(run: Run, args: list[str], code: int, message: str) -> None:
    done = run(*args)
    assert (done.code, done.error) == (code, f"error: {message}")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sample", "--temperature", "-1"],
         "temperature is -1.0, expected a finite number, 0 or more"),
        (["sample", "--truncation", "0"],
         "truncation is 0.0, expected a finite number, 0.1 or more"),
        (["traverse", "--dim", "99"], "dim is 99, expected a whole number, 0 to 5"),
        (["traverse", "-l", "1", "-l", "2"], "2 labels, expected one --label"),
        (["score", "-", "--threshold", "much"],
         "threshold 'much': expected a number, or p0 to p100"),
        (["score", "-", "--threshold", "p101"],
         "threshold 'p101': expected a number, or p0 to p100"),
        (["score", "-", "--normal", "x"],
         "--normal needs --threshold, for example --threshold p99"),
    ],
)  # fmt: skip
def test_values(run: Run, cvae_path: Path, args: list[str], message: str) -> None:
    done = run(*args, "-b", cvae_path)
    assert (done.code, done.error) == (2, f"error: {message}")


def test_interpolation_needs_two_ends(run: Run, cvae_path: Path, digits: Path) -> None:
    done = run("interpolate", digits / "00.png", "-b", cvae_path)
    assert (done.code, done.error) == (
        2, "error: expected two images or latents, got 1",
    )  # fmt: skip


def test_hostile_names_do_not_reach_the_terminal(run: Run) -> None:
    done = run("sample", "-b", "a\x1b[31m\nb")
    assert done.code == 6
    assert done.error.startswith("error: a [31m b: no such bundle.")


def test_a_bug_is_reported_as_a_bug(
    run: Run, cvae_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vae_runtime.loading

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(vae_runtime.loading, "load", broken)
    monkeypatch.delenv("VAE_DEBUG", raising=False)
    done = run("sample", "-b", cvae_path)
    assert (done.code, done.error) == (
        70,
        "error: ZeroDivisionError: division by zero. This is a bug; VAE_DEBUG=1 shows where.",
    )
