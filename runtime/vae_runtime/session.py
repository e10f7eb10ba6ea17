"""onnxruntime sessions: the device that was asked for, few threads, safe after fork and close."""

from __future__ import annotations

import ctypes
import os
import threading
import warnings
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from .errors import DeviceError, InputError, MissingExtra, StateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_creating = threading.Lock()  # creating sessions is not thread-safe, running them is
_living: weakref.WeakSet[Session] = weakref.WeakSet()
_hooked = False


def onnxruntime() -> ModuleType:
    """Import onnxruntime, its telemetry off.

    Raises:
        MissingExtra: neither `onnxruntime` nor `onnxruntime-gpu` is installed.
    """
    # It must stand in the environment before the import; onnxruntime reads it once.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra(
            "onnxruntime is not installed. Run: pip install 'vae-onnx[cpu]' "
            "(or 'vae-onnx[gpu]' for CUDA; never both)"
        ) from error
    if not hasattr(ort, "InferenceSession"):
        raise MissingExtra(
            "onnxruntime is hollow: its two packages overwrote each other. Run: pip uninstall -y "
            "onnxruntime onnxruntime-gpu && pip install onnxruntime"
        )
    module: ModuleType = ort
    return module


class Session:
    """One graph on one device.

    Attributes:
        device: where it really runs, `cpu` or `cuda:N`.
        metadata: the graph's own text properties.
    """

    def __init__(self, model: bytes | Any, *, device: str = "auto", threads: int = 1) -> None:
        """Load a graph.

        Args:
            model: the bytes of an `.onnx` file, or an existing `onnxruntime.InferenceSession`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            threads: of one run; for graphs this small one is the fastest.

        Raises:
            DeviceError: CUDA was asked for and is not available.
            InputError: onnxruntime refuses the graph.
        """
        ort = onnxruntime()
        wanted = parse_device(device)
        if threads < 1:
            raise UsageError(f"threads is {threads}, expected 1 or more")
        self._raw = model if hasattr(model, "get_inputs") else _create(ort, model, wanted, threads)
        self._pid = os.getpid()
        self.device = _device_of(self._raw, wanted)
        self.metadata: Mapping[str, str] = self._raw.get_modelmeta().custom_metadata_map
        self.inputs: dict[str, Any] = {i.name: i for i in self._raw.get_inputs()}
        self.outputs: dict[str, Any] = {o.name: o for o in self._raw.get_outputs()}
        _register(self)

    def run(self, outputs: Sequence[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Run the graph by name; `outputs` names what to return, in that order.

        Raises:
            StateError: the session was closed, or belongs to the process this one was forked from.
        """
        if self._raw is None:
            raise StateError("this model was closed. Load it again.")
        if self._pid != os.getpid():
            raise StateError(
                "this model was loaded before fork and cannot be used in the child process. "
                "Load it in the child, or start processes with 'spawn'."
            )
        results: list[NDArray[Any]] = self._raw.run(list(outputs), inputs)
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back; the session cannot be used afterwards."""
        if self._pid == os.getpid():
            self._raw = None


def parse_device(device: str) -> tuple[str, int]:
    """`auto`, `cpu`, `cuda` or `cuda:N` → the word and N.

    Raises:
        UsageError: anything else.
    """
    word, _, number = device.partition(":")
    if word not in ("auto", "cpu", "cuda") or (
        (":" in device) and (word != "cuda" or not number.isdigit())
    ):
        raise UsageError(f"device is {device!r}, expected auto, cpu, cuda or cuda:N")
    return word, int(number or 0)


def _create(ort: ModuleType, model: bytes, wanted: tuple[str, int], threads: int) -> Any:
    word, number = wanted
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Spinning threads burn the cores that the caller's own work needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    cuda = "CUDAExecutionProvider" in ort.get_available_providers() and word != "cpu"
    if word == "cuda" and not cuda:
        raise DeviceError(_no_cuda(ort, "this onnxruntime is built for the CPU only"))
    providers: list[Any] = ["CPUExecutionProvider"]
    if cuda:
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        # TF32 keeps ten bits of the mantissa: not the pixels that torch gave.
        settings = {
            "device_id": number,
            "use_tf32": 0,
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        providers.insert(0, ("CUDAExecutionProvider", settings))
    try:
        with _creating:
            session = ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        if cuda and word == "auto":
            _say_fallback()
            return _create(ort, model, ("cpu", 0), threads)
        raise InputError(f"onnxruntime refuses the graph: {error}") from error
    used = session.get_providers()[0]
    if cuda and used != "CUDAExecutionProvider":
        if word == "cuda":
            raise DeviceError(_no_cuda(ort, "its CUDA libraries or the driver did not load"))
        _say_fallback()
    return session


def _no_cuda(ort: ModuleType, reason: str) -> str:
    return (
        f"device cuda: not available: {reason} (onnxruntime {ort.__version__}). "
        "Run vae-run doctor, or use --device cpu."
    )


def _say_fallback() -> None:
    warnings.warn("CUDA did not start; running on the CPU", RuntimeWarning, stacklevel=4)


def _device_of(session: Any, wanted: tuple[str, int]) -> str:
    on_cuda = session.get_providers()[0] == "CUDAExecutionProvider"
    return f"cuda:{wanted[1]}" if on_cuda else "cpu"


def _register(session: Session) -> None:
    global _hooked
    _living.add(session)
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_abandon)
        _hooked = True


def _abandon() -> None:
    """In a forked child: never destroy inherited sessions, their threads are not there to join."""
    for session in list(_living):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._raw))
