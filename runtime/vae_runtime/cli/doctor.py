"""`vae-run doctor`: diagnose the installation and print the commands that fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console import print_json
from . import options

if TYPE_CHECKING:
    from ..inference.diagnosis import Diagnosis

EPILOG = """\b
Examples:
  vae-run doctor
  vae-run doctor --json
"""


@click.command(epilog=EPILOG)
@options.as_json
def command(as_json: bool) -> None:
    """Diagnose the installation and print the commands that fix it.

    Reports which onnxruntime is installed, which device works, and why CUDA does not.
    Exits with 7 if no graph runs or the installation is broken.
    """
    from ..errors import DeviceError
    from ..inference.diagnosis import diagnose

    found = diagnose()
    if as_json:
        print_json(found.to_json())
    else:
        click.echo("\n".join(_lines(found)))
    if not found.ok:
        run = f" Run: {' && '.join(found.fixes)}" if found.fixes else ""
        raise DeviceError(f"installation: {'; '.join(found.problems)}.{run}")


def _lines(found: Diagnosis) -> list[str]:
    table = [*found.versions.items()]
    table += [
        ("built with", ", ".join(found.providers) or "-"),
        ("graphs run on", found.device or "nothing"),
        ("cuda", found.cuda),
    ]
    if found.missing:
        table.append(("missing", ", ".join(found.missing)))
    table += [("problem", problem) for problem in found.problems]
    table += [("to fix" if found.problems else "for cuda", fix) for fix in found.fixes]
    if found.ok:
        table.append(("result", "everything works"))
    return [f"{name:<16} {value}" for name, value in table]
