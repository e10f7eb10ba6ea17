"""Write docs/modules.md from the measurements."""

from __future__ import annotations

from typing import Any

from tests.modules.catalogue import CASES, Case

HEAD = """# Public modules

This page shows which public modules export as they are, with which options, and how the result
compares with the module itself. `python -m tests.modules --large` makes it again: it installs each
library in an environment of its own, exports the module with random weights, and runs `vae-run`
with {commands} on the bundle.

| module | library | parameters | latents | options | parity | `forward` | bundle | time |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""

TAIL = """
*Parity* is the largest error of any output of any graph, compared with torch in float64.
*`forward`* is the largest difference between the bundle's reconstructions and the module's own.
*Time* is that of one decode through `vae_runtime`, relative to torch on one thread: below × 1 is
faster than torch.

Measured on {date} with {versions}.
{large}"""

LARGE = """
The autoencoder of Stable Diffusion was exported with images of 256×256 pixels in {minutes:.0f}
minutes on two cores that were busy with other work, with a peak of {gigabytes:.1f} GB of memory.
"""


def page(document: dict[str, Any]) -> str:
    """Format the page."""
    rows = document["rows"]
    found = [(case, rows[case.name]) for case in CASES if case.name in rows]
    commands = next(list(row["commands"]) for _, row in found if "commands" in row)
    versions = {k: v for _, row in found for k, v in row["versions"].items()}
    large = [row for case, row in found if case.large and "seconds" in row]
    return (
        HEAD.format(commands=", ".join(commands))
        + "".join(line(case, row) for case, row in found)
        + TAIL.format(
            date=document["date"],
            versions=", ".join(f"{name} {version}" for name, version in versions.items()),
            large=LARGE.format(
                minutes=large[0]["seconds"] / 60, gigabytes=large[0]["peak_bytes"] / 1e9
            )
            if large
            else "",
        )
    )


def line(case: Case, row: dict[str, Any]) -> str:
    """Format one row of the table."""
    library = case.library.replace("==", " ") or "torch"
    start = f"| {case.name} | {library} | {_millions(row['parameters'])} "
    if "refused" in row:
        return f"{start}| refused: {row['refused'].rstrip('.')} | | | | | |\n"
    options = " ".join(_option(name, value) for name, value in case.options.items()) or "none"
    shape = "×".join(map(str, row["latent_shape"]))
    forward = "–" if row["forward"] is None else f"{row['forward']:.1g}"
    ratio = row["decode_s"] / row["torch_s"]
    return (
        f"{start}| {shape} | {options} | {row['parity']:.1e} | {forward} "
        f"| {row['bytes'] / 1e6:.1f} MB | × {ratio:.2f} |\n"
    )


def _millions(n: int) -> str:
    return f"{n / 1e6:.1f} million" if n >= 1e6 else f"{n:,}"


def _option(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    return f"`--no-{flag}`" if value is False else f"`--{flag} {value}`"
