"""What the measurements say about a model, and what to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from vae_runtime.console import pluralize

from .measure import Measurements
from .trained_model import TrainedModel

_MIN_IMAGES = 10  # for a meaningful variance
_COLLAPSED = 0.5  # nats per image; latents with less KL carry almost no information
_OVERFIT = 0.1  # how far the held-out loss may exceed the training loss, relative to it
# Nats per pixel. A density in nats crosses zero, where a relative difference means nothing.
_MIN_SCALE = 0.05
_ROSE = 0.02  # how far the held-out loss may have risen from its lowest, relative to the loss
_FAR = 2.0  # times the distance of reconstructions or of other real images
_NEAR = 0.05  # a distance below this, relative to the variance of the images, is negligible


@dataclass(frozen=True)
class Finding:
    """One thing to know about a run.

    Attributes:
        code: a short name for programs.
        level: `warning`, or `note` if it does no harm.
        observation: the numbers.
        explanation: what they say about the model.
        advice: what to try, as it follows the word "Try:".
    """

    code: str
    level: str
    observation: str
    explanation: str
    advice: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def find_problems(measured: Measurements, trained: TrainedModel) -> list[Finding]:
    """Apply every rule; warnings come before notes."""
    findings = [f for rule in RULES if (f := rule(measured, trained)) is not None]
    return sorted(findings, key=lambda f: f.level != "warning")


def posterior_collapse(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """The posterior is the prior, whatever the image."""
    kl = measured.total_kl
    if kl is None or kl >= _COLLAPSED:
        return None
    of_a_class = " for every image of a class" if _is_conditional(trained) else " for every image"
    return Finding(
        "posterior_collapse",
        "warning",
        f"The KL divergence from N(0, I) is {kl:.2f} nats per image, close to 0; "
        f"{_count_active(measured)}.",
        "The posterior has collapsed to N(0, I): the latents carry no information about the "
        f"image, and the decoder draws the same picture{of_a_class}.",
        f"a --beta below {trained.checkpoint.train.beta:g}, more --epochs or a smaller "
        "--learning-rate.",
    )


def inactive_units(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """The model does not use some dimensions."""
    active, dim = measured.active_units, measured.latent_dim
    if active == dim or measured.images < _MIN_IMAGES:
        return None
    if posterior_collapse(measured, trained):  # already says so
        return None
    inactive = pluralize(dim - active, "latent dimension")
    if measured.kl is None:
        explanation = f"{inactive} never changed with the image, and stored nothing."
        advice = "a smaller --learning-rate or another --seed."
        if trained.checkpoint.model.relu_code:
            advice = (
                "another --seed, or the default preset: in the reference recipe, the ReLU in front "
                "of the latents often disables dimensions in the first steps."
            )
    else:
        explanation = (
            f"{inactive} held only noise, whatever the image, and the decoder ignores it. This "
            "does not harm samples, but fewer dimensions would do, or the weight of the KL term is "
            "too high."
        )
        advice = f"a lower --beta for more detail, or --latent-dim {max(1, active)} for less size."
    observation = f"{_count_active(measured)}."
    return Finding("inactive_units", "warning", observation, explanation, advice)


def worse_than_pca(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """A linear projection to as many dimensions reconstructs better."""
    if measured.pca_mse is None or measured.mse <= measured.pca_mse:
        return None
    explanation = "A linear projection that is fitted in seconds reconstructs better."
    lower_beta = ""
    if measured.kl is not None:
        explanation += (
            " A VAE gives up some accuracy for latents that can be sampled, but rarely this much."
        )
        lower_beta = ", a lower --beta"
    reference = trained.checkpoint.model.relu_code
    other = "the default preset" if reference else "larger --hidden"
    return Finding(
        "worse_than_pca",
        "warning",
        f"The squared error is {measured.mse:.4f} per pixel on {measured.split} images; PCA "
        f"(principal component analysis) with {measured.latent_dim} components has "
        f"{measured.pca_mse:.4f}.",
        explanation,
        f"more --epochs{lower_beta} or {other}.",
    )


def label_in_latents(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """The latents of a CVAE repeat what the label says."""
    accuracy, chance = measured.probe_accuracy, measured.chance_accuracy
    limit = measured.probe_limit
    if not _is_conditional(trained) or accuracy is None or chance is None or limit is None:
        return None
    if accuracy <= limit:
        return None
    explanation = "The decoder is given the label, so the latents should not contain it. "
    suggestions = []
    per_class = trained.checkpoint.prior.kind == "class_gmm"
    if per_class:
        explanation += (
            "It does not harm samples here, since the fitted prior (class_gmm) has a mixture for "
            "each class. It matters if you sample z from N(0, I), or decode one image's latents "
            "with another label."
        )
    else:
        explanation += (
            "Latents that are sampled without regard to the label will contradict it, and the "
            "decoder may follow the latents."
        )
        suggestions.append("--prior class_gmm")
    if trained.checkpoint.model.encoder_join == "none":
        suggestions.append("--encoder-join film")
    suggestions.append("a higher --beta or a smaller --latent-dim")
    return Finding(
        "label_in_latents",
        "note" if per_class else "warning",
        f"A linear classifier predicts the label of {measured.split} images from their latents "
        f"with accuracy {accuracy:.2f} (chance: {chance:.2f}, limit: {limit:.2f}).",
        explanation,
        ", ".join(suggestions) + ".",
    )


def overfit(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """The loss is much lower on the training images than on others."""
    held_out, training = measured.held_out_loss, measured.training_loss
    if held_out is None or not _losses_are_comparable(trained):
        return None
    best = held_out if measured.best_held_out_loss is None else measured.best_held_out_loss
    checkpoint = trained.checkpoint
    gaussian = checkpoint.train.objective == "gaussian"
    scale = max(abs(training), _MIN_SCALE * checkpoint.model.pixels if gaussian else 1e-9)
    gap, rise = (held_out - training) / scale, (held_out - best) / scale
    if gap <= _OVERFIT and rise <= _ROSE:
        return None
    observation = (
        f"The loss is {training:.2f} on training images and {held_out:.2f} on held-out images."
    )
    if rise > _ROSE:
        observation += f" Its lowest value on held-out images was {best:.2f}."
    beta = (
        " or a smaller --hidden."
        if measured.kl is None
        else (", a smaller --hidden or a higher --beta.")
    )
    return Finding(
        "overfit",
        "warning",
        observation,
        "The model is overfitting: it memorizes its training images, and samples may be copies of "
        "them.",
        f"more data, fewer --epochs{beta}",
    )


def _losses_are_comparable(trained: TrainedModel) -> bool:
    """Whether training and held-out losses measure the same objective.

    While the weight of the KL term rises, only the training loss is computed with the lower weight;
    guidance and contrast change the model between the last epoch and the test.
    """
    config, facts = trained.checkpoint.train, trained.checkpoint.facts
    if facts.get("best_epoch", facts["epochs"]) <= config.kl_warmup:
        return False
    validated = "validation_loss" in facts["metrics"]
    return validated or (config.guidance == 1 and config.contrast == 1)


def samples_off(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Samples differ from the data by more than the decoder's blur explains."""
    samples, blur = measured.sample_distance, measured.reconstruction_distance
    real = measured.training_distance
    if samples is None or blur is None or real is None:
        return None
    if samples <= _NEAR or samples <= _FAR * max(blur, real):
        return None
    kind = trained.checkpoint.prior.kind
    if kind in ("normal", "uniform", "gaussian"):
        advice = f"--prior auto instead of {kind}."
    elif measured.kl is None:
        advice = "more --components or a smaller --latent-dim."
    else:
        advice = "more --components, a higher --beta or a smaller --latent-dim."
    return Finding(
        "samples_off",
        "warning",
        f"Samples are {samples:.2f} away from {measured.split} images (Fréchet distance on "
        f"principal components, relative to the variance of the images); reconstructions are "
        f"{blur:.2f} away, training images {real:.2f}.",
        "The decoder can draw realistic images, but the prior gives it latents that no image has.",
        advice,
    )


def nothing_held_out(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """All measurements are on training images."""
    if measured.split != "training":
        return None
    return Finding(
        "nothing_held_out",
        "note",
        "There is no test split, and no image was held out from training.",
        "Everything here was measured on images that the model was trained on, so overfitting "
        "cannot be seen.",
        "--validation 0.1, or a data set with a test split.",
    )


def _count_active(measured: Measurements) -> str:
    verb = "is" if measured.active_units == 1 else "are"
    return f"{measured.active_units} of {measured.latent_dim} latent dimensions {verb} active"


def _is_conditional(trained: TrainedModel) -> bool:
    return trained.checkpoint.model.family == "cvae"


RULES: tuple[Callable[[Measurements, TrainedModel], Finding | None], ...] = (
    posterior_collapse,
    inactive_units,
    worse_than_pca,
    label_in_latents,
    overfit,
    samples_off,
    nothing_held_out,
)
