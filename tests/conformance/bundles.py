"""Small good bundles built by hand, with 2×2 images and two latent dimensions."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np

from tests.security.build import field, integers, node, tensor, value
from tests.security.rechecksum import with_checksums
from vae_runtime.bundle.manifest import NAME

Files = dict[str, bytes]

CLASSES = ("cat", "dog")
_IMAGE = np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 1, 2, 2)
_LATENTS = np.linspace(-2, 2, 10, dtype=np.float32).reshape(5, 2)
_LABELS = np.array([0, 1, 2, 1, 0])  # 2 means no label
_WEIGHTS = np.array([[1, -1], [0.5, 0.25], [-0.5, 1], [0.125, -0.75]], np.float32)
_OFFSETS = np.array([[0.5, -0.5], [-1, 1], [0, 0.25]], np.float32)  # one row per label
_BATCH: list[int | str] = ["batch"]
_VALUES = {
    "image": ([*_BATCH, 1, 2, 2], 1),
    "z": ([*_BATCH, 2], 1),
    "noise": ([*_BATCH, 3], 1),
    "mu": ([*_BATCH, 2], 1),
    "log_var": ([*_BATCH, 2], 1),
    "label": (_BATCH, 7),
}
_DTYPES = {1: "float32", 2: "uint8", 7: "int64"}


def bundle(
    family: str = "cvae",
    *,
    name: str = "small",
    variants: tuple[str, ...] = (),
    labelled_encoder: bool = False,
    spatial: bool = False,
    sampler: bool = False,
) -> Files:
    """Return the files of a good bundle with correct checksums; `name` is its id.

    `spatial` gives the latents the shape 1×2, and needs an `ae`.
    """
    spec = {
        "format": "1.0", "id": name, "family": family,
        "image": {"mode": "L", "channels": 1, "height": 2, "width": 2, "range": [0, 1]},
        "latent_shape": [1, 2] if spatial else [2],
        "classes": list(CLASSES) if family == "cvae" else [],
        "likelihood": "bernoulli", "prior": {"kind": "normal", "latent_dim": 2},
    }  # fmt: skip
    files: Files = {NAME: b""}
    entries = []
    roles = ["encoder", "decoder"] + ["conditional_decoder"] * (family == "cvae")
    roles += ["sampler"] * sampler
    for role in roles:
        for variant in ("fp32", *(() if role == "encoder" else variants)):
            file = f"{role}.onnx" if variant == "fp32" else f"{role}.{variant}.onnx"
            labelled = (
                role == "conditional_decoder"
                or (role == "encoder" and labelled_encoder)
                or (role == "sampler" and family == "cvae")
            )
            inputs, outputs = _ends(role, family, labelled)
            files[file] = _graph(
                _nodes(role, family, variant, labelled, spatial), inputs, outputs, variant,
                spec | {"role": role, "variant": variant},
            )  # fmt: skip
            entries.append(
                {"role": role, "variant": variant, "file": file, "bytes": 1, "sha256": "0" * 64,
                 "opset": 18, "ir": 8,
                 "inputs": [tensor_spec(n, spatial=spatial) for n in inputs],
                 "outputs": [tensor_spec(n, variant, spatial=spatial) for n in outputs]}
            )  # fmt: skip
    arrays = golden(family, labelled_encoder=labelled_encoder)
    if sampler:
        source = "conditional_decoder" if family == "cvae" else "decoder"
        arrays |= {k.replace(source, "sampler"): a for k, a in arrays.items() if source + "." in k}
        z = arrays.pop("sampler.in.z")
        arrays |= {"sampler.in.noise": np.pad(z, [(0, 0), (1, 0)]), "sampler.out.z": z}
    if spatial:
        arrays |= {k: a[:, None] for k, a in arrays.items() if k.endswith(".z")}
    files["golden.npz"] = npz(arrays)
    manifest = spec | {
        "graphs": entries, "golden": {"file": "golden.npz", "bytes": 1, "sha256": "0" * 64},
        "training": {"epochs": 10}, "parity": {}, "producer": {"tests": "1"},
        "checkpoint_sha256": "",
    }  # fmt: skip
    return with_checksums(files, manifest)


def tensor_spec(name: str, variant: str = "fp32", *, spatial: bool = False) -> dict[str, Any]:
    """Return the manifest's entry for an input or output."""
    shape, kind = _VALUES[name]
    shape = [*_BATCH, 1, 2] if spatial and name == "z" else shape
    kind = 2 if (name, variant) == ("image", "uint8") else kind
    return {"name": name, "dtype": _DTYPES[kind], "shape": shape}


def golden(family: str, *, labelled_encoder: bool = False) -> dict[str, Any]:
    """Return the arrays of golden.npz."""
    flat = _IMAGE.reshape(5, 4) @ _WEIGHTS + (_OFFSETS[_LABELS] if labelled_encoder else 0)
    arrays = {"encoder.in.image": _IMAGE}
    if labelled_encoder:
        arrays["encoder.in.label"] = _LABELS
    if family == "ae":
        arrays["encoder.out.z"] = flat
    else:
        arrays |= {"encoder.out.mu": flat, "encoder.out.log_var": -flat}
    null = _OFFSETS[-1] if family == "cvae" else 0
    arrays |= {"decoder.in.z": _LATENTS, "decoder.out.image": _decode(_LATENTS + null)}
    if family == "cvae":
        arrays |= {
            "conditional_decoder.in.z": _LATENTS, "conditional_decoder.in.label": _LABELS,
            "conditional_decoder.out.image": _decode(_LATENTS + _OFFSETS[_LABELS]),
        }  # fmt: skip
    return {k: a.astype(np.int64 if "label" in k else np.float32) for k, a in arrays.items()}


def npz(arrays: dict[str, Any], *, deflated: bool = False) -> bytes:
    """Return an `.npz` file as NumPy writes it."""
    buffer = io.BytesIO()
    (np.savez_compressed if deflated else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def _decode(z: Any) -> Any:
    return (1 / (1 + np.exp(-(z @ _WEIGHTS.T)))).reshape(-1, 1, 2, 2)


def _ends(role: str, family: str, labelled: bool) -> tuple[list[str], list[str]]:
    label = ["label"] if labelled else []
    if role == "sampler":
        return ["noise", *label], ["image", "z"]
    if role != "encoder":
        return ["z", *label], ["image"]
    return ["image", *label], ["z"] if family == "ae" else ["mu", "log_var"]


def _nodes(role: str, family: str, variant: str, labelled: bool, spatial: bool) -> list[bytes]:
    """Return the layers of a graph; each has the constants w, wt, offsets, null and sizes."""
    label = [node("Gather", "offsets label", "offset")] if labelled else []
    if role == "encoder":
        out = "z" if family == "ae" else "mu"
        if spatial:
            grid = node("Reshape", "code grid", "z")
            return [node("Flatten", "image", "flat"), node("MatMul", "flat w", "code"), grid]
        nodes = [node("Flatten", "image", "flat"), *label]
        nodes.append(node("MatMul", "flat w", "code" if labelled else out))
        nodes += [node("Add", "code offset", out)] if labelled else []
        return nodes + ([node("Neg", "mu", "log_var")] if out == "mu" else [])
    shift = "offset" if labelled else "null" if family == "cvae" else None
    if role == "sampler":
        label.append(node("Slice", "noise first last axis", "z"))
    nodes = [*label, *([node("Add", f"z {shift}", "code")] if shift else [])]
    nodes += [node("MatMul", "code wt" if shift else "z wt", "a"), node("Sigmoid", "a", "b")]
    if variant == "uint8":
        nodes += [
            node("Mul", "b scale", "c"),
            node("Round", "c", "d"),
            node("Cast", "d", "e", to=2),
        ]
    return [*nodes, node("Reshape", f"{'e' if variant == 'uint8' else 'b'} sizes", "image")]


def _graph(
    nodes: list[bytes], inputs: list[str], outputs: list[str], variant: str, spec: dict[str, Any]
) -> bytes:
    constants = {
        "w": _WEIGHTS, "wt": _WEIGHTS.T, "offsets": _OFFSETS, "null": _OFFSETS[-1],
        "scale": np.float32([255]),
    }  # fmt: skip
    tensors = [tensor(k, list(a.shape), a.tobytes()) for k, a in constants.items()]
    tensors += [integers("sizes", -1, 1, 2, 2), integers("grid", -1, 1, 2)]
    tensors += [integers("first", 1), integers("last", 3), integers("axis", 1)]

    def ends(names: list[str]) -> list[bytes]:
        kinds = {n: 2 if (n, variant) == ("image", "uint8") else _VALUES[n][1] for n in names}
        shapes = {n: _VALUES[n][0] for n in names} | {"z": [*_BATCH, *spec["latent_shape"]]}
        return [value(n, shapes[n], kinds[n]) for n in names]

    body = (
        b"".join(field(1, n) for n in nodes) + field(2, "g")
        + b"".join(field(5, t) for t in tensors)
        + b"".join(field(11, v) for v in ends(inputs))
        + b"".join(field(12, v) for v in ends(outputs))
    )  # fmt: skip
    text = json.dumps(spec, separators=(",", ":"))
    return (
        field(1, 8) + field(2, "vae-onnx") + field(7, body)
        + field(8, field(1, "") + field(2, 18))
        + field(14, field(1, "vae_onnx") + field(2, text))
    )  # fmt: skip


def npy(
    array: Any, *, version: int = 1, header: str | None = None, data: bytes | None = None
) -> bytes:
    """Return an `.npy` file, whose header or bytes may be replaced."""
    text = header or str(
        {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    ).replace("}", ", }")
    size = "<H" if version == 1 else "<I"
    text += " " * (-(8 + struct.calcsize(size) + len(text) + 1) % 64) + "\n"
    start = b"\x93NUMPY" + bytes([version, 0]) + struct.pack(size, len(text))
    return start + text.encode("latin1") + (array.tobytes() if data is None else data)
