"""`vae-export --bundle`: further targets of a finished bundle, without torch.

C code needs onnx and its generator; a Triton repository or an HTML page needs nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vae_runtime.bundle.reader import Bundle, open_bundle
from vae_runtime.console import check_output_file, print_status, track_images
from vae_runtime.dependencies import require
from vae_runtime.errors import FileError, UsageError
from vae_runtime.files.atomic import write_atomic

if TYPE_CHECKING:
    from .options import ExportRequest


def write_from_bundle(request: ExportRequest, path: Path) -> None:
    """Write the requested targets of a finished bundle; report each on standard error.

    Raises:
        UsageError: nothing was requested.
        VaeError: the bundle or an option was rejected.
    """
    if not (request.c_code or request.triton or request.html):
        raise UsageError("--bundle: add --c, --triton or --html, for what to write.")
    if request.html is not None:
        check_output_file(request.html, (".html", ".htm"))
    for folder in (request.c_code, request.triton):
        if folder is not None and folder.is_file():
            raise FileError(f"{folder}: is a file, expected a folder. Choose another path.")
    bundle = open_bundle(path)
    name = path.stem if path.suffix == ".zip" else path.name
    if request.c_code is not None:
        require("vae-export --c", "onnx", extra="cpu,train,c")
        from .targets.c_code import write_c

        write_c(bundle.manifest, bundle.read_all(), request.c_code)
        print_status(f"wrote {request.c_code}. Next: make -C {request.c_code}")
    if request.triton is not None:
        from .targets.triton import write_triton

        models = write_triton(bundle.manifest, bundle.read_all(), request.triton, name)
        print_status(f"wrote {request.triton} with {', '.join(models)}")
    if request.html is not None:
        _write_page(bundle, request, request.html)


def _write_page(bundle: Bundle, request: ExportRequest, out: Path) -> None:
    """Write the bundle's page, with a map of the latents of --data."""
    from vae_runtime.datasets import ReadOptions, load_held_out
    from vae_runtime.studio.build import NO_POINTS, PageContent, encode_points
    from vae_runtime.studio.single_file import single_file

    points = NO_POINTS
    if request.data is not None:
        image = bundle.manifest.spec.image
        size = request.size or image.shape[1:]
        options = ReadOptions(size, image.mode, track=track_images)
        data = load_held_out(request.data, print_status, options)
        points = encode_points(bundle, data)
    page = single_file(PageContent(bundle, Path(bundle.name).name, points))
    write_atomic(out, page)
    print_status(f"wrote {out}, {len(page):,} bytes")
