"""The real onnxruntime-gpu on a machine without CUDA: each line of output, and exit codes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.environments import call, environment_with
from vae_runtime.inference.devices import cuda_driver

pytestmark = [
    pytest.mark.torch_free,
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or cuda_driver().found, reason="for Linux without a driver"
    ),
]

MAIN = "from vae_runtime.cli import main; main()"
FALLBACK = "note: CUDA did not start ({}); running on the CPU\n"
INSTALL = 'pip install "vae-onnx[gpu]"'
NO_DRIVER = "no NVIDIA driver here (libcuda does not load)"
# What a driver answers to every call, and how many devices it has.
STUB = """
int cuInit(unsigned f) { return CODE; }
int cuDeviceGetCount(int *n) { *n = DEVICES; return CODE; }
int cuDriverGetVersion(int *v) { *v = VERSION; return 0; }
int cuGetProcAddress_v2(const char *s, void **p, int v, long f, void *q) { *p = 0; return 500; }
int cuGetProcAddress(const char *s, void **p, int v, long f) { *p = 0; return 500; }
"""
Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with onnxruntime-gpu, without the libraries of CUDA."""
    return environment_with("onnxruntime-gpu", tmp_path_factory.mktemp("gpu"))


def fake_driver(folder: Path, code: int, devices: int, version: int = 12020) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    source = folder / "cuda.c"
    source.write_text(STUB)
    defined = [f"-DCODE={code}", f"-DDEVICES={devices}", f"-DVERSION={version}"]
    subprocess.run(
        ["gcc", "-shared", "-fPIC", *defined, "-o", folder / "libcuda.so.1", source], check=True
    )
    return folder


def test_auto_runs_on_the_cpu_and_says_why(python: Path, tmp_path: Path) -> None:
    code, out, err = call(
        python, tmp_path, "-c", MAIN, "sample", "-n", "2", "--seed", "1", "-o", "a.npy"
    )
    assert (code, out) == (0, "")
    assert err == FALLBACK.format(NO_DRIVER) + "wrote 2 images to a.npy (seed 1)\n"


def test_cuda_is_refused(python: Path, tmp_path: Path) -> None:
    code, out, err = call(python, tmp_path, "-c", MAIN, "sample", "--device", "cuda", "-o", "a.png")
    assert (code, out) == (7, "")
    assert err == (
        f"error: device cuda:0: not available: {NO_DRIVER}. Run vae-run doctor, or use --device "
        "cpu.\n"
    )


def test_the_doctor_is_content(python: Path, tmp_path: Path) -> None:
    code, out, err = call(python, tmp_path, "-c", MAIN, "doctor")
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [line[0] for line in lines] == [
        "vae-onnx", "python", "system", "onnxruntime-gpu", "built", "graphs", "cuda", "result",
    ]  # fmt: skip
    assert lines[5:] == [
        ["graphs", "run on    cpu"], ["cuda", NO_DRIVER], ["result", "everything works"],
    ]  # fmt: skip


DRIVERS = {
    "no device": (100, 0, "the driver finds 0 CUDA devices", 0),
    "mismatched": (803, 1, "the NVIDIA driver is too old or mismatched (CUDA error 803)", 7),
    "broken": (999, 1, "the NVIDIA driver is not working (CUDA error 999)", 7),
    "old": (
        0,
        1,
        "the NVIDIA driver is too old: it supports CUDA 11.4, this onnxruntime needs CUDA ",
        7,
    ),
}


@pytest.mark.parametrize("name", DRIVERS)
def test_what_a_driver_leads_to(name: str, python: Path, tmp_path: Path) -> None:
    answer, devices, reason, exit_code = DRIVERS[name]
    driver = fake_driver(tmp_path, answer, devices, 11040 if name == "old" else 12020)
    code, out, err = call(python, tmp_path, "-c", MAIN, "sample", "-o", "a.npy", driver=driver)
    assert (code, out) == (0, "")
    note, _, rest = err.partition("); running on the CPU\n")
    assert note.startswith(f"note: CUDA did not start ({reason}")
    assert rest.startswith("wrote 1 image to a.npy (seed ")
    code, out, err = call(python, tmp_path, "-c", MAIN, "doctor", driver=driver)
    assert code == exit_code
    assert f"cuda             {reason}" in out
    if exit_code:
        assert err.startswith(f"error: installation: {reason}")
        assert err.endswith("Update the driver, then restart the machine.\n")
        assert err.count("\n") == 1
    else:
        assert err == ""


def test_missing_libraries_are_named(python: Path, tmp_path: Path) -> None:
    driver = fake_driver(tmp_path, 0, 1, 99000)
    code, out, err = call(
        python, tmp_path, "-c", MAIN, "sample", "--device", "cuda", "-o", "a.npy", driver=driver
    )
    assert (code, out) == (7, "")
    assert err.startswith("error: device cuda:0: not available: these libraries do not load: libc")
    assert err.count("\n") == 1
    code, out, err = call(python, tmp_path, "-c", MAIN, "doctor", driver=driver)
    assert (code, err) == (0, "")
    assert f"for cuda         {INSTALL}\n" in out


RACE = """
import sys, threading, warnings
import vae_runtime as vae
warnings.simplefilter("ignore")
lost, stop = [], False
def write():
    while not stop:
        try: sys.stdout.write("")
        except AttributeError as error: lost.append(error)
writer = threading.Thread(target=write)
writer.start()
loaders = [threading.Thread(target=lambda: vae.load().sample(1, seed=0)) for _ in range(4)]
[thread.start() for thread in loaders]
[thread.join() for thread in loaders]
stop = True
writer.join()
print(len(lost), sys.stdout is sys.__stdout__)
"""


def test_standard_output_stays_where_it_is(python: Path, tmp_path: Path) -> None:
    for driver in (None, fake_driver(tmp_path, 100, 0)):
        assert call(python, tmp_path, "-c", RACE, driver=driver) == (0, "0 True\n", "")


def test_the_warning_shows_the_line_of_the_caller(python: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import vae_runtime as vae\nmodel = vae.load()\nmodel.sample(1, seed=0)\n"
    )
    code, out, err = call(python, tmp_path, "app.py")
    assert (code, out) == (0, "")
    first, line = err.splitlines()
    assert first.endswith(
        f"app.py:3: RuntimeWarning: CUDA did not start ({NO_DRIVER}); running on the CPU"
    )
    assert line == "  model.sample(1, seed=0)"


def test_both_packages_at_once_are_a_fault(python: Path, tmp_path: Path) -> None:
    """The last test: it changes the environment."""
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime"], check=True)
    both = "onnxruntime and onnxruntime-gpu are both installed and overwrote each other's files"
    fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && {INSTALL}"
    code, out, err = call(python, tmp_path, "-c", MAIN, "doctor")
    assert code == 7
    assert f"problem          {both}\n" in out
    assert err == f"error: installation: {both}. Run: {fix}\n"
    # Removing one of them leaves a module without its library.
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "onnxruntime"], check=True)
    code, out, err = call(python, tmp_path, "-c", MAIN, "sample", "-o", "a.npy")
    assert (code, out) == (2, "")
    assert err.startswith("error: onnxruntime is installed but does not import: ")
    assert err.endswith(". Run vae-run doctor.\n")
    code, _, err = call(python, tmp_path, "-c", MAIN, "doctor")
    assert code == 7
    assert err.startswith("error: installation: onnxruntime is installed but does not import: ")
    assert err.endswith(f"Run: pip uninstall -y onnxruntime-gpu && {INSTALL}\n")
