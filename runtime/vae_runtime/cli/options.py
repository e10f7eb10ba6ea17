"""Options that several commands share. Imports click alone, so `--help` is instant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import click

from .target import MAX_PIXELS, Target

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Source(NamedTuple):
    """The model that the options name: `--bundle --variant --device --threads --tf32`."""

    bundle: str
    variant: str
    device: str
    threads: int
    tf32: bool

    def open(self) -> Autoencoder:
        """Load the bundle."""
        from ..autoencoder import load

        return load(
            self.bundle,
            device=self.device,
            threads=self.threads,
            variant=self.variant,
            tf32=self.tf32,
        )


_VARIANT = click.option("--variant", default="fp32", show_default=True,
                        help="Of the graphs, where the bundle has more: fp16, int8, uint8."
                        )  # fmt: skip
_MODEL = (
    click.option("--bundle", "-b", default="mnist", show_default="the embedded mnist",
                 help="Folder or .zip that vae-export wrote."),
    _VARIANT,
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
                 help="Threads of one run."),
    click.option("--tf32", is_flag=True, help="Let CUDA round: faster, not the same pixels."),
)  # fmt: skip


def model_options(command: F) -> F:
    """The options of `Source`; the command gets them as its argument `source`."""
    return _with_source(_MODEL, command)


def bundle_options(command: F) -> F:
    """The same without --variant, for a command that looks at all of them."""
    return _with_source([option for option in _MODEL if option is not _VARIANT], command)


def _with_source(options: Any, command: F) -> F:
    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> Any:
        chosen = Source(*(kwargs.pop(name, "fp32") for name in Source._fields))
        return command(*args, source=chosen, **kwargs)

    decorated: F = _with(options, call)
    return decorated


def output_options(default: str, what: str, *, pictures: bool = True) -> Callable[[F], F]:
    """The options of `Target`; the command gets them as its argument `target`.

    Args:
        default: the file that is written without -o.
        what: what the file may be, for the help.
        pictures: whether the result can be drawn.
    """
    options = [
        click.option("--out", "-o", help=f"{what} - is standard output. [default: {default}]"),
        click.option("--format", "-f", "kind", help="Type of the output, where its name has none."),
        click.option("--json", "as_json", is_flag=True, help="Facts as JSON on standard output."),
    ]
    if pictures:
        options += [
            click.option("--show", is_flag=True, help="Draw in the terminal; a file only with -o."),
            click.option("--columns", "--grid", type=click.IntRange(1, 10_000),
                         help="Images in a row of the picture."),
            click.option("--scale", type=click.IntRange(1, 64),
                         help="Pixels drawn a pixel. [default: grids to about 500 pixels]"),
            click.option("--pixel-limit", type=click.IntRange(1), default=MAX_PIXELS,
                         show_default=True, help="Refuse to draw a picture of more pixels."),
        ]  # fmt: skip

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in Target.FIELDS if name in kwargs}
            return command(*args, target=Target(default, **given), **kwargs)

        decorated: F = _with(options, call)
        return decorated

    return decorate


def _with(options: Any, command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def one_label(labels: tuple[str, ...]) -> str | None:
    """The only --label, or None.

    Raises:
        UsageError: more than one.
    """
    from ..errors import UsageError

    if len(labels) > 1:
        raise UsageError(f"{len(labels)} labels, expected one --label")
    return labels[0] if labels else None


def check_count(n: int, limit: int) -> None:
    """Refuse to make more than `limit` images.

    Raises:
        LimitError: with the option that allows it.
    """
    from ..errors import LimitError

    if n > limit:
        raise LimitError(f"{n:,} images, limit {limit:,}. If you mean it, say --limit {n}.")


label_option = click.option("--label", "--digit", "-l", "labels", multiple=True,
                            help="Class index or name. May be repeated.")  # fmt: skip
label_one_option = click.option("--label", "--digit", "-l", "labels", multiple=True,
                                help="Class index or name, for all.")  # fmt: skip
seed_option = click.option("--seed", type=click.IntRange(0, 2**64 - 1),
                           help="Same seed, same images. [default: a fresh one]")  # fmt: skip
limit_option = click.option("--limit", type=click.IntRange(1),
                            help="Take at most this many images.")  # fmt: skip
resize_option = click.option("--resize", is_flag=True,
                             help="Bring image files to the model's size.")  # fmt: skip
count_limit_option = click.option("--limit", type=click.IntRange(1), default=1_000_000,
                                  show_default=True,
                                  help="Refuse to make more images than this.")  # fmt: skip
_DRAW = (
    click.option("--prior", type=click.Choice(["fitted", "normal"]), default="fitted",
                 show_default=True, help="The bundle's own prior, or N(0, I)."),
    click.option("--temperature", type=float, default=1.0, show_default=True,
                 help="Spread of the latents; less is more typical."),
    click.option("--truncation", type=float, help="Redraw latents beyond this many deviations."),
)  # fmt: skip


def prior_options(command: F) -> F:
    """--prior, --temperature, --truncation."""
    decorated: F = _with(_DRAW, command)
    return decorated


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")
