"""The graphs of one bundle, each loaded when it is first needed."""

from __future__ import annotations

import threading
from typing import Any

from .bundle import Bundle
from .errors import InputError, StateError, UsageError
from .graphs import Decoder, Encoder, check_dtype, check_same_bundle
from .manifest import GraphSpec

PLAIN = "fp32"  # the variant that every bundle has
BYTES = "uint8"  # the variant that gives bytes


class LoadedGraphs:
    """Encoder and decoders of a bundle in one variant, where it has that, else as exported."""

    def __init__(self, bundle: Bundle, variant: str, options: dict[str, Any]) -> None:
        """Load nothing yet.

        Args:
            bundle: where the graphs are.
            variant: `fp32`, or another one that the bundle has.
            options: `device`, `threads` and `tf32` of every session.

        Raises:
            UsageError: the bundle has no graph of this variant.
        """
        known = sorted({g.variant for g in bundle.manifest.graphs})
        if variant not in known:
            raise UsageError(
                f"{bundle.name}: has no variant {variant!r}, expected one of: {', '.join(known)}"
            )
        self._bundle, self._variant, self._options = bundle, variant, options
        self._loaded: dict[str, Encoder | Decoder] = {}
        self._decoders: dict[tuple[bool, str], Decoder] = {}  # what `decoder` found before
        self._lock = threading.Lock()
        self._closed = False

    @property
    def device(self) -> str:
        """Where the graphs really run; loads one if there is none yet."""
        with self._lock:
            loaded = next(iter(self._loaded.values()), None)
        return (loaded or self.decoder(conditional=False)).device

    def encoder(self) -> Encoder:
        """The encoder."""
        graph = self._graph("encoder", self._variant)
        assert isinstance(graph, Encoder)
        return graph

    def decoder(self, *, conditional: bool, dtype: str = "float32") -> Decoder:
        """The decoder with or without a label; for `uint8` the variant that gives bytes, if any.

        Raises:
            UsageError: a label for a model without classes; an unknown dtype.
        """
        found = self._decoders.get((conditional, dtype))
        if found is not None:
            return found
        card = self._bundle.manifest.card
        if conditional and not card.classes:
            raise UsageError(f"this {card.family} takes no label")
        check_dtype(dtype)
        # Bytes straight from the graph: no second pass over the pixels.
        variant = BYTES if dtype == "uint8" and self._variant == PLAIN else self._variant
        graph = self._graph("conditional_decoder" if conditional else "decoder", variant)
        assert isinstance(graph, Decoder)
        self._decoders[conditional, dtype] = graph
        return graph

    def close(self) -> None:
        """Close every session."""
        with self._lock:
            self._closed = True
            for graph in self._loaded.values():
                graph.close()
            self._loaded.clear()
            self._decoders.clear()

    def _graph(self, role: str, variant: str) -> Encoder | Decoder:
        manifest = self._bundle.manifest
        spec = manifest.graph(role, variant) or manifest.graph(role)
        if spec is None:
            raise InputError(f"{self._bundle.name}: has no {role}")
        name = spec.file.file
        with self._lock:
            if self._closed:
                raise StateError("this model was closed. Load it again.")
            if name not in self._loaded:
                self._loaded[name] = self._load(spec)
            return self._loaded[name]

    def _load(self, spec: GraphSpec) -> Encoder | Decoder:
        make = Encoder if spec.role == "encoder" else Decoder
        card = self._bundle.manifest.card
        graph = make(self._bundle.read(spec.file), known=(card, spec), **self._options)
        check_same_bundle(graph, card, f"{self._bundle.name}/{spec.file.file}")
        return graph
