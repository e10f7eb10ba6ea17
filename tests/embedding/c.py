"""Hosts in C: the decoder as generated C, and onnxruntime's C API."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from vae_export.targets.c_code import GENERATOR, write_c
from vae_runtime.inference.session import onnxruntime

from .host import EXAMPLES, Missing, Row, Vectors, call, folder_size, start_time

HERE = Path(__file__).parent
STRICT = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Werror")


def need(*tools: str) -> None:
    """Raise `Missing` if a command is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")


def build_generated(vectors: Vectors, folder: Path) -> Path:
    """Write the bundle's decoder as C, compile it with its Makefile and return the driver."""
    need("gcc", "make")
    if importlib.util.find_spec(GENERATOR) is None:
        raise Missing("emx-onnx-cgen is not installed")
    bundle = vectors.bundle
    files = {name: bundle.read(spec) for name, spec in bundle.manifest.files().items()}
    write_c(bundle.manifest, files, folder)
    call(["make", "-s", "-C", folder])
    driver = folder / "drive"
    library = folder / "libvae.a"
    call(["gcc", *STRICT, f"-I{folder}", HERE / "drive.c", library, "-lm", "-o", driver])
    return driver


def generated_c(vectors: Vectors) -> Row:
    """Measure the C code of `vae-export --c`."""
    folder = vectors.work / "c"
    driver = build_generated(vectors, folder)
    error, ms = vectors.drive([driver, *vectors.files])
    program = folder / "vae"
    call(["strip", program])
    start = start_time([program, "--seed", "0"], text=False)
    return Row("C, generated", "examples/c", folder_size(program), start, ms, error)


def library_path() -> Path:
    """Find the shared library in the installed onnxruntime package.

    Raises:
        Missing: the package contains none for this platform.
    """
    found = sorted((Path(onnxruntime().__file__ or "").parent / "capi").glob("libonnxruntime.so*"))
    if not found:
        raise Missing("this onnxruntime package contains no libonnxruntime.so")
    return found[0]


def build_c_api(folder: Path) -> Path:
    """Compile the example and its driver in `folder`; return the folder."""
    need("gcc", "make")
    shutil.copytree(EXAMPLES / "c_api", folder, dirs_exist_ok=True)
    call(["make", "-s", "-C", folder])
    sources = [HERE / "drive.c", folder / "vae_ort.c"]
    call(["gcc", *STRICT, "-DHOST_ORT", f"-I{folder}", *sources, "-ldl", "-o", folder / "drive"])
    return folder


def c_api(vectors: Vectors) -> Row:
    """Measure onnxruntime's C API, loaded with dlopen."""
    folder = build_c_api(vectors.work / "c_api")
    library = library_path()
    environment = {"VAE_ORT_LIBRARY": str(library)}
    error, ms = vectors.drive([folder / "drive", *vectors.files, vectors.graph], environment)
    program = [folder / "vae_ort", vectors.graph, "0", vectors.work / "z.f32", "/dev/null"]
    start = start_time(program, environment)
    size = folder_size(folder / "vae_ort", library, vectors.graph)
    return Row("C, onnxruntime's C API", "examples/c_api", size, start, ms, error)
