"""`vae-run doctor` on fake installations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vae_runtime.dependencies import install_command
from vae_runtime.errors import DeviceError, InputError, MissingExtra
from vae_runtime.inference import devices
from vae_runtime.inference import diagnosis as installation
from vae_runtime.inference.devices import CPU, CUDA, Driver
from vae_runtime.inference.diagnosis import Diagnosis, diagnose

pytestmark = pytest.mark.torch_free

CPU_ONLY: Any = SimpleNamespace(get_available_providers=lambda: [CPU], __version__="1.32.0")
WITH_CUDA: Any = SimpleNamespace(get_available_providers=lambda: [CUDA, CPU], __version__="1.32.0")
HERE = {"onnxruntime": "1.32.0"}
GPU = {"onnxruntime-gpu": "1.32.0"}


def raising(error: Exception) -> Any:
    def call(*_: Any) -> Any:
        raise error

    return call


def on_cpu(device: str) -> str:
    if device == "cuda":
        raise DeviceError("no")
    return "cpu"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, Driver(found=False))


def use_driver(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    for module in (installation, devices):
        monkeypatch.setattr(module, "cuda_driver", lambda: driver)


Doctor = Callable[..., Diagnosis]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Diagnose an installation with the given packages, onnxruntime and devices."""

    def call(packages: dict[str, str], ort: Any, probe: Any = None) -> Diagnosis:
        load = ort if callable(ort) else lambda: ort
        monkeypatch.setattr(installation, "onnxruntime_packages", lambda: packages)
        monkeypatch.setattr(installation, "onnxruntime", load)
        monkeypatch.setattr(installation, "run_probe", probe)
        return diagnose()

    return call


def test_this_installation() -> None:
    found = diagnose()
    assert found.ok
    assert found.problems == []
    assert found.device is not None
    assert found.versions["onnxruntime"]
    assert found.to_json()["ok"] is True


def test_two_packages_at_once(doctor: Doctor) -> None:
    found = doctor(HERE | GPU, WITH_CUDA, on_cpu)
    assert not found.ok
    assert found.problems == [
        "onnxruntime and onnxruntime-gpu are both installed and overwrote each other's files"
    ]
    assert found.fixes == [
        "pip uninstall -y onnxruntime onnxruntime-gpu", install_command("gpu"),
    ]  # fmt: skip


def test_an_empty_module(doctor: Doctor) -> None:
    broken = MissingExtra(
        "onnxruntime is installed but does not import: its files are missing, as after removing "
        "one of two packages. Run vae-run doctor."
    )
    found = doctor(HERE, raising(broken))
    assert found.problems == [
        "onnxruntime is installed but does not import: its files are missing, as after removing "
        "one of two packages"
    ]
    assert found.fixes == ["pip uninstall -y onnxruntime", install_command("cpu")]
    assert found.device is None
    assert doctor(GPU, raising(broken)).fixes[1] == install_command("gpu"), "gpu stays gpu"


def test_nothing_installed(doctor: Doctor) -> None:
    found = doctor({}, raising(MissingExtra("onnxruntime is not installed")))
    assert found.problems == ["onnxruntime is not installed"]
    assert found.fixes == [install_command("cpu")]


def test_a_package_that_cannot_be_imported(doctor: Doctor) -> None:
    message = "onnxruntime is installed but does not import: libstdc++ is too old"
    found = doctor(HERE, raising(MissingExtra(f"{message}. Run vae-run doctor.")))
    assert found.problems == [message]
    assert found.fixes == ["pip uninstall -y onnxruntime", install_command("cpu")]


def test_an_old_version(doctor: Doctor) -> None:
    found = doctor({"onnxruntime": "1.16.3"}, CPU_ONLY, on_cpu)
    assert found.problems == ["onnxruntime 1.16.3 is older than 1.19"]
    assert found.fixes == ['pip install -U "onnxruntime>=1.19"']


def test_no_graph_runs(doctor: Doctor) -> None:
    found = doctor(HERE, CPU_ONLY, raising(InputError("illegal instruction")))
    assert found.problems == ["no graph runs: illegal instruction"]
    assert found.fixes == ["pip uninstall -y onnxruntime", install_command("cpu")]


def test_cuda_works(doctor: Doctor) -> None:
    found = doctor(GPU, WITH_CUDA, lambda _: "cuda:0")
    assert (found.ok, found.cuda, found.device, found.fixes) == (True, "works", "cuda:0", [])


def test_cuda_listed_but_not_available(monkeypatch: pytest.MonkeyPatch, doctor: Doctor) -> None:
    found = doctor(GPU, WITH_CUDA, on_cpu)
    expected = "no NVIDIA driver here (libcuda does not load)"
    assert (found.ok, found.cuda, found.device) == (True, expected, "cpu")
    assert found.fixes == []


def test_missing_libraries(monkeypatch: pytest.MonkeyPatch, doctor: Doctor) -> None:
    use_driver(monkeypatch, Driver(found=True, devices=1, version=(12, 8)))
    for module in (installation, devices):
        monkeypatch.setattr(module, "missing_libraries", lambda _: ["libcublas.so.12"])
    found = doctor(GPU, WITH_CUDA, on_cpu)
    assert found.missing == ["libcublas.so.12"]
    assert found.cuda == "these libraries do not load: libcublas.so.12"
    assert found.fixes == [install_command("gpu")]


@pytest.mark.parametrize(
    ("driver", "problem"),
    [
        (Driver(found=True, fault="the NVIDIA driver is too old or mismatched (CUDA error 803)"),
         "the NVIDIA driver is too old or mismatched (CUDA error 803). "
         "Update the driver, then restart the machine"),
        (Driver(found=True, devices=1, version=(11, 4)),
         "the NVIDIA driver is too old: it supports CUDA 11.4, this onnxruntime needs CUDA 12. "
         "Update the driver, then restart the machine"),
    ],
)  # fmt: skip
def test_a_driver_that_is_too_old_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, doctor: Doctor, driver: Driver, problem: str
) -> None:
    use_driver(monkeypatch, driver)
    found = doctor(GPU, WITH_CUDA, on_cpu)
    assert not found.ok
    assert found.problems == [problem]
    assert found.device == "cpu"
    assert found.fixes == []


def test_another_package_is_kept_too(doctor: Doctor) -> None:
    found = doctor(HERE | {"onnxruntime-openvino": "1.24.1"}, CPU_ONLY, on_cpu)
    assert found.fixes == [
        "pip uninstall -y onnxruntime onnxruntime-openvino", "pip install onnxruntime-openvino",
    ]  # fmt: skip


def test_a_gpu_and_a_package_for_the_cpu(monkeypatch: pytest.MonkeyPatch, doctor: Doctor) -> None:
    use_driver(monkeypatch, Driver(found=True, devices=1, version=(12, 8)))
    found = doctor(HERE, CPU_ONLY, on_cpu)
    assert found.ok, "it works, only slower than it could"
    assert found.cuda == "this onnxruntime 1.32.0 is built for the CPU only"
    assert found.fixes == ["pip uninstall -y onnxruntime", install_command("gpu")]


def test_the_error_for_a_missing_module_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from vae_runtime.inference.session import onnxruntime

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(MissingExtra) as caught:
        onnxruntime()
    assert str(caught.value) == (
        f"onnxruntime is not installed. Run: {install_command('cpu')} "
        "(or with gpu in place of cpu, for CUDA; never both)"
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    with pytest.raises(MissingExtra) as caught:
        onnxruntime()
    assert str(caught.value) == (
        "onnxruntime is installed but does not import: its files are missing, as after removing "
        "one of two packages. Run vae-run doctor."
    )


def test_the_error_for_a_broken_module_names_the_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    from vae_runtime.inference.session import onnxruntime

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for cause in (
        'raise ImportError("libc.so.6: version GLIBC_2.38 not found")',
        'raise ModuleNotFoundError("No module named \'flatbuffers\'", name="flatbuffers")',
        'raise AttributeError("_ARRAY_API not found")',
    ):
        (tmp_path / "onnxruntime.py").write_text(cause)
        with pytest.raises(MissingExtra) as caught:
            onnxruntime()
        reason = cause.split('"')[1]
        assert str(caught.value) == (
            f"onnxruntime is installed but does not import: {reason}. Run vae-run doctor."
        )
