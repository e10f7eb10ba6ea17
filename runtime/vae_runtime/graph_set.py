"""The graphs of one open bundle, loaded on first use and shared by all threads."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from .errors import InputError, StateError, UsageError
from .graphs import Decoder, Encoder, RunOptions, check_dtype, loading

if TYPE_CHECKING:
    from .bundle.reader import Bundle

DEFAULT_VARIANT = "fp32"  # present in every bundle


class GraphSet:
    """The graphs of a bundle in one variant.

    Attributes:
        bundle: the open bundle.
        variant: precision of the graphs.
        options: how to run them.
    """

    def __init__(self, bundle: Bundle, variant: str, options: RunOptions) -> None:
        """Check that the variant exists and that the device works, unless it is `auto`.

        Raises:
            UsageError: the bundle has no graphs of this variant.
            DeviceError: the device is not available.
        """
        known = sorted({graph.variant for graph in bundle.manifest.graphs})
        if variant not in known:
            raise UsageError(
                f"{bundle.name}: has no variant {variant!r}, expected one of: {', '.join(known)}"
            )
        if options.device not in ("auto", "cpu"):
            from .inference.diagnosis import run_probe

            run_probe(options.device)
        self.bundle, self.variant, self.options = bundle, variant, options
        self._graphs: dict[tuple[str, str], Encoder | Decoder] = {}  # keyed by role and variant
        self._closed = False

    @property
    def device(self) -> str:
        """The device in use. Loads a graph if none is loaded yet."""
        with loading():
            loaded = next(iter(self._graphs.values()), None)
        return (loaded or self.decoder()).device

    @property
    def closed(self) -> bool:
        """Whether the graphs were released."""
        return self._closed

    def encoder(self) -> Encoder:
        """Return the encoder."""
        graph = self._load("encoder", self.variant)
        assert isinstance(graph, Encoder)
        return graph

    def decoder(self, *, conditional: bool = False, dtype: str = "float32") -> Decoder:
        """Return the decoder; with `conditional`, the one that takes a label.

        `uint8` uses the bundle's uint8 variant if it has one, to avoid a second pass over pixels.

        Raises:
            UsageError: the model has no classes to condition on, or the dtype is unknown.
        """
        spec = self.bundle.manifest.spec
        if conditional and not spec.classes:
            raise UsageError(f"this {spec.family} takes no label")
        check_dtype(dtype)
        bytes_wanted = dtype == "uint8" and self.variant == DEFAULT_VARIANT
        role = "conditional_decoder" if conditional else "decoder"
        graph = self._load(role, "uint8" if bytes_wanted else self.variant)
        assert isinstance(graph, Decoder)
        return graph

    def load_all(self) -> None:
        """Load every graph that a call on the model may use."""
        self.encoder()
        for conditional in (False, True) if self.bundle.manifest.spec.classes else (False,):
            for dtype in ("float32", "uint8"):
                self.decoder(conditional=conditional, dtype=dtype)

    def close(self) -> None:
        """Release the graphs; they cannot be used afterwards."""
        with loading():
            self._closed = True
            for graph in self._graphs.values():
                graph.close()
            self._graphs.clear()

    def _load(self, role: str, variant: str) -> Encoder | Decoder:
        """Return a role's graph, loading it if needed; if the variant does not exist, use fp32."""
        if (found := self._graphs.get((role, variant))) is not None:
            return found
        manifest = self.bundle.manifest
        graph_spec = manifest.graph(role, variant) or manifest.graph(role)
        if graph_spec is None:
            raise InputError(f"{self.bundle.name}: has no {role}")
        key = role, graph_spec.variant
        with loading():
            if self._closed:
                raise StateError("this model was closed. Load it again.")
            if key not in self._graphs:
                make = Encoder if role == "encoder" else Decoder
                raw = self.bundle.read(graph_spec.file)
                known = self.bundle, graph_spec
                self._graphs[key] = make(raw, known=known, **asdict(self.options))
            self._graphs[role, variant] = self._graphs[key]
            return self._graphs[key]
