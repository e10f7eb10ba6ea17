"""The options of `vae-train`, as one frozen dataclass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_runtime.console import is_small_integer
from vae_runtime.errors import UsageError

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
_MODEL_FIELDS = ("backbone", "latent_dim", "hidden", "label_join", "encoder_join")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of one command line; an option that is None takes the preset's value.

    The fields from `backbone` to `encoder_join` are those of `ModelConfig`, the fields from
    `objective` to `seed` those of `TrainConfig`.

    Raises:
        UsageError: an option does not apply to the chosen family or prior.
    """

    family: Family
    data: str
    out: Path
    preset: str
    size: tuple[int, int] | None
    mode: str | None
    backbone: str | None
    latent_dim: int | None
    hidden: tuple[int, ...] | None
    label_join: str | None
    encoder_join: str | None
    objective: str | None
    beta: float | None
    kl_warmup: float | None
    free_bits: float | None
    importance_samples: int | None
    importance_epochs: int | None
    noise: float | None
    binarise: bool | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    schedule: str | None
    precision: str | None
    ema: float | None
    label_dropout: float | None
    guidance: float | None
    contrast: float | None
    prior_spread: float | None
    validation: float | None
    patience: int | None
    seed: int
    prior: str
    components: int | None
    metrics: Path | None
    no_report: bool
    tensorboard: bool
    device: str
    threads: int
    resume: bool
    save_every: float
    quiet: bool

    def __post_init__(self) -> None:
        for name, families in _FAMILIES.items():
            if getattr(self, name) is not None and self.family not in families:
                raise UsageError(f"--{name.replace('_', '-')} is for {' and '.join(families)} only")
        if self.prior == "normal" and self.prior_spread is not None:
            raise UsageError(
                "--prior-spread needs a fitted prior, but --prior normal is not fitted. Omit one."
            )

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
