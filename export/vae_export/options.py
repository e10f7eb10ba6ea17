"""Export options as frozen dataclasses; torch is not imported, so that `--help` is fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vae_runtime.errors import UsageError, suggest

DEFAULT_OPSET = 18
# The lowest IR version that supports each opset, so that old runtimes can read the graph:
# onnxruntime 1.16 and newer reads opset 18 with IR 8.
IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
VARIANTS = ("fp16", "int8", "uint8")
SPREADS = ("log_var", "var", "std", "log_std")
ACTIVATIONS = ("none", "sigmoid", "tanh", "clip")
IMAGE_RANGES = ("unit", "signed")

# Wraps batches to show progress, given the number of rows in all of them and in each, and a noun.
Track = Callable[[Iterable[Any], int, int, str], Iterator[Any]]


def untracked(batches: Iterable[Any], total: int, batch_size: int, noun: str) -> Iterator[Any]:
    """Yield the batches and show nothing."""
    del total, batch_size, noun
    return iter(batches)


@dataclass(frozen=True)
class ExportOptions:
    """Options that determine how graphs are exported.

    Attributes:
        opset: version of the `ai.onnx` operator set, 18 to 23.
        variants: additional variants of the decoders to write, any of `VARIANTS`.
        allow_lossy: accept a variant with a PSNR below 45 dB.
        log: called with a one-line message for each graph that passed its checks.
        tolerance: multiplies the errors that the parity check allows, above 0.
        sampler: whether to write the sampler graph; None leaves it out if the decoder is large.
        track: wraps the batches of long steps, to show progress.

    Raises:
        UsageError: the opset or a variant is unknown, or the tolerance is not above 0.
    """

    opset: int = DEFAULT_OPSET
    variants: Sequence[str] = ()
    allow_lossy: bool = False
    log: Callable[[str], None] = lambda line: None
    tolerance: float = 1.0
    sampler: bool | None = None
    track: Track = untracked

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < float("inf"):
            raise UsageError(f"tolerance is {self.tolerance:g}, expected a number above 0")
        if self.opset not in IR_VERSIONS:
            raise UsageError(f"opset is {self.opset}, expected 18 to 23")
        for name in self.variants:
            _check_choice("variant", name, VARIANTS)


@dataclass(frozen=True)
class CustomModuleOptions:
    """Properties of a custom module that the exporter cannot infer.

    Attributes:
        name: the model's name in the manifest. Defaults to the name of its class.
        classes: class names, if the decoder takes a label; otherwise empty.
        one_hot: whether the module takes labels as f32[N, K] one-hot rows instead of i64[N]
            indices.
        null_label: the index that means "no label" to the module. By default K, if its embedding
            has K + 1 rows; an embedding with K rows is given row K, the mean of the others.
        spread: the meaning of the second tensor that `encode` returns, one of `SPREADS`.
        image_range: the range of the module's input and output pixels, `unit` for [0, 1] or
            `signed` for [-1, 1]; its output is rescaled and clipped.
        activation: function that maps the decoder's output to [0, 1], one of `ACTIVATIONS`:
            `sigmoid` for logits, `tanh` for outputs in [-1, 1], `clip` for outputs that may
            overshoot [0, 1].
        signed: whether the encoder, but not the decoder, uses pixels in [-1, 1].
        likelihood: `bernoulli` or `gaussian`, which determines how `score` measures a
            reconstruction; by default `bernoulli` if the images are nearly all black or white.
        prior: `auto` or one of `vae_runtime.prior.KINDS`; fitted to the latents of the data.
        seed: seed for the posterior samples and for the fit of the prior.

    Raises:
        UsageError: the spread, activation or image range is unknown.
    """

    name: str = ""
    classes: tuple[str, ...] = ()
    one_hot: bool = False
    null_label: int | None = None
    spread: str = "log_var"
    image_range: str = "unit"
    activation: str = "none"
    signed: bool = False
    likelihood: str = "auto"
    prior: str = "auto"
    seed: int = 0

    @classmethod
    def from_keywords(cls, **options: Any) -> CustomModuleOptions:
        """Build the options from keyword arguments of `vae_export.export`.

        Raises:
            UsageError: an option is unknown, or one of its values is.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                hint = suggest(name, known)
                raise UsageError(f"{name}: vae_export.export has no such option.{hint}")
        return cls(**options)

    def __post_init__(self) -> None:
        _check_choice("spread", self.spread, SPREADS)
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("image_range", self.image_range, IMAGE_RANGES)


@dataclass(frozen=True)
class ExportRequest:
    """The parsed command line of `vae-export`.

    Attributes:
        ckpt: a checkpoint from vae-train; with `model`, a state dict.
        bundle: a finished bundle, to write other targets of.
        model: `package.module:factory` of a custom module.
        out: path of the bundle; None derives it from `ckpt`.
        zipped: write a `.zip` instead of a folder.
        data: the data set for the parity check, and for the prior of a custom module.
        normal: normal images that the model was not trained on, for detecting anomalies.
        size: (height, width) to which the image files of `data` and `normal` are resized.
        labelled: whether the custom module's decoder takes the labels of `data`.
        c_code, report, triton, html: paths of the other outputs; None skips an output. An empty
            `report` selects the default folder.
        graphs: how graphs are exported.
        custom: other properties of the custom module, except its class names.
        compare_forward: whether to compare a custom module's bundle with its `forward`.
    """

    ckpt: Path | None = None
    bundle: Path | None = None
    model: str | None = None
    out: Path | None = None
    zipped: bool = False
    data: str | None = None
    normal: str | None = None
    size: tuple[int, int] | None = None
    labelled: bool = False
    c_code: Path | None = None
    report: str | None = None
    triton: Path | None = None
    html: Path | None = None
    graphs: ExportOptions = field(default_factory=ExportOptions)
    custom: CustomModuleOptions = field(default_factory=CustomModuleOptions)
    compare_forward: bool = True


def _check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{option} is {value!r}, expected one of {', '.join(allowed)}")
