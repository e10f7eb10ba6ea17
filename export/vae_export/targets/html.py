"""Write one HTML file that runs a bundle in a browser: the studio, with the bundle inside."""

from __future__ import annotations

from pathlib import Path

from vae_runtime.bundle.reader import open_bundle
from vae_runtime.console import check_output_file
from vae_runtime.datasets import Dataset
from vae_runtime.files.atomic import write_atomic
from vae_runtime.studio.build import NO_POINTS, PageContent, encode_points, page_files
from vae_runtime.studio.single_file import single_file


def check_html(path: Path) -> None:
    """Check before the export whether the page can be made.

    Raises:
        UsageError: a file of another type.
        FileError: the file cannot be written.
        MissingExtra: onnxruntime-web is not installed.
    """
    check_output_file(path, (".html", ".htm"))
    page_files()


def write_html(bundle_path: Path, path: Path, data: Dataset | None) -> int:
    """Write the page.

    Args:
        bundle_path: the bundle that was exported.
        path: the file to write.
        data: images for the map of latents, or None.

    Returns:
        The size of the file in bytes.

    Raises:
        FileError: the file cannot be written.
    """
    bundle = open_bundle(bundle_path)
    points = NO_POINTS if data is None else encode_points(bundle, data)
    raw = single_file(PageContent(bundle, bundle_path.name, points))
    write_atomic(path, raw)
    return len(raw)
