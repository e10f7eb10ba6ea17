"""Device selection, with a fake onnxruntime, and with the real one on machines without CUDA."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime.errors import DeviceError, InputError, UsageError
from vae_runtime.inference import devices as device
from vae_runtime.inference import session
from vae_runtime.inference.session import Session

pytestmark = pytest.mark.torch_free

CUDA, CPU = device.CUDA, device.CPU


class Ort:
    """The functions of onnxruntime that a session uses; `works` states whether CUDA does."""

    __version__ = "9.9"
    RunOptions = object

    def __init__(self, built: bool = True, works: bool = True, broken: bool = False) -> None:
        self.built, self.works, self.broken = built, works, broken
        self.made: list[dict[str, Any]] = []
        self.preloaded = 0

    def get_available_providers(self) -> list[str]:
        return [CUDA, CPU] if self.built else [CPU]

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def SessionOptions(self) -> Any:  # noqa: N802
        entries: dict[str, str] = {}
        return SimpleNamespace(add_session_config_entry=entries.__setitem__, entries=entries)

    def InferenceSession(  # noqa: N802
        self, model: bytes, options: Any, providers: list[Any], **given: Any
    ) -> Any:
        assert given == {
            "disabled_optimizers": ("ConstantFolding",), "enable_fallback": 0,
            "read_config_from_model": 0,
        }  # fmt: skip
        asked = providers[0][0] if isinstance(providers[0], tuple) else providers[0]
        if self.broken or (asked == CUDA and self.works is None):
            raise RuntimeError("no kernel image")
        self.made.append({"options": options, "providers": providers})
        used = CUDA if asked == CUDA and self.works else CPU
        settings = providers[0][1] if used == CUDA else {}
        return SimpleNamespace(
            get_providers=lambda: [used],
            get_provider_options=lambda: {used: {k: str(v) for k, v in settings.items()}},
            get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={}),
            get_inputs=list,
            get_outputs=list,
        )


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(session, "_cuda_failed", False)
    monkeypatch.setattr(session, "obstacle", lambda *_: None)

    def use(ort: Any) -> Any:
        monkeypatch.setattr(session, "onnxruntime", lambda: ort)
        return ort

    return use


@pytest.mark.parametrize(
    ("text", "expected"),
    [("auto", ("auto", 0)), ("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:3", ("cuda", 3)),
     ("openvino", ("openvino", 0)), ("directml:1", ("directml", 1))],
)  # fmt: skip
def test_device_names(text: str, expected: tuple[str, int]) -> None:
    assert device.parse_device(text) == expected


@pytest.mark.parametrize(
    "text", ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1", "CUDA", "cuda:²", "openvino:1"]
)
def test_wrong_device_names_are_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match=f"^device is {text!r}, expected auto, cpu, cuda or cuda:N, or another"
    ):
        device.parse_device(text)


class OtherOrt(Ort):
    """An onnxruntime that was built with one other provider."""

    def __init__(self, name: str, works: bool = True, error: str = "") -> None:
        super().__init__()
        self.provider, self.works, self.error = device.PROVIDERS[name], works, error

    def get_available_providers(self) -> list[str]:
        return [self.provider, CPU]

    def InferenceSession(  # noqa: N802
        self, model: bytes, options: Any, providers: list[Any], **given: Any
    ) -> Any:
        if self.error and providers != [CPU]:
            raise RuntimeError(self.error)
        made = super().InferenceSession(model, options, providers, **given)
        used = self.provider if self.works and providers != [CPU] else CPU
        settings = providers[0][1] if used != CPU else {}
        made.get_providers = lambda: [used, CPU]
        made.get_provider_options = lambda: {used: {k: str(v) for k, v in settings.items()}}
        return made


@pytest.mark.parametrize(
    ("name", "used", "settings"),
    [("openvino", "openvino", {}), ("coreml", "coreml", {}), ("webgpu", "webgpu", {}),
     ("directml:1", "directml:1", {"device_id": 1}), ("tensorrt", "tensorrt:0", {})],
)  # fmt: skip
def test_any_provider_that_onnxruntime_has_can_be_chosen(
    pretend: Any, name: str, used: str, settings: dict[str, int]
) -> None:
    ort = pretend(OtherOrt(name.partition(":")[0]))
    assert Session(b"", device=name).device == used
    assert ort.made[0]["providers"] == [(ort.provider, settings), CPU]
    assert Session(b"", device="auto").device == "cpu"  # only CUDA is tried unasked


def test_a_provider_that_is_missing_or_does_not_work_is_an_error(pretend: Any) -> None:
    pretend(OtherOrt("openvino"))
    with pytest.raises(
        DeviceError, match=r"directml: this onnxruntime 9\.9 is built with OpenVINOEx"
    ):
        Session(b"", device="directml")
    pretend(OtherOrt("qnn", works=False))
    with pytest.raises(DeviceError, match="could not start QNNExecutionProvider: it gave the gra"):
        Session(b"", device="qnn")
    pretend(OtherOrt("rocm", error="no GPU"))
    with pytest.raises(
        DeviceError, match=r"start ROCMExecutionProvider: no GPU\. Use --device cpu"
    ):
        Session(b"", device="rocm")


def test_cuda_is_set_up_for_the_same_pixels(
    pretend: Any,
) -> None:
    ort = pretend(Ort())
    assert Session(b"", device="cuda:1").device == "cuda:1"
    made = ort.made[0]
    assert made["providers"] == [
        (CUDA, {"device_id": 1, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}), CPU,
    ]  # fmt: skip
    assert ort.preloaded == 1
    Session(b"", device="cuda", tf32=True)
    settings = ort.made[1]["providers"][0][1]
    assert settings == {"use_tf32": 1, "cudnn_conv_algo_search": "HEURISTIC"}  # no device_id: warns


def test_auto_selects_cuda_if_it_works(pretend: Any) -> None:
    pretend(Ort())
    assert Session(b"").device == "cuda:0"


REASONS = {
    False: "onnxruntime could not start CUDA",
    None: "onnxruntime could not start CUDA: no kernel image",
}


@pytest.mark.parametrize("works", REASONS, ids=["silently the CPU", "raises"])
def test_auto_falls_back_with_one_warning(pretend: Any, works: Any) -> None:
    ort = pretend(Ort(works=works))
    with pytest.warns(RuntimeWarning) as caught:
        first = Session(b"")
    assert first.device == "cpu"
    assert Session(b"").device == "cpu"
    assert [str(w.message) for w in caught] == [
        f"CUDA did not start ({REASONS[works]}); running on the CPU"
    ]
    assert caught[0].filename == __file__, "the warning shows the line of the caller"
    assert ort.preloaded == 1, "the second graph goes to the CPU at once"


def test_without_a_driver_cuda_is_not_tried(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ort = pretend(Ort())
    monkeypatch.setattr(session, "obstacle", lambda *_: "no driver")
    with pytest.warns(RuntimeWarning, match=r"^CUDA did not start \(no driver\); running on the"):
        assert Session(b"").device == "cpu"
    assert ort.preloaded == 0
    assert [made["providers"] for made in ort.made] == [[CPU]]


@pytest.mark.parametrize("works", REASONS, ids=["silently the CPU", "raises"])
def test_requested_cuda_is_used_or_refused(pretend: Any, works: Any) -> None:
    pretend(Ort(works=works))
    with pytest.raises(DeviceError) as caught:
        Session(b"", device="cuda:2")
    assert str(caught.value) == (
        f"device cuda:2: not available: {REASONS[works]}. Run vae-run doctor, or use --device cpu."
    )


def test_cuda_with_a_build_for_the_cpu(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ort = pretend(Ort(built=False))
    monkeypatch.setattr(session, "obstacle", device.obstacle)
    with pytest.raises(DeviceError, match=r"this onnxruntime 9.9 is built for the CPU only"):
        Session(b"", device="cuda")
    assert Session(b"").device == "cpu"
    assert ort.preloaded == 0


def test_cpu_never_touches_cuda(pretend: Any) -> None:
    ort = pretend(Ort())
    assert Session(b"", device="cpu", threads=3).device == "cpu"
    made = ort.made[0]
    assert made["providers"] == [CPU]
    assert ort.preloaded == 0
    assert made["options"].intra_op_num_threads == 3
    assert made["options"].inter_op_num_threads == 1
    assert made["options"].entries == {"session.intra_op.allow_spinning": "0"}


@pytest.mark.parametrize("name", ["auto", "cuda", "cpu"])
def test_a_bad_graph_is_not_a_device_error(pretend: Any, name: str) -> None:
    pretend(Ort(broken=True))
    with pytest.raises(InputError, match=r"^onnxruntime refuses the graph: no kernel image$"):
        Session(b"", device=name)


def test_less_than_one_thread_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^threads is 0, expected a whole number, 1 or more$"):
        Session(b"", threads=0)


def test_the_obstacles_to_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    ort: Any = Ort()
    one = device.Driver(found=True, devices=1, version=(12, 8))
    reasons: list[Any] = [
        (device.Driver(found=False), [], "no NVIDIA driver here (libcuda does not load)"),
        (device.Driver(found=True), [], "the driver finds 0 CUDA devices"),
        (device.Driver(found=True, fault="the driver is broken"), [], "the driver is broken"),
        (device.Driver(found=True, devices=1, version=(11, 4)), [],
         "the NVIDIA driver is too old: it supports CUDA 11.4, this onnxruntime needs CUDA 12"),
        (one, ["libcudnn.so.9"], "these libraries do not load: libcudnn.so.9"),
        (one, [], None),
    ]  # fmt: skip
    for driver, missing, expected in reasons:
        monkeypatch.setattr(device, "cuda_driver", lambda d=driver: d)
        monkeypatch.setattr(device, "missing_libraries", lambda _, m=missing: m)
        assert device.obstacle(ort) == expected
    assert device.obstacle(ort, 1) == "the driver finds 1 CUDA device"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs gcc on Linux")
@pytest.mark.parametrize(
    ("code", "devices", "expected"),
    [
        (0, 2, device.Driver(found=True, devices=2, version=(12, 2))),
        (100, 0, device.Driver(found=True)),
        (803, 1, device.Driver(
            found=True, fault="the NVIDIA driver is too old or mismatched (CUDA error 803)")),
        (999, 1, device.Driver(
            found=True, fault="the NVIDIA driver is not working (CUDA error 999)")),
    ],
)  # fmt: skip
def test_what_a_driver_says(
    code: int, devices: int, expected: device.Driver, tmp_path: Path
) -> None:
    source = tmp_path / "libcuda.c"
    source.write_text(
        f"int cuInit(unsigned f) {{ return {code}; }}\n"
        f"int cuDeviceGetCount(int *n) {{ *n = {devices}; return {code}; }}\n"
        "int cuDriverGetVersion(int *v) { *v = 12020; return 0; }\n"
    )
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    done = subprocess.run(
        [sys.executable, "-c", "from vae_runtime.inference.devices import cuda_driver; "
         "print(cuda_driver())"],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == f"{expected}\n"


def test_library_versions_follow_the_build() -> None:
    assert device.libraries(SimpleNamespace(cuda_version="12.8")) == (  # type: ignore[arg-type]
        "libcudart.so.12", "libcublasLt.so.12", "libcublas.so.12", "libcufft.so.11",
        "libcurand.so.10", "libcudnn.so.9",
    )  # fmt: skip
    assert "libcufft.so.12" in device.libraries(SimpleNamespace(cuda_version="13.0"))  # type: ignore[arg-type]


def no_cuda_here() -> bool:
    return not device.cuda_driver().devices


@pytest.mark.skipif(not no_cuda_here(), reason="there is CUDA here")
def test_cuda_is_refused_on_this_machine(cvae_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^device cuda:0: not available: "):
        vae.load(cvae_path, device="cuda")
    with vae.load(cvae_path, device="auto") as model:
        model.sample(1, seed=0)
        assert model.device == "cpu"


@pytest.mark.cuda
@pytest.mark.skipif(no_cuda_here(), reason="no CUDA device")
def test_cuda_gives_the_pixels_of_the_cpu(any_bundle: Path) -> None:
    with vae.load(any_bundle, device="cpu") as a, vae.load(any_bundle, device="cuda") as b:
        assert b.device == "cuda:0"
        np.testing.assert_allclose(b.sample(300, seed=0), a.sample(300, seed=0), atol=1e-5)
