"""Export one public module and use its bundle: `python -m tests.modules.measure NAME FOLDER`.

Prints one line of JSON. It runs in an environment that has the module's library.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import vae_runtime as vae
from tests.modules.catalogue import CASES, Case
from vae_export import export
from vae_runtime.datasets import Dataset
from vae_runtime.errors import VaeError

_IMAGES, _LARGE_IMAGES = 64, 12
_ROUNDS = 7
VAE_RUN = Path(sys.executable).with_name("vae-run")


def pictures(n: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Make smooth random images u8[n, C, H, W], each a sum of a few waves."""
    rng = np.random.default_rng(0)
    c, h, w = shape
    y, x = np.mgrid[0 : 1 : h * 1j, 0 : 1 : w * 1j]
    images = np.zeros((n, c, h, w))
    for _ in range(4):
        fx, fy, phase = rng.uniform(-9, 9, (3, n, c, 1, 1))
        images += np.sin(fx * x + fy * y + phase)
    return ((images / 8 + 0.5) * 255).astype(np.uint8)


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Export a module, run every command on the bundle, and time it beside torch."""
    torch.manual_seed(0)
    torch.set_num_threads(2 if case.large else 1)
    module = case.make()
    data = Dataset("waves", pictures(_LARGE_IMAGES if case.large else _IMAGES, case.image_shape))
    bundle, began = folder / "bundle", time.perf_counter()
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in module.parameters())}
    try:
        exported = export(module, bundle, data, log=lambda line: print(line, file=sys.stderr),
                          **case.options)  # fmt: skip
    except VaeError as error:
        return found | {"refused": str(error)}
    seconds = time.perf_counter() - began
    manifest = exported.manifest
    errors = manifest.parity["max_abs_error"].values()
    return found | {
        "latent_shape": list(manifest.spec.latent_shape),
        "prior": manifest.spec.prior.kind,
        "directions": manifest.spec.prior.coordinates
        if manifest.spec.prior.directions is not None
        else None,
        "parity": max(errors),
        "forward": manifest.parity.get("forward", {}).get("max_abs_difference"),
        "bytes": sum(path.stat().st_size for path in bundle.iterdir()),
        "seconds": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **_time_decode(case, module, bundle),
        "commands": _run_commands(bundle, data.images, folder),
    }


def _time_decode(case: Case, module: nn.Module, bundle: Path) -> dict[str, float]:
    """Time the decoding of one image by onnxruntime and by torch, in turns, on one thread."""
    from vae_export.calling_convention import find_calling_convention
    from vae_export.options import CustomModuleOptions

    options = {k: v for k, v in case.options.items() if k != "compare_forward"}
    image = torch.from_numpy(pictures(2, case.image_shape)).float() / 255
    convention = find_calling_convention(module, CustomModuleOptions(**options), image, None)
    with vae.load(bundle, device="cpu") as model, torch.inference_mode():
        z = model.sample_latents(1, seed=0)
        ours: list[float] = []
        theirs: list[float] = []
        latents = torch.from_numpy(z)
        torch.set_num_threads(1)
        for _ in range(2 if case.large else _ROUNDS):
            ours.append(_seconds(lambda: model.decode(z)))
            theirs.append(_seconds(lambda: convention.decode(latents)))
    return {"decode_s": min(ours), "torch_s": min(theirs)}


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _run_commands(bundle: Path, images: NDArray[np.uint8], folder: Path) -> dict[str, str]:
    """Run `vae-run` commands on the bundle; return "ok" or the error for each."""
    np.save(folder / "images.npy", images[:2])
    commands = {
        "sample": ["-n", "2", "--seed", "0", "-o", "sample.png"],
        "reconstruct": ["images.npy", "-o", "again.png"],
        "traverse": ["--dim", "0", "--steps", "5", "-o", "traversal.png"],
        "interpolate": ["--steps", "5", "-o", "path.png"],
        "encode": ["images.npy", "-o", "latents.npz"],
        "decode": ["latents.npz", "-o", "decoded.png"],
        "score": ["images.npy"],
        "verify": [],
        "info": [],
        "studio": ["-o", "page.html"],
    }
    results = {}
    for name, arguments in commands.items():
        place = [bundle] if name == "info" else ["--bundle", bundle]
        command = [VAE_RUN, name, *arguments, *place]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        results[name] = "ok" if done.returncode == 0 else done.stderr.strip()[-300:]
    return results


def main() -> None:
    """Measure the case that is named on the command line."""
    name, folder = sys.argv[1:]
    warnings.simplefilter("ignore")  # of the libraries
    case = next(case for case in CASES if case.name == name)
    print(json.dumps(measure(case, Path(folder))))


if __name__ == "__main__":
    main()
