"""`vae-run denoise`: remove noise with a model that was trained to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..console import pluralize
from . import options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EPILOG = """\b
Examples:
  vae-run denoise scans/ -b denoiser/
  vae-run denoise digits/ --noise 0.3 -b denoiser/ -o denoised.png
  vae-run denoise digits/ --salt 0.1 -b denoiser/ -o denoised.npz --json
"""


@click.command(epilog=EPILOG)
@options.inputs(default_limit=64)
@options.number(
    "--noise", default=0.0, help="Standard deviation of normal noise to add to INPUTS first."
)
@options.number(
    "--salt", default=0.0, help="Fraction of pixels of INPUTS to make black or white first."
)
@options.seed("Seed for the added noise.")
@options.output("denoised.png", "a picture, .npy, .npz, .csv or a folder (a name without a dot)")
@options.model()
def command(
    source: options.InputOptions,
    noise: float,
    salt: float,
    seed: int,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Remove noise from images.

    The model must have been trained with noise, as by vae-train --noise 0.3: a decoder can only
    draw what is like its training images. With --noise or --salt, INPUTS are clean images to which
    noise is added, and PSNR and SSIM are reported before and after. INPUTS are image files, any
    data that vae-train reads (its test split), or - for standard input. A conditional model uses
    --label if given, otherwise the labels in the data.
    """
    import numpy as np

    from ..arrays import to_float32
    from ..fidelity import add_noise
    from .inputs import read_inputs
    from .output import report, write_layers

    output.check(*options.IMAGES, inputs=(*source.inputs, model_options.bundle))
    with model_options.load() as model:
        found, label = read_inputs(source, model.spec)
        originals = to_float32(found.images)
        noisy = add_noise(originals, np.random.default_rng(seed), noise, salt)
        results = model.reconstruct(noisy, label)
        device = model.device
    added = noisy is not originals
    layers = {"original": originals} if added else {}
    write_layers(layers | {"noisy": noisy, "denoised": results}, output)
    measured = _measure(originals, noisy, results) if added else None
    text = f"{pluralize(len(results), 'denoised image')}{output.to_path}"
    if measured:
        text += (
            f": PSNR {measured['noisy_psnr_db']:.1f} to {measured['psnr_db']:.1f} dB, "
            f"SSIM {measured['noisy_ssim']:.3f} to {measured['ssim']:.3f}"
        )
    report(text, output, n=len(results), noise=noise, salt=salt, quality=measured, device=device)


def _measure(
    originals: NDArray[np.float32], noisy: NDArray[np.float32], results: NDArray[np.float32]
) -> dict[str, Any]:
    """Return the means of PSNR and SSIM before and after."""
    from ..fidelity import psnr, ssim

    return {
        "noisy_psnr_db": float(psnr(noisy, originals).mean()),
        "psnr_db": float(psnr(results, originals).mean()),
        "noisy_ssim": float(ssim(noisy, originals).mean()),
        "ssim": float(ssim(results, originals).mean()),
    }
