"""The training configuration: one frozen dataclass, stored in every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from math import inf, nextafter
from typing import Any, Literal, get_args

from vae_runtime.errors import UsageError

Objective = Literal["bce", "mse", "gaussian"]
Schedule = Literal["constant", "one_cycle"]
Precision = Literal["auto", "float32", "bf16"]

_CHOICES = {
    "objective": get_args(Objective),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
}
# Name: type, lower bound, exclusive upper bound, and the range as text.
_RANGES: dict[str, tuple[type, float, float, str]] = {
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
    "gradient_clip": (float, 0, inf, "0 or more"),
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
    """The settings of a training run.

    Attributes:
        objective: the reconstruction term, summed over pixels and averaged over the batch. `bce` is
            the Bernoulli negative log-likelihood in nats (natural-log units), `mse` the squared
            error, `gaussian` the Gaussian negative log-likelihood in nats with one learned scale
            for all pixels (Rybkin et al. 2021, arXiv 2006.13202).
        beta: weight of the KL term (Higgins et al. 2017).
        kl_warmup: number of epochs (may be fractional) over which the KL weight rises from 0 to
            beta.
        free_bits: amount of KL per latent dimension, in nats and averaged over the batch, that is
            not penalized (Kingma et al. 2016, arXiv 1606.04934).
        importance_samples: number of latent samples per image. With 2 or more, the loss is the
            importance-weighted (IWAE) bound of Burda et al. 2015 (arXiv 1509.00519).
        importance_epochs: number of final epochs that draw `importance_samples` per image; earlier
            epochs draw one. 0 means all epochs.
        noise: standard deviation, for pixels in [0, 1], of the noise added to the encoder's input
            but not to the target of the loss (Vincent et al. 2008).
        binarise: at every step, replace each pixel by a random 0 or 1; its grey level is the
            probability of 1.
        epochs: passes over the training data.
        batch_size: images per step.
        learning_rate: Adam's learning rate, or its peak under the `one_cycle` schedule (Smith
            2018).
        schedule: `constant`, or `one_cycle`, which rises over the first 15% of the steps and then
            falls to zero.
        adam_eps: Adam's epsilon.
        gradient_clip: scale down a step's gradient if its norm exceeds this multiple (above 1) of
            the average norm of recent steps; 0 disables clipping.
        label_dropout: fraction of labels replaced by "no label"; requires a model with a null
            label.
        guidance: after training, the effect of each class on the decoder (compared with "no label")
            is multiplied by this factor. Above 1, samples of a class are easier to recognize but
            less varied.
        contrast: after training, the decoder's logits are multiplied by this factor. Above 1, edges
            are sharper and samples vary slightly more.
        prior_spread: the latents that the prior is fitted to are sampled with this fraction of the
            posterior standard deviation. With 1, the prior fits their true density; smaller values
            give sharper samples.
        validation: fraction of the training data to hold out for validation.
        patience: stop after this many epochs without a lower validation loss, and keep the weights
            and optimizer state of the best epoch; 0 disables early stopping.
        ema: decay per step of an exponential moving average of the weights, which validation and
            the checkpoint use in place of the raw weights; 0 disables averaging.
        precision: `bf16` multiplies matrices in bfloat16 and keeps weights and losses in float32.
            `auto` is resolved before training, to `bf16` on a CPU with bfloat16 instructions, else
            to `float32`.
        seed: seed for the initial weights, the order of the images and all noise.

    Raises:
        UsageError: a field is out of range, or two fields conflict; the message names the fields.
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
    gradient_clip: float = 0.0
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
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is {getattr(self, name)!r}, expected one of {allowed}")
        for name, (kind, low, high, text) in _RANGES.items():
            value = getattr(self, name)
            number = type(value) in (int, kind)  # accept an int as a float, but never a bool
            if not number or not low <= value < high:
                raise UsageError(f"{name} is {value!r}, expected {text}")
        if 0 < self.gradient_clip <= 1:
            raise UsageError(
                f"gradient_clip is {self.gradient_clip}, expected above 1, or 0 for no clipping: "
                "otherwise the average that it multiplies could only fall"
            )
        if type(self.binarise) is not bool:
            raise UsageError(f"binarise is {self.binarise!r}, expected True or False")
        self._check_together()

    def _check_together(self) -> None:
        if self.binarise and self.objective != "bce":
            raise UsageError(
                f"binarise needs objective bce, this is {self.objective}, which models grey "
                "levels. Use bce, or do not binarise."
            )
        if self.free_bits and self.importance_samples > 1:
            raise UsageError(
                f"free_bits is {self.free_bits} with {self.importance_samples} importance_samples: "
                "the importance-weighted bound has no KL term. Set only one of them."
            )
        self._check_importance_epochs()
        if self.guidance != 1 and not self.label_dropout:
            raise UsageError(
                f"guidance is {self.guidance} with label_dropout 0: the model never learns "
                "what an unlabelled image looks like. Set label_dropout, for example 0.1."
            )
        if self.patience and not self.validation:
            raise UsageError(
                f"patience is {self.patience} and validation is 0: early stopping needs held-out "
                "images. Set validation, for example 0.05."
            )

    def _check_importance_epochs(self) -> None:
        if not self.importance_epochs:
            return
        if self.importance_samples == 1 or self.importance_epochs > self.epochs:
            raise UsageError(
                f"importance_epochs is {self.importance_epochs} with {self.epochs} epochs and "
                f"importance_samples {self.importance_samples}, expected at most the number of "
                "epochs, and 2 or more samples"
            )
        if self.patience:
            raise UsageError(
                f"patience is {self.patience} with importance_epochs {self.importance_epochs}: the "
                "losses before and after the switch are not comparable. Set only one of them."
            )

    def for_epoch(self, epoch: int) -> TrainConfig:
        """Return the config for one epoch, counted from 1, with `importance_epochs` resolved."""
        if self.importance_epochs and epoch <= self.epochs - self.importance_epochs:
            return replace(self, importance_samples=1, importance_epochs=0)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain numbers and strings, for storage in a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """Build a config from the result of `to_dict`."""
        known = {f.name for f in fields(cls)}
        if not set(data) <= known:
            raise UsageError(f"unknown training fields {sorted(set(data) - known)}")
        return cls(**data)


_EPOCHS = {"default": 16, "best": 30}
_BATCHES = ((2_500, 32), (5_000, 64))  # for fewer images than the first number, that batch size
_MAX_EPOCHS = 400  # of a preset
_MIN_STEPS = {"default": 1_500, "best": 3_000}  # the epochs of small data sets have few steps


def recipe(
    preset: str, family: str, pixels: int, *, images: int | None = None, **overrides: Any
) -> TrainConfig:
    """Build the training config of a preset, overriding the given fields.

    `reference` follows common tutorials: Adam with learning rate 1e-3, batches of 32, ten epochs;
    MSE for the AE, and summed BCE + KL for the others (or summed MSE + 3·KL, with `objective="mse",
    beta=3`). `best` is `default` with more epochs. For few images, both take smaller batches, and
    enough epochs for 1,500 steps.

    Args:
        preset: `default`, `best` or `reference`.
        family: `ae`, `vae` or `cvae`.
        pixels: number of pixel values per image, C·H·W.
        images: number of images; None if there are many.
        overrides: fields of `TrainConfig`; None keeps the preset's value.
    """
    if preset == "reference":
        config = TrainConfig(batch_size=32, learning_rate=1e-3, schedule="constant", validation=0.0)
        if family == "ae":
            # Tutorials average the loss over pixels, whereas this project sums it. The gradients
            # are then `pixels` times as large, so Adam takes the same steps if its epsilon is
            # scaled to match.
            config = replace(config, objective="mse", adam_eps=1e-8 * pixels)
    else:
        config = TrainConfig(epochs=_EPOCHS[preset], precision="auto")
        if images is not None:
            config = _adapt(config, preset, images, overrides.get("batch_size"))
        if family == "ae":
            config = replace(config, objective="mse")
        if overrides.get("objective") == "gaussian":
            # As the learned deviation falls, the gradients grow, and single latents far out can
            # throw the model back by dozens of epochs.
            config = replace(config, gradient_clip=2.0)
        if family == "cvae":
            # A beta below 1 keeps more of the image in z and gives sharper digits. The latents then
            # fit N(0, I) less well, but samples come from the fitted prior.
            guidance = 1.3 if overrides.get("label_dropout") != 0 else 1.0
            # Higher contrast suits ink on paper. In a photograph it would push every tone away from
            # grey.
            contrast = 1.2 if overrides.get("objective") in (None, "bce") else 1.0
            config = replace(
                config, beta=0.5, label_dropout=0.1, guidance=guidance, contrast=contrast
            )
    if family == "cvae":
        config = replace(config, prior_spread=0.5)
    return replace(config, **{key: v for key, v in overrides.items() if v is not None})


def _adapt(config: TrainConfig, preset: str, images: int, batch_size: int | None) -> TrainConfig:
    """Adapt batch size, learning rate and epochs to the number of images.

    Smaller batches have noisier gradients, which Adam tolerates at a rate lower by the square root
    (Malladi et al. 2022, arXiv 2205.10287).
    """
    if batch_size is None:
        batch_size = next((size for limit, size in _BATCHES if images < limit), config.batch_size)
        rate = config.learning_rate * (batch_size / config.batch_size) ** 0.5
        config = replace(config, batch_size=batch_size, learning_rate=rate)
    steps = -(-images // batch_size)  # per epoch
    epochs = min(_MAX_EPOCHS, -(-_MIN_STEPS[preset] // steps))
    return replace(config, epochs=max(config.epochs, epochs))
