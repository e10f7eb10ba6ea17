"""Select a device, and find out why CUDA cannot be used."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from types import ModuleType
from typing import Any

from ..errors import UsageError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

# Batches are padded to these sizes, because cuDNN plans anew for each new size.
BUCKETS = (1, 4, 16, 64, 256)


def parse_device(device: str) -> tuple[str, int]:
    """Split `auto`, `cpu`, `cuda` or `cuda:N` into the name and N; N defaults to 0.

    Raises:
        UsageError: the text does not have this form.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,9})?", device):
        raise UsageError(f"device is {device!r}, expected auto, cpu, cuda or cuda:N")
    name, _, number = device.partition(":")
    return name, int(number or 0)


def providers(number: int, *, tf32: bool = False) -> list[Any]:
    """Return onnxruntime's providers for CUDA device `number`, with the CPU as a fallback."""
    settings = {
        "device_id": number,
        # TF32 keeps ten bits of the mantissa: it is faster, but the pixels differ from torch's.
        "use_tf32": int(tf32),
        # The default times every algorithm, which delays the first image by seconds.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    return [(CUDA, settings), CPU]


def preload(ort: ModuleType) -> None:
    """Load the CUDA libraries that pip installed, if this onnxruntime can do so."""
    if hasattr(ort, "preload_dlls"):
        # onnxruntime prints missing libraries to standard output, which is reserved for results.
        with contextlib.redirect_stdout(sys.stderr if sys.flags.dev_mode else None):
            ort.preload_dlls()


def device_of(session: Any) -> str:
    """Return the device that an onnxruntime session uses: `cpu` or `cuda:N`."""
    if session.get_providers()[0] != CUDA:
        return "cpu"
    options = session.get_provider_options().get(CUDA, {})
    return f"cuda:{options.get('device_id', 0)}"


def bucket(n: int) -> int:
    """Return the smallest padded batch size for n rows, or n if no bucket is large enough."""
    return next((size for size in BUCKETS if size >= n), n)


def why_not_cuda(ort: ModuleType, number: int = 0) -> str:
    """Return the most likely reason why CUDA device `number` cannot be used."""
    if CUDA not in ort.get_available_providers():
        return f"this onnxruntime {ort.__version__} is built for the CPU only"
    found = cuda_devices()
    if found is None:
        return "no NVIDIA driver here (libcuda does not load)"
    if found <= number:
        return f"the driver finds {found} CUDA device{'s' if found != 1 else ''}"
    missing = missing_libraries(ort)
    if missing:
        return f"these libraries do not load: {', '.join(missing)}"
    return "onnxruntime could not start CUDA; the driver may be too old for it"


def cuda_devices() -> int | None:
    """Return the number of CUDA devices that the driver finds, or None if there is no driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return None
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def libraries(ort: ModuleType) -> tuple[str, ...]:
    """Return the file names of the CUDA libraries that this onnxruntime needs on Linux."""
    # These are the names in onnxruntime.preload_dlls; cuFFT's version is one less than CUDA's.
    version = str(getattr(ort, "cuda_version", "") or "12")
    major = int(version.split(".")[0])
    return (
        f"libcudart.so.{major}",
        f"libcublasLt.so.{major}",
        f"libcublas.so.{major}",
        f"libcufft.so.{major - 1}",
        "libcurand.so.10",
        "libcudnn.so.9",
    )


def missing_libraries(ort: ModuleType) -> list[str]:
    """Preload the libraries that pip installed, then return those that still do not load."""
    if sys.platform != "linux":
        return []
    preload(ort)
    return [name for name in libraries(ort) if not _loads(name)]


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
