"""Diagnose the installation for `vae-run doctor`: packages, working devices and fixes."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Any

from .._version import __version__
from ..dependencies import install_command
from ..errors import DeviceError, MissingExtra, VaeError
from .devices import CUDA, cuda_driver, driver_fault, missing_libraries, obstacle
from .session import Session, onnxruntime

OLDEST = (1, 19)
# A minimal graph to test devices with: y = x for one number.
_PROBE = bytes.fromhex(
    "080812003a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a0208016"
    "20f0a0179120a0a08080112040a02080142040a001012"
)


@dataclass
class Diagnosis:
    """The result of `vae-run doctor`.

    Attributes:
        versions: versions of this package, Python, the system and every onnxruntime package.
        providers: providers that onnxruntime was built with; CUDA may be listed but not work.
        device: the device that `auto` selects; None if no graph can run.
        cuda: `works`, or the reason why it does not.
        missing: CUDA libraries that do not load.
        problems: what prevents the installation from working, one description each.
        fixes: commands that solve the problems or enable a GPU, in the order to run them.
    """

    versions: dict[str, str]
    providers: list[str] = field(default_factory=list)
    device: str | None = None
    cuda: str = "not tried"
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    fixes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return `ok` and the fields as a dictionary."""
        return {"ok": self.ok, **asdict(self)}

    @property
    def ok(self) -> bool:
        """Whether graphs run and no problem was found."""
        return self.device is not None and not self.problems


def diagnose() -> Diagnosis:
    """Diagnose this machine."""
    packages = onnxruntime_packages()
    found = Diagnosis(
        {
            "vae-onnx": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            **packages,
        }
    )
    _check_packages(found, packages)
    try:
        ort = onnxruntime()
    except MissingExtra as error:
        _not_importable(found, packages, str(error))
        return found
    found.providers = list(ort.get_available_providers())
    _check_devices(found, ort, packages)
    return found


def onnxruntime_packages() -> dict[str, str]:
    """Return the versions of the installed packages that provide the module `onnxruntime`.

    Many do, for other devices or systems; each overwrites the files of the others.
    """
    names = metadata.packages_distributions().get("onnxruntime", [])
    return {name: metadata.version(name) for name in sorted(set(names))}


def run_probe(device: str) -> str:
    """Run a minimal graph and return the device that was used.

    Raises:
        DeviceError: the device is not available, unless it is `auto`.
    """
    import warnings

    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Session(_PROBE, device=device) as session:
            session.run(["y"], x=np.ones(1, np.float32))
            return session.device


def _check_packages(found: Diagnosis, packages: dict[str, str]) -> None:
    if len(packages) > 1:
        both = " and ".join(packages)
        found.problems.append(f"{both} are both installed and overwrote each other's files")
        found.fixes += _install_anew(packages)
        return
    for name, version in packages.items():
        if _number(version) < OLDEST:
            wanted = ".".join(map(str, OLDEST))
            found.problems.append(f"{name} {version} is older than {wanted}")
            found.fixes.append(f'pip install -U "{name}>={wanted}"')


def _install_anew(packages: dict[str, str]) -> list[str]:
    """Return the commands that leave one package: the one for a GPU or other device, if any."""
    special = [name for name in packages if name != "onnxruntime"]
    keep = "onnxruntime-gpu" if "onnxruntime-gpu" in special else (special or ["onnxruntime"])[0]
    extra = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu"}.get(keep)
    install = install_command(extra) if extra else f"pip install {keep}"
    return [f"pip uninstall -y {' '.join(packages)}", install]


def _not_importable(found: Diagnosis, packages: dict[str, str], message: str) -> None:
    if packages:
        found.problems.append(message.removesuffix(". Run vae-run doctor."))
        found.fixes = found.fixes or _install_anew(packages)
    else:
        found.problems.append("onnxruntime is not installed")
        found.fixes = [install_command("cpu")]


def _check_devices(found: Diagnosis, ort: ModuleType, packages: dict[str, str]) -> None:
    try:
        found.device = run_probe("auto")
    except VaeError as error:
        found.problems.append(f"no graph runs: {error}")
        found.fixes += [] if found.fixes else _install_anew(packages or {"onnxruntime": ""})
        return
    driver = cuda_driver()
    if CUDA not in found.providers:
        found.cuda = obstacle(ort) or ""
        if driver.devices and "onnxruntime" in packages:
            found.fixes += [f"pip uninstall -y {' '.join(packages)}", install_command("gpu")]
        return
    try:
        run_probe("cuda")
        found.cuda = "works"
        return
    except DeviceError as error:
        found.cuda = obstacle(ort) or f"onnxruntime could not start it: {error.__cause__ or error}"
    if fault := driver_fault(ort, driver):
        found.problems.append(f"{fault}. Update the driver, then restart the machine")
    elif driver.devices:
        found.missing = missing_libraries(ort)
        if found.missing:
            found.fixes.append(install_command("gpu"))


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())
