"""Select a device, and find out why CUDA cannot be used.

A device is `cpu`, `cuda`, or another execution provider of onnxruntime by its usual name.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import UsageError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

# The execution providers besides the CPU that run whole graphs; an onnxruntime has some of them.
PROVIDERS = {
    "cuda": CUDA, "coreml": "CoreMLExecutionProvider", "directml": "DmlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider", "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider", "rocm": "ROCMExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider", "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}  # fmt: skip
_NUMBERED = ("cuda", "directml", "migraphx", "rocm", "tensorrt")

# Codes of CUDA's driver that mean that there is no device, rather than that something is broken.
_NO_DEVICE = 100
_TOO_OLD = {35, 803, 804}

# Batches are padded to these sizes, because cuDNN plans anew for each new size.
BUCKETS = (1, 4, 16, 64, 256, 1024)


def parse_device(device: str) -> tuple[str, int]:
    """Split a device such as `cuda:1` into its name and number, which defaults to 0.

    Raises:
        UsageError: the name is unknown, or the device is not one of several and has a number.
    """
    name, colon, number = str(device).partition(":")
    known = ("auto", "cpu", *PROVIDERS)
    if name in known and (not colon or (name in _NUMBERED and re.fullmatch("[0-9]{1,9}", number))):
        return name, int(number or 0)
    raise UsageError(
        f"device is {device!r}, expected auto, cpu, cuda or cuda:N, or another execution provider: "
        f"{', '.join(sorted({*PROVIDERS} - {'cuda'}))}"
    )


def providers(name: str, number: int, *, tf32: bool = False) -> list[Any]:
    """Return onnxruntime's providers for a name in `PROVIDERS`, with the CPU for what it lacks."""
    # Told the number of a device, onnxruntime 1.26 and newer warn about each session; 0 is implied.
    settings: dict[str, Any] = {"device_id": number} if name in _NUMBERED and number else {}
    if name == "cuda":
        # TF32 keeps ten bits of the mantissa: it is faster, but the pixels differ from torch's.
        settings["use_tf32"] = int(tf32)
        # The default times every algorithm, which delays the first image by seconds.
        settings["cudnn_conv_algo_search"] = "HEURISTIC"
    return [(PROVIDERS[name], settings), CPU]


def device_of(session: Any) -> str:
    """Return the device that an onnxruntime session uses, such as `cpu`, `cuda:0` or `openvino`."""
    first = session.get_providers()[0]
    name = next((name for name, provider in PROVIDERS.items() if provider == first), "cpu")
    if name not in _NUMBERED:
        return name
    return f"{name}:{session.get_provider_options().get(first, {}).get('device_id', 0)}"


def bucket(n: int) -> int:
    """Return the smallest padded batch size for n rows, or n if no bucket is large enough."""
    return next((size for size in BUCKETS if size >= n), n)


@dataclass(frozen=True)
class Driver:
    """What NVIDIA's driver says.

    Attributes:
        found: whether there is a driver (libcuda).
        devices: number of CUDA devices.
        version: the newest CUDA version that it supports, such as (12, 8); (0, 0) if unknown.
        fault: why a driver that is there does not work; empty if it does.
    """

    found: bool
    devices: int = 0
    version: tuple[int, int] = (0, 0)
    fault: str = ""


def cuda_driver() -> Driver:
    """Ask the driver for its devices; this writes nothing, unlike onnxruntime's attempt."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return Driver(found=False)
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    code = driver.cuInit(0)
    if code not in (0, _NO_DEVICE):
        reason = "too old or mismatched" if code in _TOO_OLD else "not working"
        return Driver(found=True, fault=f"the NVIDIA driver is {reason} (CUDA error {code})")
    if code or driver.cuDeviceGetCount(ctypes.byref(count)):
        return Driver(found=True)
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = divmod(version.value, 1000)
    return Driver(found=True, devices=count.value, version=(major, minor // 10))


def obstacle(ort: ModuleType, number: int = 0) -> str | None:
    """Return why CUDA device `number` cannot be used; None if an attempt is worthwhile."""
    if CUDA not in ort.get_available_providers():
        return f"this onnxruntime {ort.__version__} is built for the CPU only"
    driver = cuda_driver()
    if not driver.found:
        return "no NVIDIA driver here (libcuda does not load)"
    if fault := driver_fault(ort, driver):
        return fault
    if driver.devices <= number:
        return f"the driver finds {driver.devices} CUDA device{'s' if driver.devices != 1 else ''}"
    missing = missing_libraries(ort)
    if missing:
        return f"these libraries do not load: {', '.join(missing)}"
    return None


def driver_fault(ort: ModuleType, driver: Driver) -> str:
    """Return why a driver that is installed cannot serve this onnxruntime; empty if it can."""
    needed = int(_cuda_version(ort).split(".")[0])
    if driver.fault or not driver.devices or driver.version[0] >= needed:
        return driver.fault
    supported = ".".join(map(str, driver.version))
    return (
        f"the NVIDIA driver is too old: it supports CUDA {supported}, this onnxruntime needs "
        f"CUDA {needed}"
    )


def _cuda_version(ort: ModuleType) -> str:
    return str(getattr(ort, "cuda_version", "") or "12")


def preload(ort: ModuleType) -> None:
    """Let onnxruntime load the CUDA libraries that pip installed.

    It prints the names of libraries that do not load, so call this only without an `obstacle`.
    """
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def libraries(ort: ModuleType) -> tuple[str, ...]:
    """Return the file names of the CUDA libraries that this onnxruntime needs on Linux."""
    # These are the names in onnxruntime.preload_dlls; cuFFT's version is one less than CUDA's.
    major = int(_cuda_version(ort).split(".")[0])
    return (
        f"libcudart.so.{major}",
        f"libcublasLt.so.{major}",
        f"libcublas.so.{major}",
        f"libcufft.so.{major - 1}",
        "libcurand.so.10",
        "libcudnn.so.9",
    )


def missing_libraries(ort: ModuleType) -> list[str]:
    """Return the libraries that load neither from pip's packages nor from the system."""
    if sys.platform != "linux":
        return []
    packages = Path(ort.__file__ or "").parent.parent / "nvidia"
    # pip's package of a library: nvidia/cublas/lib for CUDA 12, nvidia/cu13/lib from CUDA 13 on.
    folders = sorted(packages.glob("*/lib"))
    return [name for name in libraries(ort) if not _loads(name, folders)]


def _loads(name: str, folders: list[Path]) -> bool:
    for candidate in [*(str(folder / name) for folder in folders), name]:
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return True
    return False
