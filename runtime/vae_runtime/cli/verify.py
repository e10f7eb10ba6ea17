"""`vae-run verify`: compare this machine's results with torch's."""

from __future__ import annotations

import click

from ..console import print_json
from . import options

EPILOG = """\b
Examples:
  vae-run verify
  vae-run verify --bundle cvae/ --device cuda --json
"""


@click.command(epilog=EPILOG)
@options.number(
    "--tolerance",
    help="Largest error allowed in any graph. "
    "[default: 1e-5; higher for reduced-precision variants]",
)
@options.number("--timeout", default=300, help="Seconds that all graphs may take.")
@options.as_json
@options.model(all_variants=True, as_argument=True)
def command(
    tolerance: float | None, timeout: float, as_json: bool, model_options: options.ModelOptions
) -> None:
    """Compare this machine's results with torch's.

    Runs every graph on the golden vectors of the bundle, which are inputs and torch's outputs.
    Exits with 4 if an error exceeds its tolerance; the error of a latent is relative where its
    magnitude exceeds 1. The graphs run in a process of their own, with limited time and memory.
    """
    from ..bundle.reader import open_bundle
    from ..errors import IntegrityError
    from ..verification import compare_in_subprocess

    bundle = open_bundle(model_options.bundle)
    matches = compare_in_subprocess(
        bundle, timeout=timeout, tolerance=tolerance, device=model_options.device,
        threads=model_options.threads, tf32=model_options.tf32,
    )  # fmt: skip
    wrong = [match for match in matches if not match.ok]
    device = matches[0].device
    if as_json:
        print_json({
            "bundle": model_options.bundle, "ok": not wrong, "device": device,
            "matches": [match.to_json() for match in matches],
        })  # fmt: skip
    else:
        click.echo(f"{'graph':<28} {'output':<8} {'rows':>5} {'max error':>10} {'mean':>9} "
                   f"{'allowed':>8}  levels that differ")  # fmt: skip
        for m in matches:
            levels = "-" if m.levels is None else f"{m.levels:,} of {m.pixels:,}"
            click.echo(f"{m.file:<28} {m.output:<8} {m.rows:>5} {m.max_error:>10.2e} "
                       f"{m.mean_error:>9.1e} {m.tolerance:>8.0e}  {levels}")  # fmt: skip
        click.echo(f"device {device}: {'differs from' if wrong else 'agrees with'} torch")
    if wrong:
        worst = max(wrong, key=lambda match: match.max_error)
        raise IntegrityError(
            f"{model_options.bundle}/{worst.file}: {worst.output} differs from torch's by "
            f"{worst.max_error:.2e}, allowed {worst.tolerance:.0e}. Run vae-run doctor."
        )
