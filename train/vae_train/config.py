"""How a model is trained: one frozen record, stored in every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any, Literal, get_args

from vae_runtime.errors import UsageError

Objective = Literal["bce", "mse"]
Schedule = Literal["constant", "one_cycle"]
Precision = Literal["float32", "bf16"]

_WORDS = {
    "objective": get_args(Objective),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
}
# Name: type, lowest, highest, and how the range is written; the highest is left out.
_NUMBERS: dict[str, tuple[type, float, float, str]] = {
    "beta": (float, 0, inf, "0 or more"),
    "epochs": (int, 1, inf, "1 or more"),
    "batch_size": (int, 1, inf, "1 or more"),
    "learning_rate": (float, 1e-12, 10, "above 0, below 10"),
    "adam_eps": (float, 0, inf, "0 or more"),
    "label_dropout": (float, 0, 1, "0 or more, below 1"),
    "validation": (float, 0, 1, "0 or more, below 1"),
    "seed": (int, 0, 2**63, "0 to 2**63 - 1"),
}


@dataclass(frozen=True)
class TrainConfig:
    """The recipe.

    Attributes:
        objective: reconstruction term; `bce` is the Bernoulli negative log-likelihood in nats,
            `mse` the squared error. Both are summed over pixels and averaged over the batch.
        beta: weight of the KL term (Higgins et al. 2017).
        epochs, batch_size: passes over the data, images a step.
        learning_rate: of Adam; the peak where the schedule is `one_cycle` (Smith 2018).
        schedule: `constant`, or `one_cycle`: up for 15% of the steps, then down to zero.
        adam_eps: Adam's epsilon.
        label_dropout: share of labels replaced by "no label", for models with a null label.
        validation: share of the training data held out.
        precision: `bf16` multiplies matrices in bfloat16 and keeps weights and losses in float32;
            twice as fast on a GPU, or on a CPU that has the instructions.
        seed: of weights, order and noise.

    Raises:
        UsageError: a field outside its range; the message names both.
    """

    objective: Objective = "bce"
    beta: float = 1.0
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 3e-3
    schedule: Schedule = "one_cycle"
    adam_eps: float = 1e-8
    label_dropout: float = 0.0
    validation: float = 0.05
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _WORDS.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is {getattr(self, name)!r}, expected one of {allowed}")
        for name, (kind, low, high, text) in _NUMBERS.items():
            value = getattr(self, name)
            number = type(value) in (int, kind)  # a whole number is a fine float; a bool is none
            if not number or not low <= value < high:
                raise UsageError(f"{name} is {value!r}, expected {text}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote."""
        known = {f.name for f in fields(cls)}
        if not set(data) <= known:
            raise UsageError(f"unknown training fields {sorted(set(data) - known)}")
        return cls(**data)


_EPOCHS = {"default": 16, "best": 30}


def recipe(preset: str, family: str, pixels: int, **overrides: Any) -> TrainConfig:
    """The training half of a preset, with any field overridden; None leaves a field as it is.

    `reference` is the tutorial's: Adam 1e-3, batches of 32, ten epochs; MSE for the AE, summed
    BCE + KL for the others (`objective="mse", beta=3` is its other objective). `best` is `default`
    for longer.
    """
    if preset == "reference":
        config = TrainConfig(batch_size=32, learning_rate=1e-3, schedule="constant", validation=0.0)
        if family == "ae":
            # The tutorial averages over pixels where we sum: gradients are `pixels` times larger,
            # and Adam takes the same steps if its epsilon is too.
            config = replace(config, objective="mse", adam_eps=1e-8 * pixels)
    else:
        config = TrainConfig(epochs=_EPOCHS[preset])
        if family == "ae":
            config = replace(config, objective="mse")
        if family == "cvae":
            # Below 1, more of the picture stays in the code: sharper digits, and what that costs
            # under N(0, I) is nothing to samples, which come from the fitted prior.
            config = replace(config, beta=0.5, label_dropout=0.1)
    return replace(config, **{key: v for key, v in overrides.items() if v is not None})
