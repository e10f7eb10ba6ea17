"""`vae-run verify`: does this machine compute what torch computed?"""

from __future__ import annotations

import click

from ..console import print_json
from .options import Source, bundle_options, json_option

EPILOG = """\b
Examples:
  vae-run verify
  vae-run verify --bundle cvae/ --device cuda --json
"""


@click.command(epilog=EPILOG)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    help="Of every graph. [default: 1e-5, more for variants that round]",
)
@json_option
@bundle_options
def command(tolerance: float | None, as_json: bool, source: Source) -> None:
    """Run every graph on the golden vectors of the bundle and compare with torch's outputs.

    Exits with 4 where an error is over its tolerance. Errors of latents are relative above 1.
    """
    from ..bundle.reader import open_bundle
    from ..errors import IntegrityError
    from ..verification import compare, smoke_test_bundle

    options = {"device": source.device, "threads": source.threads, "tf32": source.tf32}
    bundle = open_bundle(source.bundle)
    smoke_test_bundle(bundle)
    found = list(compare(bundle, tolerance=tolerance, **options))
    wrong = [match for match in found if not match.ok]
    if as_json:
        print_json({
            "bundle": source.bundle, "ok": not wrong, "device": found[0].device,
            "matches": [match.to_json() for match in found],
        })  # fmt: skip
    else:
        click.echo(f"{'graph':<28} {'output':<8} {'rows':>5} {'max error':>10} {'mean':>9} "
                   f"{'allowed':>8}  levels that differ")  # fmt: skip
        for m in found:
            levels = "-" if m.levels is None else f"{m.levels:,} of {m.pixels:,}"
            click.echo(f"{m.file:<28} {m.output:<8} {m.rows:>5} {m.max_error:>10.2e} "
                       f"{m.mean_error:>9.1e} {m.tolerance:>8.0e}  {levels}")  # fmt: skip
        click.echo(f"device {found[0].device}: {'differs from' if wrong else 'as'} torch")
    if wrong:
        worst = max(wrong, key=lambda match: match.max_error)
        raise IntegrityError(
            f"{source.bundle}/{worst.file}: {worst.output} is {worst.max_error:.2e} from torch's, "
            f"allowed {worst.tolerance:.0e}. Run vae-run doctor."
        )
