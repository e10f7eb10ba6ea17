"""The decoder as plain C that needs nothing but libm, and a small program around it.

emx-onnx-cgen turns the decoder, its batch pinned to one row, into C; the folder `c/` beside this
file holds what is the same for every model: the checks, the generator that draws latents, `main`.
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
from vae_runtime.errors import FileError, InputError, one_line
from vae_runtime.files.atomic import write_atomic
from vae_runtime.prior import Prior

GENERATOR = "emx_onnx_cgen"
_FIXED = Path(__file__).parent / "c"
_FLAGS = ("--input-dim", "batch=1", "--large-weight-threshold", "0", "--emit-data-file")


def require_generator() -> None:
    """Refuse to begin without the generator.

    Raises:
        MissingExtra: with the command that installs it.
    """
    require("vae-export --c", GENERATOR, extra="cpu,train,c")


def write_c(manifest: Manifest, files: dict[str, bytes], folder: Path) -> list[str]:
    """Write the decoder of a bundle, of a CVAE the conditional one, as C.

    Args:
        manifest: of the bundle.
        files: its files, by name.
        folder: made if missing; files of these names in it are replaced.

    Returns:
        The names of the files.

    Raises:
        MissingExtra: emx-onnx-cgen is not installed.
        InputError: it cannot translate the graph; with its own reason.
        FileError: a file could not be written.
    """
    require_generator()
    spec = manifest.graph("conditional_decoder") or manifest.graph("decoder")
    assert spec is not None
    content = {path.name: path.read_bytes() for path in sorted(_FIXED.iterdir())}
    content |= _translate(files[spec.file.file], spec.file.file)
    content["model.h"] = header_text(manifest.spec).encode()
    content["prior_data.c"] = prior_text(manifest.spec).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: {error.strerror}") from error
    for name, raw in content.items():
        write_atomic(folder / name, raw)
    return sorted(content)


def _translate(raw: bytes, name: str) -> dict[str, bytes]:
    """A graph's bytes → `decoder.c` and `decoder_data.c`, whose function is `vae_graph`."""
    model = onnx.load_from_string(raw)
    del model.metadata_props[:]  # or the whole prior stands in a comment
    with tempfile.TemporaryDirectory() as place:
        graph, out = Path(place) / "decoder.onnx", Path(place) / "decoder.c"
        graph.write_bytes(model.SerializeToString(deterministic=True))
        command = [sys.executable, "-m", GENERATOR, "compile", "decoder.onnx", "decoder.c"]
        command += ["--model-name", "vae_graph", "--color", "never", *_FLAGS]
        # In the folder itself, for the command stands in the comments of what it writes.
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode or not out.is_file():
            reason = one_line(done.stderr or done.stdout)
            raise InputError(f"{name}: emx-onnx-cgen cannot write it as C: {reason}")
        return {path.name: path.read_bytes() for path in Path(place).glob("*.c")}


def header_text(spec: ModelSpec) -> str:
    """The text of `model.h`: sizes, class names, and the arrays of the prior."""
    prior, image = spec.prior, spec.image
    kinds = {"normal": "NORMAL", "uniform": "UNIFORM"}
    lines = [
        "/* Sizes and prior of one bundle. */",
        "#ifndef MODEL_H",
        "#define MODEL_H",
        *_defines(LATENT_DIM=spec.latent_dim, CHANNELS=image.channels),
        *_defines(HEIGHT=image.height, WIDTH=image.width, CLASSES=len(spec.classes)),
        *_defines(PRIOR_NORMAL=0, PRIOR_UNIFORM=1, PRIOR_MIXTURE=2),
        *_defines(PRIOR=f"VAE_PRIOR_{kinds.get(prior.kind, 'MIXTURE')}"),
    ]
    if prior.weights is not None:
        lines += _defines(PRIOR_ROWS=prior.rows, COMPONENTS=prior.weights.shape[1])
    lines.append("extern const char vae_bundle[]; /* the bundle's id */")
    lines += [f"extern const double {declared};" for declared, _ in _arrays(prior)]
    if spec.classes:
        lines.append(f"extern const char *const vae_class_names[{len(spec.classes)}];")
    return "\n".join([*lines, "#endif", ""])


def prior_text(spec: ModelSpec) -> str:
    """The text of `prior_data.c`: the numbers that `model.h` declares."""
    lines = ['#include "model.h"', f"const char vae_bundle[] = {_quoted(spec.id)};"]
    for declared, values in _arrays(spec.prior):
        lines.append(f"const double {declared} = {_braced(values.tolist())};")
    if spec.classes:
        names = ",\n ".join(_quoted(name) for name in spec.classes)
        lines.append(f"const char *const vae_class_names[{len(spec.classes)}] = {{\n {names}}};")
    return "\n".join([*lines, ""])


def _arrays(prior: Prior) -> Iterator[tuple[str, NDArray[np.float64]]]:
    for name in ("low", "high", "weights", "mean", "cholesky"):
        values = getattr(prior, name)
        if values is not None:
            yield f"vae_{name}" + "".join(f"[{n}]" for n in values.shape), values


def _defines(**values: Any) -> list[str]:
    return [f"#define VAE_{name} {value}" for name, value in values.items()]


def _braced(values: Any) -> str:
    """Nested lists as a C initialiser, a line for each innermost list."""
    if not isinstance(values, list):
        return repr(values)  # the shortest text that reads back as the same double
    gap = ",\n " if isinstance(values[0], list) else ", "
    return "{" + gap.join(_braced(value) for value in values) + "}"


def _quoted(text: str) -> str:
    """A string literal; octal escapes end after three digits whatever follows."""
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'
