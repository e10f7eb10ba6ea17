"""Device selection and CUDA diagnostics."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from types import ModuleType
from typing import Any

from ..errors import UsageError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

# cuDNN makes a new plan for every batch size it has not seen, so batches are padded to these sizes.
BUCKETS = (1, 4, 16, 64, 256)


def parse_device(device: str) -> tuple[str, int]:
    """Split `auto`, `cpu`, `cuda` or `cuda:N` into the word and N.

    Raises:
        UsageError: anything else.
    """
    word, _, number = device.partition(":")
    plain = number.isascii() and number.isdigit()
    if word not in ("auto", "cpu", "cuda") or (":" in device and not (word == "cuda" and plain)):
        raise UsageError(f"device is {device!r}, expected auto, cpu, cuda or cuda:N")
    return word, int(number or 0)


def providers(number: int, *, tf32: bool = False) -> list[Any]:
    """Return onnxruntime's providers for CUDA device `number`, with the CPU as fallback."""
    settings = {
        "device_id": number,
        # TF32 keeps ten bits of the mantissa: faster, but not the pixels that torch computed.
        "use_tf32": int(tf32),
        # The default search times every algorithm, which takes seconds before the first image.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    return [(CUDA, settings), CPU]


def preload(ort: ModuleType) -> None:
    """Load the CUDA libraries that pip installed, if this onnxruntime can do that."""
    if hasattr(ort, "preload_dlls"):
        # It prints what is missing to standard output, which belongs to the caller.
        with contextlib.redirect_stdout(sys.stderr if sys.flags.dev_mode else None):
            ort.preload_dlls()


def device_of(session: Any) -> str:
    """Return where an onnxruntime session really runs: `cpu` or `cuda:N`."""
    if session.get_providers()[0] != CUDA:
        return "cpu"
    options = session.get_provider_options().get(CUDA, {})
    return f"cuda:{options.get('device_id', 0)}"


def bucket(n: int) -> int:
    """Return the smallest padded batch size that holds n rows, or n above the largest."""
    return next((size for size in BUCKETS if size >= n), n)


def why_not_cuda(ort: ModuleType, number: int = 0) -> str:
    """Describe the most likely reason that CUDA device `number` cannot be used here."""
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
    """Return how many CUDA devices the driver finds; None if there is no driver."""
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
    """Return the names of the CUDA libraries that this onnxruntime needs (Linux)."""
    # As onnxruntime.preload_dlls names them; cuFFT's version is one less than CUDA's.
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
    """Return which of `libraries` do not load, after preloading those that pip installed."""
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
