"""Read and write `manifest.json`, which describes a bundle and lists its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InputError, IntegrityError
from ..files.json_fields import finite, parse_json, take
from .checksums import manifest_with_checksum, verify_manifest
from .spec import (
    ROLES,
    VARIANTS,
    FileSpec,
    GraphSpec,
    ModelSpec,
    check_format,
    expected_tensors,
)

NAME = "manifest.json"


@dataclass(frozen=True, repr=False)
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
        spec: the model, which all graphs share.
        graphs: every `.onnx` file.
        golden: the file of golden vectors, for `vae-run verify`.
        normality: the file that says what is normal, for `vae-run detect`; None if there is none.
        training: free-form information for people, such as data set, command and metrics.
        parity: tolerances, and the errors measured at export.
        producer: names and versions of the programs that wrote the bundle.
        checkpoint_sha256: sha256 of the checkpoint that was exported.
    """

    spec: ModelSpec
    graphs: tuple[GraphSpec, ...]
    golden: FileSpec
    training: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    producer: dict[str, Any] = field(default_factory=dict)
    checkpoint_sha256: str = ""
    normality: FileSpec | None = None

    def __repr__(self) -> str:
        return f"<Manifest of {self.spec!r}: {', '.join(self.files())}>"

    def files(self) -> dict[str, FileSpec]:
        """Return all files of the bundle by name, except the manifest."""
        others = (self.golden,) if self.normality is None else (self.golden, self.normality)
        return {spec.file: spec for spec in (*(g.file for g in self.graphs), *others)}

    def graph(self, role: str, variant: str = "fp32") -> GraphSpec | None:
        """Return the graph with this role and variant, or None if it does not exist."""
        found = (g for g in self.graphs if (g.role, g.variant) == (role, variant))
        return next(found, None)

    def to_bytes(self) -> bytes:
        """Return the file's content; the same manifest always gives the same bytes."""
        data = self.spec.to_json() | {
            "graphs": [graph.to_json() for graph in self.graphs],
            "golden": asdict(self.golden),
            "training": finite(self.training),
            "parity": finite(self.parity),
            "producer": finite(self.producer),
            "checkpoint_sha256": self.checkpoint_sha256,
        }
        if self.normality is not None:
            data["normality"] = asdict(self.normality)
        prior = data.pop("prior")
        # The arrays of the prior are long, so they share one line; the rest is indented for people.
        head = json.dumps(data, indent=1, ensure_ascii=False)
        tail = json.dumps(prior, separators=(",", ":"))
        return manifest_with_checksum(f'{head[:-2]},\n "prior": {tail}\n}}\n'.encode())

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> Manifest:
        """Parse and check the output of `to_bytes`; every error message begins with `where`.

        Raises:
            IntegrityError: the checksum is missing or wrong.
            InputError: not JSON, or a value is missing, is invalid or contradicts another.
        """
        has_checksum = verify_manifest(raw, where)
        data = parse_json(raw, where)
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
            FileSpec.from_json(take(data, "normality", dict, where), where)
            if "normality" in data
            else None,
        )
        manifest._check(where)
        return manifest

    def _check(self, where: str) -> None:
        if "metrics" in self.training:
            take(self.training, "metrics", dict, f"{where}: training")
        names = [g.file.file for g in self.graphs] + [self.golden.file, NAME]
        names += [] if self.normality is None else [self.normality.file]
        keys = [(g.role, g.variant) for g in self.graphs]
        if len(set(names)) < len(names) or len(set(keys)) < len(keys):
            raise InputError(f"{where}: a file or a graph is listed twice")
        allowed = tuple(r for r in ROLES if self.spec.classes or r != "conditional_decoder")
        for graph in self.graphs:
            if graph.role not in allowed:
                raise InputError(
                    f"{where}: graph role {graph.role!r}, expected {', '.join(allowed)}"
                )
            self._check_tensors(graph, where)
        for role in allowed:
            if role != "sampler" and self.graph(role) is None:
                raise InputError(f"{where}: no {role} among its graphs")

    def _check_tensors(self, graph: GraphSpec, where: str) -> None:
        expected = expected_tensors(
            self.spec, graph.role, graph.variant, labelled=len(graph.inputs) > 1
        )
        known = graph.variant in (VARIANTS[:1] if graph.role == "encoder" else VARIANTS)
        if not known or (graph.inputs, graph.outputs) != expected:
            raise InputError(f"{where}: {graph.file.file}: its tensors do not fit the spec")
