"""Run `vae-export`: load the model, export the bundle and write the other targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.bundle.reader import open_bundle
from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.console import NORMAL_NAMES, check_output_file, print_status, track_images
from vae_runtime.datasets import Dataset, ReadOptions, load_held_out, log_reading, read_split
from vae_runtime.errors import FileError, UsageError
from vae_runtime.files.atomic import write_atomic
from vae_runtime.studio.build import NO_POINTS, PageContent, encode_points, page_files
from vae_runtime.studio.single_file import single_file
from vae_train import load_checkpoint
from vae_train.run_folder import without_extension

from .custom_module import from_custom_module, load_factory
from .options import ExportRequest
from .pipeline import Exported, export_source
from .report import write_report
from .source import Source, from_checkpoint
from .targets.c_code import require_generator, write_c
from .targets.triton import write_triton
from .weights import load_weights
from .writer import check_target


def run_export(request: ExportRequest) -> None:
    """Export the bundle and write the other targets; report each on standard error.

    Raises:
        VaeError: an option, a file or the model was rejected. Quick checks run first.
    """
    for folder in (request.c_code, request.report, request.triton):
        if folder and Path(folder).is_file():
            raise FileError(f"{folder}: is a file, expected a folder. Choose another path.")
    if request.c_code is not None:
        require_generator()
    out = _bundle_path(request)
    check_target(out)
    if request.html is not None:
        check_output_file(request.html, (".html", ".htm"))
        page_files()  # raises if onnxruntime-web is not installed
    held_out = None
    if request.model is not None:
        source = _custom_source(request, request.model)
    else:
        source, held_out = _checkpoint_source(request)
    if request.normal is not None:
        normal = _normal_images(request, request.normal, source.spec.image)
        source = replace(source, normal=normal)
    exported = export_source(source, out, request.graphs)
    if request.html is not None and request.model is not None:
        held_out = _held_out(request, exported.manifest.spec.image)
    _write_targets(request, exported, out, held_out)
    files = out.iterdir() if out.is_dir() else (out,)
    size = sum(file.stat().st_size for file in files)
    print_status(f"wrote {out}, {size:,} bytes. Next: vae-run sample --bundle {out}")


def _bundle_path(request: ExportRequest) -> Path:
    """Choose the path of the bundle: --out if given, else a path derived from --ckpt."""
    ckpt = request.ckpt
    if ckpt is None and request.model is None:
        raise UsageError("--ckpt is missing. Name the checkpoint from vae-train to export.")
    if request.out is not None:
        path = request.out
    elif ckpt is not None:
        path = without_extension(ckpt)
    else:
        raise UsageError("--out is missing. Name the folder or .zip for the bundle of --model.")
    if request.zipped and path.suffix != ".zip":
        path = path.with_name(f"{path.name}.zip")
    if ckpt is not None and ckpt.is_dir():
        raise UsageError(
            f"{ckpt}: is a folder, expected a checkpoint from vae-train such as cvae.pt."
        )
    if path == ckpt:
        raise UsageError(f"{ckpt}: the bundle would replace the checkpoint. Use --out.")
    return path


def _checkpoint_source(request: ExportRequest) -> tuple[Source, Dataset | None]:
    """Load a checkpoint, and the images of --data for its parity check."""
    assert request.ckpt is not None
    checkpoint = load_checkpoint(request.ckpt)
    held_out = _held_out(request, ImageSpec(*checkpoint.model.image_shape))
    return from_checkpoint(checkpoint, held_out), held_out


def _custom_source(request: ExportRequest, model: str) -> Source:
    """Load a custom module with its weights, and fit its prior to --data."""
    if request.data is None:
        raise UsageError("--data is missing. A custom module needs images to fit its prior to.")
    data = read_split(
        request.data, "train", ReadOptions(request.size, alpha=True, track=track_images)
    )
    log_reading(request.data, data, print_status)
    module = load_factory(model)
    sha256 = load_weights(module, request.ckpt, print_status) if request.ckpt is not None else ""
    options = replace(
        request.custom,
        name=model.rpartition(":")[2],
        classes=data.classes if request.labelled else (),
    )
    return from_custom_module(
        module,
        data,
        options,
        sha256,
        compare=request.compare_forward,
        log=print_status,
        track=request.graphs.track,
    )


def _held_out(request: ExportRequest, image: ImageSpec) -> Dataset | None:
    """Load --data at the model's image size: its test split, or all images if there is none."""
    return None if request.data is None else _read(request, request.data, image)


def _normal_images(request: ExportRequest, source: str, image: ImageSpec) -> NDArray[Any]:
    """Read normal images: those of the classes that say so, or else all of them."""
    data = _read(request, source, image)
    named = [k for k, name in enumerate(data.classes) if name in NORMAL_NAMES]
    if data.labels is not None and named:
        data = data.take(np.flatnonzero(np.isin(data.labels, named)))
    return np.asarray(data.images)


def _read(request: ExportRequest, source: str, image: ImageSpec) -> Dataset:
    """Load the test split of a data set, or all of it if it has none, at the model's image size."""
    size = request.size or image.shape[1:]
    return load_held_out(source, print_status, ReadOptions(size, image.mode, track=track_images))


def _write_targets(
    request: ExportRequest, exported: Exported, out: Path, held_out: Dataset | None
) -> None:
    """Write the other targets that were requested."""
    name = out.stem if out.suffix == ".zip" else out.name
    if request.c_code is not None:
        write_c(exported.manifest, exported.files, request.c_code)
        print_status(f"wrote {request.c_code}. Next: make -C {request.c_code}")
    if request.report is not None:
        folder = Path(request.report or out.with_name(f"{name}-report"))
        write_report(exported, folder)
        print_status(f"wrote {folder / 'parity.html'}")
    if request.triton is not None:
        models = write_triton(exported.manifest, exported.files, request.triton, name)
        print_status(f"wrote {request.triton} with {', '.join(models)}")
    if request.html is not None:
        bundle = open_bundle(out)
        points = NO_POINTS if held_out is None else encode_points(bundle, held_out)
        page = single_file(PageContent(bundle, out.name, points))
        write_atomic(request.html, page)
        print_status(f"wrote {request.html}, {len(page):,} bytes")
