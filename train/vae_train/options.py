"""The options of `vae-train`, as one frozen dataclass."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from vae_runtime.console import is_small_integer, parse_size
from vae_runtime.errors import UsageError, suggest

from .config import TrainConfig
from .config_file import to_toml

if TYPE_CHECKING:
    from vae_models import Family, ModelConfig

# The families that an option applies to; options not listed apply to every family.
_FAMILIES = {
    "label_join": ("cvae",),
    "encoder_join": ("cvae",),
    "label_dropout": ("cvae",),
    "guidance": ("cvae",),
    "beta": ("vae", "cvae"),
    "kl_warmup": ("vae", "cvae"),
    "free_bits": ("vae", "cvae"),
    "importance_samples": ("vae", "cvae"),
    "importance_epochs": ("vae", "cvae"),
    "prior_spread": ("vae", "cvae"),
}
# The options that do not change the result, or that stand first in the recorded command.
_NOT_RECORDED = (
    "family", "data", "out", "metrics", "no_report", "tensorboard", "device", "threads", "resume",
    "force", "save_every", "quiet",
)  # fmt: skip
_MODEL_FIELDS = ("backbone", "latent_dim", "hidden", "label_join", "encoder_join")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of `vae-train`; one that is None takes the value of the preset.

    The fields from `backbone` to `encoder_join` are those of `ModelConfig`, the fields from
    `objective` to `seed` those of `TrainConfig`.

    Raises:
        UsageError: an option does not apply to the chosen family or prior.
    """

    family: Family
    data: str
    out: Path | None = None
    preset: str = "default"
    size: tuple[int, int] | None = None
    mode: str | None = None
    backbone: str | None = None
    latent_dim: int | None = None
    hidden: tuple[int, ...] | None = None
    label_join: str | None = None
    encoder_join: str | None = None
    objective: str | None = None
    beta: float | None = None
    kl_warmup: float | None = None
    free_bits: float | None = None
    importance_samples: int | None = None
    importance_epochs: int | None = None
    noise: float | None = None
    binarise: bool | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    gradient_clip: float | None = None
    precision: str | None = None
    ema: float | None = None
    label_dropout: float | None = None
    guidance: float | None = None
    contrast: float | None = None
    validation: float | None = None
    patience: int | None = None
    seed: int = 0
    prior: str = "auto"
    components: int | None = None
    prior_spread: float | None = None
    metrics: Path | None = None
    no_report: bool = False
    tensorboard: bool = False
    device: str = "auto"
    threads: int = 1
    resume: bool = False
    force: bool = False
    save_every: float = 30.0
    quiet: bool = True

    @classmethod
    def from_keywords(cls, **options: Any) -> TrainOptions:
        """Build the options from keyword arguments of `vae_train.train`.

        `size` and `hidden` may be sequences, or text as on the command line.

        Raises:
            UsageError: an option is unknown, or does not apply.
        """
        known = {field.name: field for field in fields(cls)}
        for name, value in options.items():
            if name not in known:
                hint = suggest(name, known)
                raise UsageError(f"{name}: vae_train.train has no such option.{hint}")
            if name == "size" and isinstance(value, str):
                options[name] = parse_size(value)
            elif name == "hidden" and isinstance(value, str):
                options[name] = parse_hidden(value)
            elif name == "hidden" and isinstance(value, int):
                options[name] = (value,)
            elif name in ("size", "hidden") and isinstance(value, Iterable):
                options[name] = tuple(value)
        if options.get("metrics") is not None:
            options["metrics"] = Path(options["metrics"])
        return cls(**options)

    def __post_init__(self) -> None:
        for name, families in _FAMILIES.items():
            if getattr(self, name) is not None and self.family not in families:
                raise UsageError(f"--{name.replace('_', '-')} is for {' and '.join(families)} only")
        if self.prior == "normal" and self.prior_spread is not None:
            raise UsageError(
                "--prior-spread needs a fitted prior, but --prior normal is not fitted. Omit one."
            )
        if self.resume and self.force:
            raise UsageError(
                "--resume continues a run, --force starts it again. Use only one of them."
            )
        if self.tensorboard and self.out is None:
            raise UsageError("tensorboard writes to the run folder, so it needs out. Set both.")
        self._check_values()

    def _check_values(self) -> None:
        if self.size is not None and not _is_pair(self.size):
            raise UsageError(f"size is {self.size!r}, expected (height, width)")
        for name in ("components", "threads"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise UsageError(f"{name} is {value!r}, expected 1 or more")
        for text in (self.data, "" if self.out is None else self.out.name):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UsageError(
                    f"{text!a}: a name is not UTF-8 and cannot be recorded. Rename the file."
                ) from None

    @property
    def model_overrides(self) -> dict[str, Any]:
        """The options that are fields of `ModelConfig`."""
        return {name: getattr(self, name) for name in _MODEL_FIELDS}

    @property
    def config_overrides(self) -> dict[str, Any]:
        """The options that are fields of `TrainConfig`."""
        given = asdict(self)
        return {
            field.name: given[field.name] for field in fields(TrainConfig) if field.name in given
        }

    def command(self) -> str:
        """Format the command line for the checkpoint: the options that determine the result.

        Of the path of the data, only the last component is kept.
        """
        # It knows both separators, so that no path of any system is recorded.
        words = ["vae-train", self.family, "--data", PureWindowsPath(self.data).name or self.data]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _NOT_RECORDED or value == field.default:
                continue
            option = f"--{field.name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(option if value else option.replace("--", "--no-", 1))
            elif isinstance(value, tuple):
                words += [option, ("x" if field.name == "size" else ",").join(map(str, value))]
            else:
                words += [option, str(value)]
        return shlex.join(words)

    def to_toml(self, model: ModelConfig, config: TrainConfig) -> str:
        """Format as TOML all options that affect the result, including values from the preset."""
        values: dict[str, Any] = {"family": self.family, "data": self.data, "preset": self.preset}
        values |= {name: getattr(model, name) for name in self.model_overrides}
        values |= {name: getattr(config, name) for name in self.config_overrides}
        values |= {"prior": self.prior, "components": self.components, "mode": self.mode}
        if self.size is not None:
            values["size"] = "x".join(map(str, self.size))
        if self.prior == "normal":
            del values["prior_spread"]
        every = (self.family,)
        return to_toml({k: v for k, v in values.items() if self.family in _FAMILIES.get(k, every)})


def _is_pair(size: object) -> bool:
    return isinstance(size, tuple) and [type(n) for n in size] == [int, int]


def parse_hidden(text: str | None) -> tuple[int, ...] | None:
    """Parse comma-separated widths: `512,256` → (512, 256).

    Raises:
        UsageError: the text does not have this format.
    """
    if text is None:
        return None
    widths = [width.strip() for width in text.split(",")]
    if not all(is_small_integer(width) for width in widths):
        raise UsageError(f"hidden {text!r}: expected whole numbers, for example 512,256")
    return tuple(map(int, widths))
