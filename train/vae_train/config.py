"""How a model is trained: one frozen record, stored in every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from math import inf, nextafter
from typing import Any, Literal, get_args

from vae_runtime.errors import UsageError

Objective = Literal["bce", "mse", "gaussian"]
Schedule = Literal["constant", "one_cycle"]
Precision = Literal["auto", "float32", "bf16"]

_WORDS = {
    "objective": get_args(Objective),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
}
# Name: type, lowest, highest, and how the range is written; the highest is left out.
_NUMBERS: dict[str, tuple[type, float, float, str]] = {
    "beta": (float, 0, inf, "0 or more"),
    "kl_warmup": (float, 0, inf, "0 or more"),
    "free_bits": (float, 0, inf, "0 or more"),
    "importance_samples": (int, 1, 10_001, "1 to 10000"),
    "importance_epochs": (int, 0, inf, "0 or more"),
    "noise": (float, 0, inf, "0 or more"),
    "epochs": (int, 1, 1_000_001, "1 to 1000000"),
    "batch_size": (int, 1, inf, "1 or more"),
    "learning_rate": (float, 1e-12, 10, "above 0, below 10"),
    "adam_eps": (float, 0, inf, "0 or more"),
    "label_dropout": (float, 0, 1, "0 or more, below 1"),
    "guidance": (float, 0, 10, "0 or more, below 10"),
    "contrast": (float, 0.1, 10, "0.1 or more, below 10"),
    "prior_spread": (float, 0, nextafter(1, 2), "0 to 1"),
    "validation": (float, 0, 1, "0 or more, below 1"),
    "patience": (int, 0, inf, "0 or more"),
    "ema": (float, 0, 1, "0 or more, below 1"),
    "seed": (int, 0, 2**63, "0 to 2**63 - 1"),
}


@dataclass(frozen=True)
class TrainConfig:
    """The recipe.

    Attributes:
        objective: reconstruction term, summed over pixels and averaged over the batch. `bce` is the
            Bernoulli negative log-likelihood in nats, `mse` the squared error, `gaussian` the
            Gaussian negative log-likelihood in nats with one learned scale for all pixels (Rybkin
            et al. 2021, arXiv 2006.13202).
        beta: weight of the KL term (Higgins et al. 2017).
        kl_warmup: epochs, or a part of one, in which that weight rises from 0 to beta.
        free_bits: nats of KL that each latent dimension may spend for nothing, as a mean over the
            batch (Kingma et al. 2016, arXiv 1606.04934).
        importance_samples: latents drawn for each image; from 2 on, the loss is the bound of Burda
            et al. 2016 (arXiv 1509.00519).
        importance_epochs: the last epochs, which alone draw that many; those before draw one. 0 is
            all epochs.
        noise: standard deviation of the noise that the encoder's image gets and the loss's does
            not, in units of [0, 1] (Vincent et al. 2008).
        binarise: draw each pixel as 0 or 1, anew at every step, with its grey level's probability.
        epochs, batch_size: passes over the data, images a step.
        learning_rate: of Adam; the peak where the schedule is `one_cycle` (Smith 2018).
        schedule: `constant`, or `one_cycle`: up for 15% of the steps, then down to zero.
        adam_eps: Adam's epsilon.
        label_dropout: share of labels replaced by "no label", for models with a null label.
        guidance: at the end, a class moves the decoder this many times as far from "no label" as it
            was trained to: above 1, digits are easier to read and vary a little less.
        contrast: at the end, the decoder's logits become this many times as large: above 1, edges
            are harder, and digits vary a little more.
        prior_spread: share of the posterior's deviation in the latents that the prior is fitted to:
            1 makes it the density of all latents, below that samples are sharper.
        validation: share of the training data held out.
        patience: epochs without a better validation loss after which training stops, with the best
            weights and their optimiser state; 0 never stops early.
        ema: decay a step of an average of the weights, which is then what is measured and kept;
            0 keeps the weights themselves.
        precision: `bf16` multiplies matrices in bfloat16 and keeps weights and losses in float32;
            `auto` is `bf16` where the device has the instructions, and is resolved before training.
        seed: of weights, order and noise.

    Raises:
        UsageError: a field outside its range, or fields that do not go together; the message names
            them.
    """

    objective: Objective = "bce"
    beta: float = 1.0
    kl_warmup: float = 0.0
    free_bits: float = 0.0
    importance_samples: int = 1
    importance_epochs: int = 0
    noise: float = 0.0
    binarise: bool = False
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 3e-3
    schedule: Schedule = "one_cycle"
    adam_eps: float = 1e-8
    label_dropout: float = 0.0
    guidance: float = 1.0
    contrast: float = 1.0
    prior_spread: float = 0.75
    validation: float = 0.05
    patience: int = 0
    ema: float = 0.0
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
        if type(self.binarise) is not bool:
            raise UsageError(f"binarise is {self.binarise!r}, expected True or False")
        self._check_together()

    def _check_together(self) -> None:
        if self.binarise and self.objective != "bce":
            raise UsageError(
                f"binarise goes with objective bce, this is {self.objective}: the other objectives "
                "are densities of grey levels"
            )
        if self.free_bits and self.importance_samples > 1:
            raise UsageError(
                f"free_bits is {self.free_bits} with {self.importance_samples} importance_samples: "
                "that bound has no KL term to give them to. Set one of the two."
            )
        self._check_importance_epochs()
        if self.guidance != 1 and not self.label_dropout:
            raise UsageError(
                f"guidance is {self.guidance} with label_dropout 0: nothing has taught the model "
                "what an image without a label is. Set label_dropout, for example 0.1."
            )
        if self.patience and not self.validation:
            raise UsageError(
                f"patience is {self.patience} and validation 0: early stopping needs held-out "
                "images. Set validation, for example 0.05."
            )

    def _check_importance_epochs(self) -> None:
        if not self.importance_epochs:
            return
        if self.importance_samples == 1 or self.importance_epochs > self.epochs:
            raise UsageError(
                f"importance_epochs is {self.importance_epochs} of {self.epochs} epochs with "
                f"importance_samples {self.importance_samples}, expected at most all of them, "
                "and 2 samples or more"
            )
        if self.patience:
            raise UsageError(
                f"patience is {self.patience} with importance_epochs {self.importance_epochs}: the "
                "losses before and after do not compare. Set one of the two."
            )

    def of_epoch(self, epoch: int) -> TrainConfig:
        """The recipe of one epoch, counted from 1: this one, but for `importance_epochs`."""
        if self.importance_epochs and epoch <= self.epochs - self.importance_epochs:
            return replace(self, importance_samples=1, importance_epochs=0)
        return self

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
        config = TrainConfig(epochs=_EPOCHS[preset], precision="auto")
        if family == "ae":
            config = replace(config, objective="mse")
        if family == "cvae":
            # Below 1, more of the picture stays in the code: sharper digits, and what that costs
            # under N(0, I) is nothing to samples, which come from the fitted prior.
            guidance = 1.3 if overrides.get("label_dropout") != 0 else 1.0
            # Of ink on paper: in a photograph it would push every tone away from grey.
            contrast = 1.2 if overrides.get("objective") in (None, "bce") else 1.0
            config = replace(
                config, beta=0.5, label_dropout=0.1, guidance=guidance, contrast=contrast
            )
    if family == "cvae":
        config = replace(config, prior_spread=0.5)
    return replace(config, **{key: v for key, v in overrides.items() if v is not None})
