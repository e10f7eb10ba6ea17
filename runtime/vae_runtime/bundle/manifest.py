"""`manifest.json` of a bundle: the spec, and what is known of each file."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InputError, IntegrityError
from ..files.json_fields import finite, parse_json, take
from .checksums import manifest_with_checksum, verify_manifest
from .spec import ModelSpec, check_format

NAME = "manifest.json"
ROLES = ("encoder", "decoder", "conditional_decoder")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
VARIANTS = ("fp32", "fp16", "int8", "uint8")


@dataclass(frozen=True)
class FileSpec:
    """One file of the bundle: its plain name, its length and the sha256 of its bytes."""

    file: str
    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, data: Any, where: str) -> FileSpec:
        """Read and check; a name is a plain name, never a path."""
        spec = FileSpec(
            take(data, "file", str, where),
            take(data, "bytes", int, where),
            take(data, "sha256", str, where),
        )
        if not _FILE.fullmatch(spec.file) or not _SHA256.fullmatch(spec.sha256) or spec.bytes < 1:
            raise InputError(f"{where}: file {spec.file!r}: expected a plain name, size and sha256")
        return spec


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; the first axis is `batch`, the others are numbers."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @classmethod
    def from_json(cls, data: Any, where: str) -> TensorSpec:
        """Read; whether it fits the spec is for the manifest to see."""
        shape = tuple(take(data, "shape", list, where))
        spec = cls(take(data, "name", str, where), take(data, "dtype", str, where), shape)
        if not all(type(n) is int for n in shape[1:]):  # 1.0 and true are equal to 1
            raise InputError(f"{where}: tensor {spec.name!r}: expected numbers in its shape")
        return spec


@dataclass(frozen=True)
class GraphSpec:
    """One `.onnx` file: what it does (`role`), in which precision (`variant`), its tensors."""

    role: str
    variant: str
    file: FileSpec
    opset: int
    ir: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, the file's among them."""
        data = asdict(self)
        return {"role": self.role, "variant": self.variant, **data.pop("file")} | data

    @classmethod
    def from_json(cls, data: Any, where: str) -> GraphSpec:
        """Read; whether it fits the spec is for the manifest to see."""
        return cls(
            take(data, "role", str, where),
            take(data, "variant", str, where),
            FileSpec.from_json(data, where),
            take(data, "opset", int, where),
            take(data, "ir", int, where),
            tuple(TensorSpec.from_json(t, where) for t in take(data, "inputs", list, where)),
            tuple(TensorSpec.from_json(t, where) for t in take(data, "outputs", list, where)),
        )


@dataclass(frozen=True)
class Manifest:
    """All that a bundle says about itself.

    Attributes:
        spec: the facts that the graphs share.
        graphs: each `.onnx` file.
        golden: inputs and torch's outputs, for `vae-run verify`.
        training: data set, command, epochs, metrics; free facts, never interpreted.
        parity: the tolerances and the errors measured at export.
        producer: versions of what wrote it.
        checkpoint_sha256: of the checkpoint it was exported from.
    """

    spec: ModelSpec
    graphs: tuple[GraphSpec, ...]
    golden: FileSpec
    training: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    producer: dict[str, Any] = field(default_factory=dict)
    checkpoint_sha256: str = ""

    def files(self) -> dict[str, FileSpec]:
        """Every file but the manifest, by name."""
        return {spec.file: spec for spec in (*(g.file for g in self.graphs), self.golden)}

    def graph(self, role: str, variant: str = "fp32") -> GraphSpec | None:
        """The graph that does `role` in that precision, if the bundle has it."""
        for graph in self.graphs:
            if (graph.role, graph.variant) == (role, variant):
                return graph
        return None

    def to_bytes(self) -> bytes:
        """The file's content; the same manifest always gives the same bytes."""
        data = self.spec.to_json() | {
            "graphs": [graph.to_json() for graph in self.graphs],
            "golden": asdict(self.golden),
            "training": finite(self.training),
            "parity": finite(self.parity),
            "producer": finite(self.producer),
            "checkpoint_sha256": self.checkpoint_sha256,
        }
        prior = data.pop("prior")
        # The prior's arrays are long: one line for them, indentation for what people read.
        head = json.dumps(data, indent=1, ensure_ascii=False)
        tail = json.dumps(prior, separators=(",", ":"))
        return manifest_with_checksum(f'{head[:-2]},\n "prior": {tail}\n}}\n'.encode())

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> Manifest:
        """Read what `to_bytes` wrote; `where` begins every error message.

        Raises:
            IntegrityError: its bytes are not those that were written.
            InputError: not JSON, or any value that is missing, wrong or contradicts another.
        """
        has_checksum = verify_manifest(raw, where)
        data = parse_json(raw, f"{where}: not JSON. The bundle is damaged or was edited.")
        check_format(take(data, "format", str, where), where)
        if not has_checksum:
            raise IntegrityError(
                f"{where}: damaged or edited: it does not begin with its own sha256. "
                "Copy or export the bundle again."
            )
        manifest = cls(
            ModelSpec.from_json(data, where),
            tuple(GraphSpec.from_json(g, where) for g in take(data, "graphs", list, where)),
            FileSpec.from_json(take(data, "golden", dict, where), where),
            take(data, "training", dict, where),
            take(data, "parity", dict, where),
            take(data, "producer", dict, where),
            take(data, "checkpoint_sha256", str, where),
        )
        manifest._check(where)
        return manifest

    def _check(self, where: str) -> None:
        names = [g.file.file for g in self.graphs] + [self.golden.file, NAME]
        keys = [(g.role, g.variant) for g in self.graphs]
        if len(set(names)) < len(names) or len(set(keys)) < len(keys):
            raise InputError(f"{where}: a file or a graph is listed twice")
        needed = ROLES if self.spec.classes else ROLES[:2]
        for graph in self.graphs:
            if graph.role not in needed:
                raise InputError(
                    f"{where}: graph role {graph.role!r}, expected {', '.join(needed)}"
                )
            self._check_tensors(graph, where)
        for role in needed:
            if self.graph(role) is None:
                raise InputError(f"{where}: no {role} among its graphs")

    def _check_tensors(self, graph: GraphSpec, where: str) -> None:
        """Names, types and shapes in the list of graphs must be those that the spec promises."""
        labelled = graph.role == "conditional_decoder" or (
            graph.role == "encoder" and bool(self.spec.classes) and len(graph.inputs) > 1
        )
        expected = expected_tensors(self.spec, graph.role, graph.variant, labelled=labelled)
        known = graph.variant in (VARIANTS[:1] if graph.role == "encoder" else VARIANTS)
        if not known or (graph.inputs, graph.outputs) != expected:
            raise InputError(f"{where}: {graph.file.file}: its tensors do not fit the spec")


def expected_tensors(
    spec: ModelSpec, role: str, variant: str, *, labelled: bool
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs that a graph of this spec must have, in order."""
    kind = "uint8" if variant == "uint8" else "float32"
    encodes = role == "encoder"
    image = TensorSpec("image", "float32" if encodes else kind, ("batch", *spec.image.shape))
    latents = (
        TensorSpec(name, "float32", ("batch", spec.latent_dim))
        for name in (("mu", "log_var") if encodes and spec.family != "ae" else ("z",))
    )
    label = (TensorSpec("label", "int64", ("batch",)),) if labelled else ()
    return ((image, *label), tuple(latents)) if encodes else ((*latents, *label), (image,))
