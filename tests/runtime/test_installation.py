"""`vae-run doctor` on fake installations."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from vae_runtime.dependencies import install_command
from vae_runtime.errors import DeviceError, InputError, MissingExtra
from vae_runtime.inference import diagnosis as installation
from vae_runtime.inference.devices import CPU, CUDA
from vae_runtime.inference.diagnosis import Diagnosis, diagnose
from vae_runtime.inference.session import BROKEN_INSTALL

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
    monkeypatch.setattr(installation, "cuda_devices", lambda: None)


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
    found = doctor(HERE, raising(MissingExtra(BROKEN_INSTALL)))
    assert found.problems == ["the module onnxruntime is empty: a package's files were removed"]
    assert found.fixes == ["pip uninstall -y onnxruntime", install_command("cpu")]
    assert found.device is None


def test_nothing_installed(doctor: Doctor) -> None:
    found = doctor({}, raising(MissingExtra("onnxruntime is not installed")))
    assert found.problems == ["onnxruntime is not installed"]
    assert found.fixes == [install_command("cpu")]


def test_a_package_that_cannot_be_imported(doctor: Doctor) -> None:
    found = doctor(HERE, raising(MissingExtra("libstdc++ is too old")))
    assert found.problems == [
        "onnxruntime is installed but cannot be imported: libstdc++ is too old"
    ]
    assert found.fixes == ["pip install --force-reinstall onnxruntime"]


def test_an_old_version(doctor: Doctor) -> None:
    found = doctor({"onnxruntime": "1.16.3"}, CPU_ONLY, on_cpu)
    assert found.problems == ["onnxruntime 1.16.3 is older than 1.19"]
    assert found.fixes == ['pip install -U "onnxruntime>=1.19"']


def test_no_graph_runs(doctor: Doctor) -> None:
    found = doctor(HERE, CPU_ONLY, raising(InputError("illegal instruction")))
    assert found.problems == ["no graph runs: illegal instruction"]
    assert found.fixes == ["pip install --force-reinstall onnxruntime"]


def test_cuda_works(doctor: Doctor) -> None:
    found = doctor(GPU, WITH_CUDA, lambda _: "cuda:0")
    assert (found.ok, found.cuda, found.device, found.fixes) == (True, "works", "cuda:0", [])


def test_cuda_listed_but_not_available(monkeypatch: pytest.MonkeyPatch, doctor: Doctor) -> None:
    monkeypatch.setattr(installation, "why_not_cuda", lambda _: "no NVIDIA driver here")
    found = doctor(GPU, WITH_CUDA, on_cpu)
    assert (found.ok, found.cuda, found.device) == (True, "no NVIDIA driver here", "cpu")
    assert found.fixes == []


def test_missing_libraries(monkeypatch: pytest.MonkeyPatch, doctor: Doctor) -> None:
    monkeypatch.setattr(installation, "cuda_devices", lambda: 1)
    monkeypatch.setattr(installation, "why_not_cuda", lambda _: "…")
    monkeypatch.setattr(installation, "missing_libraries", lambda _: ["libcublas.so.12"])
    found = doctor(GPU, WITH_CUDA, on_cpu)
    assert found.missing == ["libcublas.so.12"]
    assert found.fixes == ['pip install -U "onnxruntime-gpu[cuda,cudnn]"']


def test_a_gpu_and_a_package_for_the_cpu(monkeypatch: pytest.MonkeyPatch, doctor: Doctor) -> None:
    monkeypatch.setattr(installation, "cuda_devices", lambda: 1)
    found = doctor(HERE, CPU_ONLY, on_cpu)
    assert found.ok, "it works, only slower than it could"
    assert found.cuda == "this onnxruntime 1.32.0 is built for the CPU only"
    assert found.fixes == ["pip uninstall -y onnxruntime", install_command("gpu")]


def test_the_error_for_a_missing_module_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from vae_runtime.inference.session import onnxruntime

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra) as caught:
        onnxruntime()
    assert str(caught.value) == (
        f"onnxruntime is not installed. Run: {install_command('cpu')} "
        "(or with gpu in place of cpu, for CUDA; never both)"
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    with pytest.raises(MissingExtra, match=r"^onnxruntime is broken"):
        onnxruntime()
