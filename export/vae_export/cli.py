"""The command line of `vae-export`: parse and validate options, then run the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vae_runtime import __version__
from vae_runtime.bundle.spec import LIKELIHOODS
from vae_runtime.console import (
    PATH,
    given_options,
    parse_size,
    print_status,
    progress,
    quiet_option,
    run,
)
from vae_runtime.dependencies import require
from vae_runtime.errors import UsageError
from vae_runtime.prior import KINDS

from .options import (
    ACTIVATIONS,
    DEFAULT_OPSET,
    IMAGE_RANGES,
    SPREADS,
    VARIANTS,
    CustomModuleOptions,
    ExportOptions,
    ExportRequest,
)

EPILOG = """\b
Examples:
  vae-export --ckpt cvae.pt
  vae-export --ckpt cvae.pt --data mnist          run the parity check on the test split
  vae-export --ckpt cvae.pt --zip --variant int8 --report
  vae-export --ckpt cvae.pt --c cvae-c/           also write C code that needs only libm
  vae-export --ckpt cvae.pt --triton models/      also write a Triton model repository
  vae-export --ckpt cvae.pt --html studio.html    also write an HTML page that runs the model
  vae-export --ckpt parts.pt --normal good/       learn from new images what is normal
  vae-export --bundle cvae/ --triton models/      write another target of a finished bundle

\b
A custom module with encode and decode methods (or encoder and decoder submodules):
  vae-export --model my.package:make --ckpt weights.pt --data photos/ --activation sigmoid
"""
_CUSTOM = "Custom module: "
_CUSTOM_OPTIONS = (
    "one_hot", "null_label", "image_range", "activation", "spread", "signed", "likelihood", "prior",
)  # fmt: skip
_OF_BUNDLES = {"bundle", "c_code", "triton", "html", "data", "size", "quiet"}
_PATH = click.Path(path_type=Path)


# fmt: off
@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", metavar="[CKPT]", required=False, type=_PATH)
@click.option("--ckpt", type=_PATH,
              help="Checkpoint from vae-train. With --model: a state dict saved with torch.save.")
@click.option("--bundle", "-b", type=_PATH,
              help="Finished bundle, instead of a checkpoint: write --c, --triton or --html of it. "
              "Needs no torch.")
@click.option("--out", "-o", type=_PATH,
              help="Folder or .zip to write. [default: the checkpoint's name without .pt]")
@click.option("--zip", "zipped", is_flag=True,
              help="Write one uncompressed .zip instead of a folder.")
@click.option("--data", type=PATH, help="Images for the parity check: any data that vae-train "
              "reads. With --model, the latent prior is fitted to them as well.")
@click.option("--normal", type=PATH, metavar="DATA",
              help="Normal images that the model was not trained on. The bundle learns from them "
              "what is anomalous, for vae-run detect.")
@click.option("--size", help="Resize image files of --data to HxW, for example 64x64. "
              "[default: the model's image size]")
@click.option("--opset", type=click.IntRange(18, 23), default=DEFAULT_OPSET, show_default=True,
              help="ONNX operator set. onnxruntime 1.16 and newer read opset 18.")
@click.option("--variant", "variants", multiple=True, type=click.Choice(VARIANTS),
              help="Also write a variant of each decoder: fp16 (half the size), int8 (a third of "
              "the size and faster; MLP only) or uint8 (returns uint8 pixels). May be repeated.")
@click.option("--allow-lossy", is_flag=True, help="Accept a variant with a PSNR below 45 dB.")
@click.option("--c", "c_code", type=_PATH, metavar="DIR",
              help="Also write the decoder as plain C, with an example program.")
@click.option("--tolerance", type=float, default=1.0, metavar="FACTOR", show_default=True,
              help="Multiply the errors that the parity check allows, those of torch in float32.")
@click.option("--sampler/--no-sampler", default=None,
              help="Write the sampler, one graph from noise to image. "
              "[default: unless the decoder is larger than 64 MB]")
@click.option("--report", is_flag=False, flag_value="", metavar="[DIR]",
              help="Write parity.json and parity.html to this folder. [default: OUT-report]")
@click.option("--triton", type=_PATH, metavar="DIR", help="Also write a Triton model repository.")
@click.option("--html", type=_PATH, metavar="FILE",
              help="Also write one .html file that runs the model in a browser. With --data, it "
              "includes a latent map.")
@click.option("--model", metavar="PACKAGE.MODULE:FACTORY",
              help="Export the custom module that FACTORY() returns.")
@click.option("--classes", "labelled", is_flag=True,
              help=_CUSTOM + "the decoder takes the labels of --data.")
@click.option("--one-hot", is_flag=True, help=_CUSTOM + "labels are one-hot, not indices.")
@click.option("--null-label", type=click.IntRange(0), help=_CUSTOM + 'the index for "no label".')
@click.option("--activation", type=click.Choice(ACTIVATIONS), default="none", show_default=True,
              help=_CUSTOM + "the function that maps the decoder's output to [0, 1].")
@click.option("--spread", type=click.Choice(SPREADS), default="log_var", show_default=True,
              help=_CUSTOM + "what the second tensor returned by encode contains.")
@click.option("--image-range", type=click.Choice(IMAGE_RANGES), default="unit", show_default=True,
              help=_CUSTOM + "range of its input and output; unit is [0, 1], signed is [-1, 1].")
@click.option("--signed", is_flag=True,
              help=_CUSTOM + "its encoder alone expects pixels in [-1, 1].")
@click.option("--compare-forward/--no-compare-forward", default=True, show_default=True,
              help=_CUSTOM + "compare reconstructions with those of the module's own forward.")
@click.option("--likelihood", type=click.Choice(["auto", *LIKELIHOODS]), default="auto",
              show_default=True, help=_CUSTOM + "how reconstructions are scored.")
@click.option("--prior", type=click.Choice(["auto", *KINDS]), default="auto", show_default=True,
              help=_CUSTOM + "the distribution to fit to the latents of --data.")
@quiet_option
@click.version_option(__version__, prog_name="vae-export")
def cli(**values: Any) -> None:
    """Export a model to ONNX. Every graph is compared with torch before anything is written.

    Writes encoder.onnx, decoder.onnx, conditional_decoder.onnx (conditional models only),
    sampler.onnx, the requested variants, manifest.json and golden.npz. If a step fails, nothing is
    written and the previous bundle is kept. The exit code is 4 if a graph differs from torch.
    """
    given = given_options()
    request = _request(values, given)
    if request.bundle is not None:
        from .from_bundle import write_from_bundle

        unused = [given[name] for name in sorted(given.keys() - _OF_BUNDLES)]
        if unused:
            raise UsageError(f"{', '.join(unused)}: no effect with --bundle. Leave it out.")
        write_from_bundle(request, request.bundle)
        return
    require("vae-export", "torch", "onnx", "onnxscript")
    from .command import run_export

    run_export(request)
# fmt: on


def _request(values: dict[str, Any], given: dict[str, str]) -> ExportRequest:
    """Convert click's values to dataclasses; reject options that would have no effect.

    Args:
        values: the value of each parameter, by name.
        given: the options set on the command line, by parameter name.
    """
    requires = {
        "model": ("labelled", "compare_forward", *_CUSTOM_OPTIONS),
        "labelled": ("one_hot", "null_label"),
        "data": ("size",),
    }
    checkpoint = values.pop("checkpoint")
    if checkpoint is not None and values["ckpt"] is not None:
        raise UsageError("CKPT and --ckpt are both given. Leave one out.")
    values["ckpt"] = checkpoint or values["ckpt"]
    for needed, names in requires.items():
        unused = [given[name] for name in names if name in given]
        if unused and not values[needed]:
            option = "classes" if needed == "labelled" else needed
            raise UsageError(f"{', '.join(unused)}: no effect without --{option}.")
    graphs = ExportOptions(
        values.pop("opset"),
        values.pop("variants"),
        values.pop("allow_lossy"),
        print_status,
        values.pop("tolerance"),
        values.pop("sampler"),
        progress,
    )
    custom = CustomModuleOptions(**{name: values.pop(name) for name in _CUSTOM_OPTIONS})
    size = parse_size(values.pop("size"))
    return ExportRequest(**values, size=size, graphs=graphs, custom=custom)


def main() -> None:
    """Run the console script."""
    run(cli, "vae-export")
