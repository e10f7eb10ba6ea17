"""Run a graph in onnxruntime; use after close or fork raises a clear error, not a crash."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from ..arrays import check_whole
from ..errors import DeviceError, InputError, LimitError, MissingExtra, StateError
from .devices import CPU, CUDA, PROVIDERS, device_of, obstacle, parse_device, preload, providers
from .interrupt import listening, stoppable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# A checked graph has nothing to fold. Folding would run operators while an unknown graph loads.
_NOT_NEEDED = ("ConstantFolding",)

_creating = threading.Lock()  # running sessions is thread-safe, creating them is not
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_cuda_failed = False  # `auto` tries CUDA only once per process


def onnxruntime() -> ModuleType:
    """Import onnxruntime without telemetry.

    Raises:
        MissingExtra: neither `onnxruntime` nor `onnxruntime-gpu` is installed, or the installation
            is broken.
    """
    # onnxruntime reads this once, at import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime as ort
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise _broken(error) from error
        from ..dependencies import install_command

        raise MissingExtra(
            f"onnxruntime is not installed. Run: {install_command('cpu')} "
            "(or with gpu in place of cpu, for CUDA; never both)"
        ) from error
    except Exception as error:  # a missing system library, a NumPy that is too old, …
        raise _broken(error) from error
    if not hasattr(ort, "InferenceSession"):
        raise _broken("its files are missing, as after removing one of two packages")
    module: ModuleType = ort
    return module


def _broken(cause: object) -> MissingExtra:
    return MissingExtra(
        f"onnxruntime is installed but does not import: {cause}. Run vae-run doctor."
    )


class Session:
    """One graph, loaded on one device.

    Attributes:
        name: what error messages call the graph.
        device: the device in use, such as `cpu` or `cuda:0`.
        threads: threads per run; `run_batched` also runs that many batches at a time.
        inherited: whether this process was forked after the session was created; it cannot run.
        metadata: the metadata of the graph.
        inputs, outputs: onnxruntime's descriptions of the tensors, by name.
    """

    def __init__(
        self,
        model: bytes | Any,
        *,
        name: str = "graph",
        device: str = "auto",
        threads: int = 1,
        tf32: bool = False,
    ) -> None:
        """Load a graph.

        Args:
            model: the bytes of an `.onnx` file, or an existing `onnxruntime.InferenceSession`,
                which keeps its own device and threads.
            name: what error messages call the graph.
            device: see `load`.
            threads: threads per run; small graphs run fastest with one.
            tf32: let CUDA use TF32 (ten mantissa bits), which is faster but alters the pixels.

        Raises:
            DeviceError: the device is not available, unless it is `auto`.
            InputError: onnxruntime refuses the graph.
            UsageError: the device is unknown, or `threads` is less than 1.
        """
        self._ort = onnxruntime()
        wanted = parse_device(device)
        check_whole("threads", threads, 1)
        self._raw: Any = (
            _create(self._ort, model, wanted, threads, tf32) if isinstance(model, bytes) else model
        )
        self.inherited = False
        self.name = name
        self.threads = threads
        self.device = device_of(self._raw)
        self.metadata: Mapping[str, str] = self._raw.get_modelmeta().custom_metadata_map
        self.inputs: dict[str, Any] = {i.name: i for i in self._raw.get_inputs()}
        self.outputs: dict[str, Any] = {o.name: o for o in self._raw.get_outputs()}
        _sessions.add(self)

    @property
    def raw(self) -> Any:
        """The `onnxruntime.InferenceSession` itself.

        Raises:
            StateError: the session was closed, or was created before this process was forked.
        """
        raw = self._raw  # read once, because another thread may close the session
        if raw is None:
            raise StateError("this model was closed. Load it again.")
        if self.inherited:
            raise StateError(
                "this model was loaded before fork and cannot be used in the child process. "
                "Load it in the child, or start processes with 'spawn'."
            )
        return raw

    def run(self, outputs: Sequence[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Run the graph on named inputs and return the tensors named in `outputs`, in that order.

        Raises:
            StateError: the session was closed, or was created before this process was forked.
            LimitError: onnxruntime ran out of memory.
            InputError: onnxruntime refuses the inputs.
        """
        raw = self.raw
        try:
            if not listening():
                # The public method. The private one below it saves 1.2 µs, 6% of one decode of the
                # reference recipe's model.
                plain: list[NDArray[Any]] = raw.run(outputs, inputs)
                return plain
            with stoppable(self._ort) as options:
                results: list[NDArray[Any]] = raw.run(outputs, inputs, options)
        except Exception as error:
            if "alloc" in str(error).lower():
                raise LimitError("out of memory in onnxruntime. Run fewer items.") from error
            raise InputError(f"onnxruntime could not run the graph: {error}") from error
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the memory. The session cannot be used afterwards."""
        if not self.inherited:
            self._raw = None


def _create(
    ort: ModuleType, model: bytes, wanted: tuple[str, int], threads: int, tf32: bool
) -> Any:
    """Create a session on a device; `auto` falls back to the CPU if CUDA does not start."""
    name, number = wanted
    if name not in ("auto", "cpu", "cuda"):
        return _on_provider(ort, model, threads, name, number)
    available = CUDA in ort.get_available_providers()
    if name == "cpu" or (name == "auto" and (_cuda_failed or not available)):
        return _on_cpu(ort, model, threads)
    # Ask the driver first: a failed attempt makes onnxruntime write to the standard streams.
    reason = obstacle(ort, number)
    if reason is None:
        preload(ort)
        session, fault = _attempt(ort, model, threads, providers("cuda", number, tf32=tf32))
        if session is not None:
            return session
        reason = "onnxruntime could not start CUDA" + (f": {fault}" if fault else "")
    if name == "cuda":
        raise DeviceError(
            f"device cuda:{number}: not available: {reason}. "
            "Run vae-run doctor, or use --device cpu."
        )
    _warn_of_fallback(reason)
    return _on_cpu(ort, model, threads)


def _on_provider(ort: ModuleType, model: bytes, threads: int, name: str, number: int) -> Any:
    """Create a session on a provider other than CUDA; there is no fallback."""
    built = ort.get_available_providers()
    if PROVIDERS[name] not in built:
        raise DeviceError(
            f"device {name}: this onnxruntime {ort.__version__} is built with {', '.join(built)}. "
            f"Install an onnxruntime that has {PROVIDERS[name]}, or use --device cpu."
        )
    session, fault = _attempt(ort, model, threads, providers(name, number))
    if session is None:
        raise DeviceError(
            f"device {name}: onnxruntime could not start {PROVIDERS[name]}: "
            f"{fault or 'it gave the graph to the CPU'}. Use --device cpu."
        )
    return session


def _attempt(
    ort: ModuleType, model: bytes, threads: int, wanted: list[Any]
) -> tuple[Any | None, str]:
    """Create a session on the first of some providers; return None and the error if that fails.

    There is no error if onnxruntime silently used the CPU, as it does without CUDA's libraries.
    """
    try:
        session = _start(ort, model, threads, wanted)
    except Exception as error:  # noqa: BLE001 - whatever onnxruntime raises
        _on_cpu(ort, model, threads)  # raises InputError if the graph is at fault, not the device
        return None, str(error)
    return (session if session.get_providers()[0] == wanted[0][0] else None), ""


def _on_cpu(ort: ModuleType, model: bytes, threads: int) -> Any:
    try:
        return _start(ort, model, threads, [CPU])
    except Exception as error:
        raise InputError(f"onnxruntime refuses the graph: {error}") from error


def _start(ort: ModuleType, model: bytes, threads: int, wanted: list[Any]) -> Any:
    with _creating:
        return ort.InferenceSession(
            model,
            _options(ort, threads),
            providers=wanted,
            disabled_optimizers=_NOT_NEEDED,
            enable_fallback=0,  # which prints to standard output
            read_config_from_model=0,
        )


def _options(ort: ModuleType, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads that spin while waiting would occupy cores that the caller needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _warn_of_fallback(reason: str) -> None:
    global _cuda_failed
    _cuda_failed = True
    warnings.warn(
        f"CUDA did not start ({reason}); running on the CPU",
        RuntimeWarning,
        stacklevel=_caller_level(),
    )


def _caller_level() -> int:
    """Return the `stacklevel` at which a warning shows the line that called this package."""
    package = str(Path(__file__).parents[1]) + os.sep
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    return level


def _abandon() -> None:
    """Keep inherited sessions from being destroyed in a forked child.

    Destroying a session joins threads that do not exist in the child, which hangs or crashes it.
    Python drops its references at exit, so this function adds a reference that is never dropped.
    """
    global _creating
    _creating = threading.Lock()  # the old lock may be held by a thread that the fork did not copy
    for session in list(_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._raw))
        session.inherited = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon)
