"""Write the decoder as plain C that depends only on libm, with a small example program.

emx-onnx-cgen translates the decoder to C with a fixed batch size of one. The folder `c/` holds the
files that are the same for every model: argument checks, random numbers, the prior and `main`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vae_runtime.bundle.manifest import Manifest
from vae_runtime.bundle.spec import ModelSpec
from vae_runtime.dependencies import require
from vae_runtime.errors import InputError, one_line
from vae_runtime.files.atomic import write_atomic
from vae_runtime.prior import ARRAYS, Prior

from ..writer import make_folder

GENERATOR = "emx_onnx_cgen"
SOURCES = Path(__file__).parent / "c"
_FLAGS = ("--input-dim", "batch=1", "--large-weight-threshold", "0", "--emit-data-file")


def require_generator() -> None:
    """Check that the code generator is installed.

    Raises:
        MissingExtra: the generator is not installed; the message names the command that installs
            it.
    """
    require("vae-export --c", GENERATOR, extra="cpu,train,c")


def write_c(manifest: Manifest, files: dict[str, bytes], folder: Path) -> list[str]:
    """Write the decoder of a bundle as C; for a CVAE, the conditional decoder.

    Args:
        manifest: the manifest of the bundle.
        files: the files of the bundle, by name.
        folder: the output folder, created if missing; existing files of the same names are
            replaced.

    Returns:
        The names of the files that were written.

    Raises:
        MissingExtra: emx-onnx-cgen is not installed.
        InputError: emx-onnx-cgen cannot translate the graph; the message gives its reason.
        FileError: a file cannot be written.
    """
    require_generator()
    spec = manifest.graph("conditional_decoder") or manifest.graph("decoder")
    assert spec is not None
    content = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir())}
    content |= _translate(files[spec.file.file], spec.file.file)
    content["model.h"] = header_text(manifest.spec).encode()
    content["prior_data.c"] = prior_text(manifest.spec).encode()
    make_folder(folder)
    for name, raw in content.items():
        write_atomic(folder / name, raw)
    return sorted(content)


def _translate(raw: bytes, name: str) -> dict[str, bytes]:
    """Translate a graph to `decoder.c` and `decoder_data.c`, which define `vae_graph`."""
    model = onnx.load_from_string(raw)
    del model.metadata_props[:]  # otherwise the generator copies the whole prior into a comment
    with tempfile.TemporaryDirectory() as folder:
        graph, out = Path(folder) / "decoder.onnx", Path(folder) / "decoder.c"
        graph.write_bytes(model.SerializeToString(deterministic=True))
        command = [sys.executable, "-m", GENERATOR, "compile", "decoder.onnx", "decoder.c"]
        command += ["--model-name", "vae_graph", "--color", "never", *_FLAGS]
        # Use relative paths: the generator copies its command line into a comment.
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not out.is_file():
            reason = one_line(done.stderr or done.stdout)
            raise InputError(f"{name}: emx-onnx-cgen cannot translate it to C: {reason}")
        return {path.name: path.read_bytes() for path in Path(folder).glob("*.c")}


def header_text(spec: ModelSpec) -> str:
    """Format `model.h`: sizes, and declarations of the class names and the prior."""
    prior, image = spec.prior, spec.image
    kinds = {"normal": "NORMAL", "uniform": "UNIFORM"}
    lines = [
        "/* Sizes and prior of one bundle. */",
        "#ifndef MODEL_H",
        "#define MODEL_H",
        *_defines(LATENT_DIM=spec.latent_dim, CHANNELS=image.channels),
        *_defines(LATENT_SHAPE="".join(f"[{n}]" for n in spec.latent_shape)),
        *_defines(HEIGHT=image.height, WIDTH=image.width, CLASSES=len(spec.classes)),
        *_defines(PRIOR_NORMAL=0, PRIOR_UNIFORM=1, PRIOR_MIXTURE=2),
        *_defines(PRIOR=f"VAE_PRIOR_{kinds.get(prior.kind, 'MIXTURE')}"),
    ]
    if prior.weights is not None:
        lines += _defines(PRIOR_ROWS=prior.rows, COMPONENTS=prior.weights.shape[1])
        lines += _defines(COORDINATES=prior.coordinates, LOW_RANK=int(prior.directions is not None))
    lines.append("extern const char vae_bundle[]; /* the bundle's id */")
    lines += [f"extern const double {declared};" for declared, _ in _arrays(prior)]
    if spec.classes:
        lines.append(f"extern const char *const vae_class_names[{len(spec.classes)}];")
    return "\n".join([*lines, "#endif", ""])


def prior_text(spec: ModelSpec) -> str:
    """Format `prior_data.c`: the arrays that `model.h` declares."""
    lines = ['#include "model.h"', f"const char vae_bundle[] = {_quoted(spec.id)};"]
    for declared, values in _arrays(spec.prior):
        lines.append(f"const double {declared} = {_braced(values.tolist())};")
    if spec.classes:
        names = ",\n ".join(_quoted(name) for name in spec.classes)
        lines.append(f"const char *const vae_class_names[{len(spec.classes)}] = {{\n {names}}};")
    return "\n".join([*lines, ""])


def _arrays(prior: Prior) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the C declarator and the values of each array in the prior."""
    for name in ARRAYS:
        values = getattr(prior, name)
        if values is not None:
            yield f"vae_{name}" + "".join(f"[{n}]" for n in values.shape), values


def _defines(**values: Any) -> list[str]:
    return [f"#define VAE_{name} {value}" for name, value in values.items()]


def _braced(values: Any) -> str:
    """Format nested lists as a C initialiser, one line per innermost list."""
    if not isinstance(values, list):
        return repr(values)  # the shortest text that reads back as the same double
    gap = ",\n " if isinstance(values[0], list) else ", "
    return "{" + gap.join(_braced(value) for value in values) + "}"


def _quoted(text: str) -> str:
    """Format a C string literal with octal escapes, since these end after three digits."""
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'
