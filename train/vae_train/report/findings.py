"""Findings: problems that the measurements reveal, and what to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vae_runtime.console import pluralize

from ..objective import pick_objective
from .measure import Measurements
from .trained_model import TrainedModel

_MIN_IMAGES = 10  # needed for a meaningful variance
_COLLAPSED = 0.5  # nats of KL per image, below which latents carry almost no information
_USELESS = 0.9  # squared error relative to that of the mean image, above which nothing was learned
_LOST = 0.2  # part of the variance of the images that reconstructions miss, above which it shows
_FULL = 2.0  # nats of KL of a latent dimension that has no room left
_HIGH_RATE = 0.02  # a learning rate that is rarely right with Adam
_FEW_STEPS = 1_000
_GAP = 0.1  # allowed gap between held-out and training loss, relative to the training loss
_ROSE = 0.02  # allowed rise of the held-out loss from its minimum, relative to the training loss
_BETTER = 0.9  # squared error of memorized images, at most, relative to that of held-out ones
# Nats per pixel; the smallest scale for relative differences of losses. A log density can be 0,
# relative to which a difference is meaningless.
_MIN_SCALE = 0.05
_FAR = 2.0  # allowed distance of samples, relative to that of reconstructions or real images
_NEAR = 0.05  # a distance below this, relative to the variance of the images, is negligible


@dataclass(frozen=True)
class Finding:
    """One observation about a run, with its explanation and advice.

    Attributes:
        code: a short name for programs.
        level: `warning`, or `note` if the finding is harmless.
        observation: the finding, with the measured numbers.
        explanation: what the numbers mean for the model.
        advice: what to try, phrased to follow the word "Try:".
    """

    code: str
    level: str
    observation: str
    explanation: str
    advice: str


def find_problems(measured: Measurements, trained: TrainedModel) -> list[Finding]:
    """Apply all rules; list warnings before notes.

    If nothing was learned, the other measurements are only its symptoms, and are not reported.
    """
    for rule in ROOT_CAUSES:
        if (found := rule(measured, trained)) is not None:
            return [found, *filter(None, [nothing_held_out(measured, trained)])]
    findings = [f for rule in RULES if (f := rule(measured, trained)) is not None]
    return sorted(findings, key=lambda f: f.level != "warning")


def posterior_collapse(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Detect a posterior that equals N(0, I) for every image."""
    kl = measured.total_kl
    if kl is None or kl >= _COLLAPSED:
        return None
    inputs = "images of a class" if _is_conditional(trained) else "images"
    beta = trained.checkpoint.train.beta
    return Finding(
        "posterior_collapse",
        "warning",
        f"The KL divergence from N(0, I) is {kl:.2f} nats per image, close to 0; "
        f"{_count_active(measured)}.",
        "The posterior has collapsed to N(0, I): the latents carry no information about the "
        f"image, so the reconstructions of all {inputs} look alike.",
        (_remedy(trained) if beta <= 1 else "") or f"a --beta below {beta:g}.",
    )


def nothing_learned(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Detect a model whose reconstructions do not follow the image, though its KL is not 0."""
    beta = "" if measured.kl is None else ", a lower --beta"
    useless = measured.mse > _USELESS * measured.mean_mse
    if not (useless or measured.active_units == 0) or posterior_collapse(measured, trained):
        return None
    return Finding(
        "nothing_learned",
        "warning",
        f"The squared error is {measured.mse:.4f} per pixel on {measured.split} images; that of "
        f"the mean image is {measured.mean_mse:.4f}. {_count_active(measured)}.",
        "The reconstructions are no better than one and the same image for all.",
        _remedy(trained) or f"a smaller --learning-rate{beta} or more --epochs.",
    )


def inactive_units(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Detect latent dimensions that the model does not use."""
    active, dim = measured.active_units, measured.latent_dim
    if active == dim or measured.images < _MIN_IMAGES:
        return None
    inactive = pluralize(dim - active, "latent dimension")
    fewer = f"--latent-dim {active} for a smaller model"
    if measured.kl is None:
        explanation = f"{inactive} changed nothing in the decoded images, and so stored nothing."
        advice = _remedy(trained) or f"another --seed, or {fewer}."
        if trained.checkpoint.model.relu_code:
            advice = (
                "another --seed, or the default preset: in the reference recipe, the ReLU before "
                "the latents often disables dimensions in the first steps."
            )
    else:
        explanation = (
            f"{inactive} held only noise, which the decoder ignores. Samples do not suffer, but "
            "either fewer dimensions are enough or the weight of the KL term is too high."
        )
        advice = _remedy(trained) or f"a lower --beta for more detail, or {fewer}."
    level = "warning" if active < dim / 2 else "note"
    observation = f"{_count_active(measured)}."
    return Finding("inactive_units", level, observation, explanation, advice)


def worse_than_pca(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Detect reconstructions worse than those of PCA with the same number of dimensions."""
    if measured.pca_mse is None or measured.mse <= measured.pca_mse:
        return None
    explanation = "PCA, a linear projection that takes seconds to fit, reconstructs better."
    checkpoint = trained.checkpoint
    otherwise = "a larger --hidden or more --epochs."
    if measured.kl is not None:
        explanation += (
            " A VAE gives up some accuracy for latents that can be sampled, but rarely this much."
        )
        otherwise = "a lower --beta, a larger --hidden or more --epochs."
    if checkpoint.train.objective == "bce" and pick_objective(trained.training)[0] != "bce":
        otherwise = "--objective gaussian, since the images have shades between black and white."
    if checkpoint.model.relu_code:
        otherwise = "the default preset."
    return Finding(
        "worse_than_pca",
        "warning",
        f"The squared error is {measured.mse:.4f} per pixel on {measured.split} images; that of "
        f"PCA (principal component analysis) with {measured.latent_dim} components is "
        f"{measured.pca_mse:.4f}.",
        explanation,
        _remedy(trained) or otherwise,
    )


def few_dimensions(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Detect latents that are full, although much of the images is lost."""
    lost = measured.mse / measured.mean_mse if measured.mean_mse else 0.0
    least = min(measured.kl or [0.0])
    if lost < _LOST or least < _FULL or _remedy(trained):
        return None
    return Finding(
        "few_dimensions",
        "note",
        f"The reconstructions miss {lost:.0%} of the variance of the images, and each of the "
        f"{measured.latent_dim} latent dimensions carries {least:.1f} nats or more.",
        "The latents are full, so details of the images are lost.",
        f"a larger --latent-dim, such as {4 * measured.latent_dim}.",
    )


def label_in_latents(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Detect a CVAE whose latents reveal the label."""
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
            "This does not harm samples, since the fitted prior (class_gmm) has a mixture for each "
            "class. It matters if you sample z from N(0, I), or decode an image's latents with "
            "another label."
        )
    else:
        explanation += (
            "Latents that are sampled independently of the label can contradict it, and the "
            "decoder may follow them instead."
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
    """Detect a much lower loss on training images than on held-out ones.

    If the held-out loss was still at its lowest, shorter training would not help: that is a note.
    """
    held_out, training = measured.held_out_loss, measured.training_loss
    if held_out is None or not _losses_are_comparable(trained):
        return None
    # A loss may also differ because the weights still change much from step to step.
    if measured.training_mse > _BETTER * measured.mse:
        return None
    best = measured.best_held_out_loss
    checkpoint = trained.checkpoint
    gaussian = checkpoint.train.objective == "gaussian"
    scale = max(abs(training), _MIN_SCALE * checkpoint.model.pixels if gaussian else 1e-9)
    rose = best is not None and (held_out - best) / scale > _ROSE
    if not rose and (held_out - training) / scale <= _GAP:
        return None
    observation = (
        f"The loss is {training:.2f} on training images and {held_out:.2f} on held-out images."
    )
    smaller = "a smaller --hidden" + ("" if measured.kl is None else " or a higher --beta")
    if rose:
        return Finding(
            "overfit",
            "warning",
            f"{observation} Its lowest value on held-out images was {best:.2f}.",
            "The model is overfitting: it memorizes its training images, so samples may be copies "
            "of them.",
            f"--patience 5 or fewer --epochs, more data, {smaller}.",
        )
    explanation = "The model knows its training images better than others. "
    advice = f"more data, or {smaller}."
    if best is None:
        explanation += "Only losses after each epoch show whether it was trained for too long."
        advice = f"--validation 0.1 to measure them, more data, or {smaller}."
    else:
        explanation += "Its loss on others was still at its lowest, so it was not trained too long."
    return Finding("few_images", "note", observation, explanation, advice)


def _losses_are_comparable(trained: TrainedModel) -> bool:
    """Return whether training and held-out losses measure the same objective.

    While the KL weight rises, only the training loss uses the reduced weight; the held-out loss
    uses the full one. Guidance and contrast change the model after the last epoch, before it is
    evaluated on the test split.
    """
    config, metadata = trained.checkpoint.train, trained.checkpoint.metadata
    if metadata.get("best_epoch", metadata["epochs"]) <= config.kl_warmup:
        return False
    validated = "validation_loss" in metadata["metrics"]
    return validated or (config.guidance == 1 and config.contrast == 1)


def samples_off(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Detect samples that differ from the data by more than the decoder's blur explains."""
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
        f"The Fréchet distance between samples and {measured.split} images is {samples:.2f} (on "
        "principal components, relative to the variance of the images); it is "
        f"{blur:.2f} for reconstructions and {real:.2f} for training images.",
        "The decoder can produce realistic images, but the prior samples latents that no image "
        "has.",
        advice,
    )


def nothing_held_out(measured: Measurements, trained: TrainedModel) -> Finding | None:
    """Note that all measurements were made on training images."""
    if measured.split != "training":
        return None
    return Finding(
        "nothing_held_out",
        "note",
        "There is no test split, and no image was held out from training.",
        "Everything was measured on images that the model was trained on, so this report cannot "
        "detect overfitting.",
        "--validation 0.1, or a data set with a test split.",
    )


def _remedy(trained: TrainedModel) -> str:
    """Name the most likely cause of a model that has learned too little; empty if none is plain."""
    config, metadata = trained.checkpoint.train, trained.checkpoint.metadata
    if config.learning_rate > _HIGH_RATE:
        return f"a smaller --learning-rate than {config.learning_rate:g}, such as 0.003."
    steps = metadata["epochs"] * metadata["data"]["training"] / config.batch_size
    if steps < _FEW_STEPS:
        return f"more --epochs: the model was trained for only {steps:,.0f} steps."
    return ""


def _count_active(measured: Measurements) -> str:
    verb = "is" if measured.active_units == 1 else "are"
    return f"{measured.active_units} of {measured.latent_dim} latent dimensions {verb} active"


def _is_conditional(trained: TrainedModel) -> bool:
    return trained.checkpoint.model.family == "cvae"


Rule = Callable[[Measurements, TrainedModel], Finding | None]
ROOT_CAUSES: tuple[Rule, ...] = (posterior_collapse, nothing_learned)
RULES: tuple[Rule, ...] = (
    inactive_units,
    worse_than_pca,
    few_dimensions,
    label_in_latents,
    overfit,
    samples_off,
    nothing_held_out,
)
