"""What figures mean and what to try: the warnings of a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from .figures import Figures
from .subject import Subject

_FEWEST = 10  # images, for a variance to mean something
_COLLAPSED = 0.5  # nats an image: a code that says next to nothing
_OVERFIT = 0.1  # how far the loss of held-out images may lie above that of training, as a share
_SMALL = 0.05  # nats a pixel: a density crosses zero, where shares of it mean nothing
_ROSE = 0.02  # how far it may have risen from its lowest
_FAR = 2.0  # times what reconstructions or other real images differ by
_NEAR = 0.05  # share of the data's variance below which a distance is no matter


@dataclass(frozen=True)
class Finding:
    """One thing to know about a run.

    Attributes:
        code: a short name that programs can look for.
        level: `warning`, or `note` for what does no harm.
        seen: the figures.
        means: what they say about the model.
        advice: what to try.
    """

    code: str
    level: str
    seen: str
    means: str
    advice: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


Rule = Callable[[Figures, Subject], Finding | None]


def advise(figures: Figures, subject: Subject) -> list[Finding]:
    """Every rule that has something to say, warnings before notes."""
    found = [finding for rule in RULES if (finding := rule(figures, subject)) is not None]
    return sorted(found, key=lambda f: f.level != "warning")


def collapsed(figures: Figures, subject: Subject) -> Finding | None:
    """The posterior is the prior, whatever the image."""
    kl = figures.total_kl
    if kl is None or kl >= _COLLAPSED:
        return None
    return Finding(
        "posterior_collapse",
        "warning",
        f"KL is {kl:.2f} nats an image, near 0; {figures.active_units} of {figures.latent_dim} "
        "latent dimensions are active.",
        "The posterior has collapsed to the prior: latents hold nothing about the image, and the "
        "decoder draws the same picture from each"
        + (" of a class." if subject.checkpoint.model.family == "cvae" else "."),
        f"A --beta lower than {subject.checkpoint.train.beta:g}, more --epochs "
        "or a smaller --learning-rate.",
    )


def inactive(figures: Figures, subject: Subject) -> Finding | None:
    """Dimensions that the model does not use."""
    active, dim = figures.active_units, figures.latent_dim
    idle = f"{dim - active} dimension{'' if dim - active == 1 else 's'}"
    if active == dim or figures.images < _FEWEST:
        return None
    if collapsed(figures, subject):  # which says it already
        return None
    if figures.kl is None:
        means = f"{idle} of the code never change with the image and store nothing."
        advice = (
            "Another --seed, or the default preset: the reference recipe's ReLU on the code kills "
            "units in the first steps."
            if subject.checkpoint.model.relu_code
            else "A smaller --learning-rate or another --seed."
        )
    else:
        means = (
            f"{idle} of the code hold noise alone, with a KL near 0, and are ignored by the "
            "decoder. Harmless for sampling, and a sign that the code could be smaller or that "
            "the KL weighs too much."
        )
        advice = f"A lower --beta for more detail, or --latent-dim {max(1, active)} for less size."
    seen = f"{active} of {dim} latent dimensions are active."
    return Finding("inactive_units", "warning", seen, means, advice)


def worse_than_pca(figures: Figures, subject: Subject) -> Finding | None:
    """A linear code of the same size keeps more."""
    if figures.pca_mse is None or figures.mse <= figures.pca_mse:
        return None
    kl = "" if figures.kl is None else ", a lower --beta"
    other = "the default preset" if subject.checkpoint.model.relu_code else "wider --hidden"
    return Finding(
        "worse_than_pca",
        "warning",
        f"Squared error {figures.mse:.4f} a pixel on {figures.part} images; PCA with the same "
        f"{figures.latent_dim} numbers has {figures.pca_mse:.4f}.",
        "A linear projection, fitted in seconds, reconstructs better"
        + (
            "."
            if figures.kl is None
            else ". A VAE pays some error for latents that can be sampled, but seldom this much."
        ),
        f"More --epochs{kl} or {other}.",
    )


def label_in_code(figures: Figures, subject: Subject) -> Finding | None:
    """The code of a CVAE repeats what the label says."""
    if subject.checkpoint.model.family != "cvae" or figures.probe is None:
        return None
    if figures.guessing is None or figures.probe_limit is None:
        return None
    if figures.probe <= figures.probe_limit:
        return None
    own = subject.checkpoint.prior.kind == "class_gmm"
    means = "The code should be free of the label, which is given to the decoder beside it. "
    means += (
        "Harmless for sampling here: the fitted prior (class_gmm) draws the latents of each class "
        "from a mixture of its own. It matters where latents are drawn from N(0, I), or one "
        "image's code is decoded with another label."
        if own
        else "Codes drawn without regard to the label will contradict it, and the decoder may "
        "follow the code."
    )
    join = subject.checkpoint.model.encoder_join
    tries = ["--prior class_gmm"] if not own else []
    tries += ["--encoder-join film"] if join == "none" else []
    return Finding(
        "label_in_code",
        "note" if own else "warning",
        f"A linear probe reads the label of {figures.part} images from the code with accuracy "
        f"{figures.probe:.2f} (guessing: {figures.guessing:.2f}, "
        f"limit: {figures.probe_limit:.2f}).",
        means,
        ", ".join([*tries, "a higher --beta or a smaller --latent-dim"]) + ".",
    )


def overfit(figures: Figures, subject: Subject) -> Finding | None:
    """Training images are modelled much better than others."""
    held, training = figures.held_out_loss, figures.training_loss
    if held is None or not _same_objective(subject):
        return None
    best = held if figures.best_held_out_loss is None else figures.best_held_out_loss
    checkpoint = subject.checkpoint
    least = _SMALL * checkpoint.model.pixels if checkpoint.train.objective == "gaussian" else 1e-9
    scale = max(abs(training), least)
    gap, rise = (held - training) / scale, (held - best) / scale
    if gap <= _OVERFIT and rise <= _ROSE:
        return None
    seen = f"Loss {training:.2f} in training, {held:.2f} on held-out images."
    if rise > _ROSE:
        seen += f" Its lowest was {best:.2f}."
    return Finding(
        "overfit",
        "warning",
        seen,
        "The model knows its training images better than others like them: it learns them by "
        "heart, and samples may be copies.",
        "More data, fewer --epochs"
        + (
            " or a narrower --hidden."
            if figures.kl is None
            else ", a narrower --hidden or a higher --beta."
        ),
    )


def _same_objective(subject: Subject) -> bool:
    """Whether the losses of training and of held-out images are of one objective.

    While the weight of the KL still rises, only the training loss has less of it; guidance and
    contrast come after the last epoch, and before the test.
    """
    config, facts = subject.checkpoint.train, subject.checkpoint.facts
    if facts.get("best_epoch", facts["epochs"]) <= config.kl_warmup:
        return False
    validated = "validation_loss" in facts["metrics"]
    return validated or (config.guidance == 1 and config.contrast == 1)


def far_samples(figures: Figures, subject: Subject) -> Finding | None:
    """Samples differ from data by more than the decoder's blur."""
    samples, blur = figures.samples_distance, figures.reconstructions_distance
    floor = figures.floor_distance
    if samples is None or blur is None or floor is None:
        return None
    if samples <= _NEAR or samples <= _FAR * max(blur, floor):
        return None
    kind = subject.checkpoint.prior.kind
    return Finding(
        "samples_off",
        "warning",
        f"Samples differ from {figures.part} images by {samples:.2f} of their variance (Fréchet "
        f"distance on principal components); reconstructions by {blur:.2f}, training images by "
        f"{floor:.2f}.",
        "The decoder can draw such images, but the prior hands it latents that no image has.",
        f"--prior auto instead of {kind}."
        if kind in ("normal", "uniform", "gaussian")
        else "More --components or a smaller --latent-dim."
        if figures.kl is None
        else "More --components, a higher --beta or a smaller --latent-dim.",
    )


def nothing_held_out(figures: Figures, subject: Subject) -> Finding | None:
    """No figure here is about images the model has not seen."""
    if figures.part != "training":
        return None
    return Finding(
        "nothing_held_out",
        "note",
        "There is no test split, and no image was held out of the training.",
        "All figures are of images that the model was trained on: nothing here shows overfitting.",
        "--validation 0.1, or a data set with a test split.",
    )


RULES: tuple[Rule, ...] = (
    collapsed,
    inactive,
    worse_than_pca,
    label_in_code,
    overfit,
    far_samples,
    nothing_held_out,
)
