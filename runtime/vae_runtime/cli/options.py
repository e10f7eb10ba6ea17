"""Options that several commands share, as decorators and frozen dataclasses.

Imports only click and the errors, so that `--help` is instant.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import PATH, check_parent_folder, given_options
from ..errors import FileError, LimitError, UsageError

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder
    from ..bundle.spec import ModelSpec

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
ANIMATIONS = (".gif", ".webp")
TABLES = (".npy", ".npz", ".csv")
FOLDER = ""  # stands for a folder, whose name has no extension
IMAGES = (*PICTURES, *TABLES, FOLDER)
MAX_PIXELS = 64_000_000  # per picture; image viewers can still open one this large


# Values


@dataclass(frozen=True)
class ModelOptions:
    """The bundle to load and how to run it: --bundle, --variant, --device, --threads, --tf32."""

    bundle: str
    variant: str = "fp32"
    device: str = "auto"
    threads: int = 1
    tf32: bool = False

    def load(self) -> Autoencoder:
        """Load the bundle."""
        from ..loading import load

        return load(
            self.bundle,
            device=self.device,
            threads=self.threads,
            variant=self.variant,
            tf32=self.tf32,
        )


@dataclass(frozen=True)
class InputOptions:
    """The images to read: INPUTS, --label, --limit and --resize."""

    inputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    limit: int | None = None
    resize: bool = False


@dataclass(frozen=True)
class SamplingOptions:
    """Options for sampling latents: --prior, --temperature and --truncation."""

    prior: str = "fitted"
    temperature: float = 1.0
    truncation: float | None = None


@dataclass(frozen=True)
class OutputOptions:
    """The destination of a result: a file, standard output, the terminal or a JSON summary.

    Attributes:
        default: the output path if neither --out nor --show is given.
        default_extension: the output type if neither --format nor --out specifies one.
        out: value of --out.
        format: value of --format.
        as_json: print a JSON summary.
        show: show the images in the terminal.
        columns: images per row of a grid.
        scale: output pixels per image pixel.
        max_pixels: refuse to draw a picture with more pixels.
    """

    default: str | None = None
    default_extension: str = ""
    out: str | None = None
    format: str | None = None
    as_json: bool = False
    show: bool = False
    columns: int | None = None
    scale: int | None = None
    max_pixels: int = MAX_PIXELS

    @property
    def path(self) -> str | None:
        """The file or folder to write; `-` means standard output, and None means no output file."""
        return self.default if self.out is None and not self.show else self.out

    @property
    def extension(self) -> str:
        """The type of the output as a file extension; FOLDER for a folder."""
        if self.format is not None:
            return f".{self.format.lower().lstrip('.')}"
        if self.path in (None, "-"):
            return self.default_extension
        path = Path(str(self.path))
        return FOLDER if path.is_dir() else path.suffix.lower()

    @property
    def to_path(self) -> str:
        """The words ` to PATH` for a status line; empty if no file is written."""
        names = {None: "", "-": " to standard output"}
        return names.get(self.path, f" to {self.path}")

    @property
    def wrote(self) -> str:
        """The words `; wrote PATH` for the end of a status line; empty if no file is written."""
        return "" if self.path in (None, "-") else f"; wrote {self.path}"

    def without_file(self) -> OutputOptions:
        """Return these options without an output file."""
        return replace(self, default=None, out=None)

    def check(self, *extensions: str, inputs: Iterable[str | None] = ()) -> None:
        """Refuse an output that could not be written, before any work is done.

        Args:
            extensions: the types that the command can write.
            inputs: the files and folders that the command reads.

        Raises:
            UsageError: the type is unknown; result and JSON would both go to standard output, or
                binary data to a terminal; or an input would be overwritten.
            FileError: the parent folder is missing or read-only, or `path` is of the wrong kind.
        """
        if self.path == "":
            raise UsageError("-o is empty, expected a file, a folder or - for standard output")
        if self.extension not in extensions:
            known = " ".join(filter(None, extensions))
            known += " or a folder" if FOLDER in extensions else ""
            seen = self.extension or "(none)"
            raise UsageError(f"{self.path}: unknown type {seen}, expected {known}")
        if self.path == "-" and self.as_json:
            raise UsageError("-o - and --json both write to standard output. Give -o a file.")
        if self.path == "-" and self.extension != ".csv" and sys.stdout and sys.stdout.isatty():
            raise UsageError(
                f"-o - would print {self.extension[1:]} data to the terminal. Redirect it, or give "
                "-o a file."
            )
        if self.path not in (None, "-"):
            self._check_name(Path(str(self.path)))
            check_parent_folder(Path(str(self.path)))
            for name in inputs:
                check_not_input(Path(str(self.path)), name)

    def _check_name(self, path: Path) -> None:
        """Refuse a file in place of a folder, or the reverse, or a name that does not fit."""
        if self.extension == FOLDER and path.exists() and not path.is_dir():
            raise FileError(f"{path}: a file, but a name without an extension means a folder")
        if self.extension != FOLDER and path.is_dir():
            raise FileError(f"{path}: a folder, expected a file of type {self.extension}")
        named, written = (
            ".jpg" if extension == ".jpeg" else extension
            for extension in (path.suffix.lower(), self.extension)
        )
        if named in (*PICTURES, *TABLES) and named != written:
            raise UsageError(f"{path}: --format {written[1:]} contradicts the name. Leave it out.")


def check_not_input(out: Path, name: str | None) -> None:
    """Check that writing `out` does not overwrite an input, or a file inside an input folder.

    Raises:
        UsageError: it does.
    """
    if name in (None, "-") or not out.exists() or not Path(str(name)).exists():
        return
    source = Path(str(name)).resolve()
    if out.samefile(source) or (out.is_file() and source in out.resolve().parents):
        raise UsageError(f"{out}: is an input and would be overwritten. Choose another --out.")


def check_count(n: int, max_images: int) -> None:
    """Check that no more than `max_images` images will be made.

    Raises:
        LimitError: `n` is larger; the message names the option that raises the limit.
    """
    if n > max_images:
        raise LimitError(f"{n:,} images, limit {max_images:,}. Use --max-images {n} to allow it.")


def single_label(labels: tuple[str, ...], spec: ModelSpec) -> int | None:
    """Return the class index given by the single --label, or None if there is no label.

    Raises:
        UsageError: more than one label is given, the class is unknown, or the model has no classes.
        InputError: the index is out of range.
    """
    from ..labels import label_index

    if len(labels) > 1:
        raise UsageError(f"{len(labels)} labels, expected one --label")
    return label_index(labels[0], spec) if labels else None


# Decorators. The group sets `show_default`, so the help shows each default.

Decorator = Callable[[Any], Any]


def integer(
    *names: str,
    help: str,
    default: int | None = None,
    min: int = 1,
    max: int | None = None,
    multiple: bool = False,
) -> Decorator:
    """Return an option that takes an integer."""
    numbers = click.IntRange(min, max)
    return click.option(*names, type=numbers, default=default, help=help, multiple=multiple)


def number(
    name: str, *, help: str, default: float | None = None, min: float = 0, max: float | None = None
) -> Decorator:
    """Return an option that takes a decimal number."""
    return click.option(name, type=click.FloatRange(min, max), default=default, help=help)


def choice(name: str, *values: str, help: str) -> Decorator:
    """Return an option that takes one of `values`; the first is the default."""
    return click.option(name, type=click.Choice(values), default=values[0], help=help)


def flag(name: str, *names: str, help: str) -> Decorator:
    """Return an option that takes no value."""
    return click.option(name, *names, is_flag=True, help=help)


def seed(help: str, default: int | None = 0) -> Decorator:
    """Return --seed; if `default` is None, the seed is random."""
    shown: Any = "random" if default is None else True
    seeds = click.IntRange(0, 2**64 - 1)
    return click.option("--seed", type=seeds, default=default, show_default=shown, help=help)


def label(help: str = "Class index or name for all images.") -> Decorator:
    """Return --label, which may be repeated; a command that allows only one uses `single_label`."""
    return click.option("--label", "--digit", "-l", "labels", multiple=True, help=help)


def limit(default: int | None = None) -> Decorator:
    """Return --limit, for a command that reads images."""
    return integer("--limit", default=default, help="Take at most this many images.")


def samples(default: int, *names: str) -> Decorator:
    """Return --samples, for a command that estimates the negative ELBO."""
    help = "Number of posterior samples per image."
    return integer("--samples", *names, default=default, max=100_000, help=help)


bundle = click.option(
    "--bundle",
    "-b",
    type=PATH,
    metavar="PATH",
    default="mnist",
    show_default="the embedded MNIST bundle",
    help="Folder or .zip written by vae-export, or an embedded bundle: mnist or fashion.",
)
variant = click.option(
    "--variant",
    default="fp32",
    help="Precision of the graphs; any other than fp32 must be in the bundle.",
)
device = click.option(
    "--device", default="auto",
    help="Device to run on: auto, cpu, cuda, cuda:N, or another execution provider of onnxruntime, "
    "such as openvino.",
)  # fmt: skip
as_json = flag("--json", "as_json", help="Print a JSON summary.")
resize = flag("--resize", help="Resize image files to the model's size.")
max_images = integer(
    "--max-images", default=1_000_000, help="Refuse to make more images than this."
)


def collect(
    parameter: str, cls: type[Any], options: Sequence[Decorator], **constants: Any
) -> Decorator:
    """Add options to a command and pass their values to it as one dataclass.

    Args:
        parameter: the command's parameter that receives the dataclass.
        cls: the dataclass; options not among its fields remain parameters of the command.
        options: the options, in the order shown in the help.
        constants: values for fields that are not options.
    """
    names = {field.name for field in fields(cls)} - set(constants)

    def decorate(command: Callable[..., Any]) -> Any:
        @functools.wraps(command)
        def call(**values: Any) -> Any:
            chosen = {name: values.pop(name) for name in names & set(values)}
            return command(**{parameter: cls(**chosen, **constants)}, **values)

        decorated: Any = call
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def inputs(default_limit: int | None = None) -> Decorator:
    """Add INPUTS, --label, --limit and --resize, passed to the command as `source`."""
    argument = click.argument("inputs", nargs=-1, required=True, type=PATH)
    return collect("source", InputOptions, (argument, label(), limit(default_limit), resize))


def bundle_argument(command: Callable[..., Any]) -> Any:
    """Let a command take the bundle as an argument, too; it replaces --bundle."""

    @click.argument("place", metavar="[BUNDLE]", required=False, type=PATH)
    @functools.wraps(command)
    def call(place: str | None, **values: Any) -> Any:
        if place is not None:
            if "bundle" in given_options():
                raise UsageError("BUNDLE and --bundle are both given. Leave one out.")
            values["bundle"] = place
        return command(**values)

    return call


def model(*, all_variants: bool = False, as_argument: bool = False) -> Decorator:
    """Add the options of `ModelOptions`, passed to the command as `model_options`.

    Args:
        all_variants: True for a command that runs every variant.
        as_argument: True for a command without inputs, which takes the bundle as an argument, too.
    """
    options = (
        bundle,
        *(() if all_variants else (variant,)),
        device,
        integer("--threads", default=1, help="Number of CPU threads."),
        flag("--tf32", help="Allow TF32 on CUDA: faster, but pixel values differ slightly."),
    )
    decorate = collect("model_options", ModelOptions, options)
    return (lambda command: bundle_argument(decorate(command))) if as_argument else decorate


SAMPLING = (
    choice("--prior", "fitted", "normal",
           help="Latent prior to sample from: the bundle's own, or N(0, I)."),
    click.option("--temperature", type=float, default=1.0,
                 help="Scale the spread of the latents; below 1, images are more typical."),
    click.option("--truncation", type=float,
                 help="Redraw latents beyond this many standard deviations."),
)  # fmt: skip


def sampling() -> Decorator:
    """Add the options of `SamplingOptions`, passed to the command as `sampling`."""
    return collect("sampling", SamplingOptions, SAMPLING)


def output(default: str, help: str, *, extension: str = "", pictures: bool = True) -> Decorator:
    """Add the options of `OutputOptions`, passed to the command as `output`.

    Args:
        default: the output path if --out is not given.
        help: a description of the output types.
        extension: the default type, if `default` does not imply one.
        pictures: whether the result can be drawn as a picture.
    """
    help = f"Output: {help}; - is standard output. [default: {default}]"
    options = [
        click.option("--out", "-o", type=PATH, metavar="PATH", help=help),
        click.option("--format", "-f", help="Output type, if the name has no extension."),
        as_json,
    ]
    if pictures:
        options += [
            flag("--show", help="Show the images in the terminal; write a file only with --out."),
            integer("--columns", "--grid", max=10_000, help="Images per row of a grid."),
            integer("--scale", max=64, help="Output pixels per image pixel. "
                    "[default: up to 8; a grid becomes at most 1,200 pixels wide and high]"),
            integer("--max-pixels", default=MAX_PIXELS,
                    help="Refuse to draw a picture with more pixels than this."),
        ]  # fmt: skip
    constants = {"default": default, "default_extension": extension or Path(default).suffix}
    return collect("output", OutputOptions, options, **constants)
