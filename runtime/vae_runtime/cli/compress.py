"""`vae-run compress`: store images as quantised latents."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import PATH, Percent, check_output_file, pluralize
from . import options

EPILOG = """\b
Examples:
  vae-run compress digits/ -o digits.vaez
  vae-run compress digits/ --loss 20% -o small.vaez
  vae-run decompress digits.vaez -o again.png
"""


@click.command(epilog=EPILOG)
@options.inputs()
@click.option("--out", "-o", type=PATH, default="images.vaez", show_default=True, metavar="FILE",
              help="The .vaez file to write.")  # fmt: skip
@click.option("--loss", type=Percent(), default="5%", show_default=True, metavar="PERCENT",
              help="By how much quantisation may raise the squared error.")  # fmt: skip
@options.as_json
@options.model()
def command(
    source: options.InputOptions,
    out: str,
    loss: float,
    as_json: bool,
    model_options: options.ModelOptions,
) -> None:
    """Store images as quantised latents, in a small .vaez file.

    What comes back is the reconstruction, so the images must be like those that the model was
    trained on. Reports the size of the file, beside that of the images as PNG files, and the PSNR.
    INPUTS are image files, any data that vae-train reads (its test split), or - for standard input.
    A conditional model uses --label if given, otherwise the labels in the data, and stores them.
    """
    import numpy as np

    from ..arrays import to_float32
    from ..compression import compress, decompress
    from ..console import print_json, print_status
    from ..fidelity import psnr
    from ..files.atomic import write_atomic
    from ..images import encode_image, to_uint8
    from .inputs import read_inputs

    check_output_file(Path(out), (".vaez",))
    with model_options.load() as model:
        found, label = read_inputs(source, model.spec)
        raw = compress(model, found.images, label, loss=loss)
        again = decompress(model, raw)
        device = model.device
    write_atomic(Path(out), raw)
    n = len(found)
    measured = float(np.mean(psnr(again, to_float32(found.images))))
    as_png = sum(len(encode_image(image)) for image in to_uint8(to_float32(found.images[:1000])))
    facts = {
        "n": n, "bytes": len(raw), "bytes_per_image": len(raw) / n,
        "png_bytes_per_image": as_png / min(n, 1000), "psnr_db": measured,
    }  # fmt: skip
    if as_json:
        print_json(facts | {"out": out, "device": device})
        return
    print_status(
        f"wrote {pluralize(n, 'image')} to {out}: {len(raw):,} bytes, "
        f"{facts['bytes_per_image']:.1f} per image; as PNG files "
        f"{facts['png_bytes_per_image']:.0f}. PSNR {measured:.1f} dB"
    )
