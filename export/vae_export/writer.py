"""Write a bundle as a folder or a zip, after the runtime's own reader has tried it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.autoencoder import Autoencoder
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.manifest import NAME, Manifest
from vae_runtime.bundle.reader import open_bundle, open_files
from vae_runtime.detection import Normality
from vae_runtime.errors import FileError, IntegrityError, VaeError, describe_os_error
from vae_runtime.files.atomic import write_atomic, writing_folder
from vae_runtime.verification import compare

from .model_card import NAME as CARD
from .model_card import PICTURE, card_files, is_ours


def write_bundle(manifest: Manifest, files: dict[str, bytes], out: Path) -> None:
    """Write all files, the manifest and a model card to `out`, a folder or a `.zip`, atomically.

    A previous bundle at `out` is replaced; if anything fails, it is kept.

    Raises:
        FileError: `out` is not empty and not a bundle, or cannot be written.
    """
    content = {NAME: manifest.to_bytes(), **files}
    check_target(out)
    zipped = out.suffix == ".zip"
    content |= card_files(manifest, content, picture=not zipped)
    if zipped:
        write_atomic(out, pack(content))
        return
    with writing_folder(out) as folder:
        for name, raw in content.items():
            (folder / name).write_bytes(raw)


def try_bundle(manifest: Manifest, files: dict[str, bytes], images: NDArray[np.float32]) -> None:
    """Open a finished bundle with the runtime's own reader; verify, sample and reconstruct.

    Raises:
        IntegrityError: one of these steps failed; nothing has been written.
    """
    try:
        bundle = open_files({NAME: manifest.to_bytes(), **files}, "the bundle")
        failed = [match for match in compare(bundle, device="cpu") if not match.ok]
        with Autoencoder(bundle, device="cpu") as model:
            shapes = {model.sample(2, seed=0).shape, model.reconstruct(images[:2]).shape}
    except VaeError as error:
        raise IntegrityError(f"the runtime refuses the finished bundle: {error}") from error
    # Lossy variants are allowed to differ; their quality is measured elsewhere.
    wrong = [f"{match.file} {match.output}" for match in failed if match.file.count(".") == 1]
    if wrong:
        raise IntegrityError(f"the finished bundle differs from torch: {', '.join(wrong)}")
    expected = manifest.spec.image.shape
    if any(shape[1:] != expected for shape in shapes):
        raise IntegrityError(f"the finished bundle gives images {shapes}, expected {expected}")


def learn_normality(manifest: Manifest, files: dict[str, bytes], images: NDArray[Any]) -> Normality:
    """Learn what is normal for a finished bundle; see `Autoencoder.learn_normality`."""
    bundle = open_files({NAME: manifest.to_bytes(), **files}, "the bundle")
    with Autoencoder(bundle, device="cpu") as model:
        return model.learn_normality(images)


def check_target(out: Path) -> None:
    """Check that writing to `out` would replace nothing but a bundle or an empty folder.

    Raises:
        FileError: `out` is something else, or its parent folder is missing.
    """
    if not out.parent.is_dir():
        raise FileError(f"{out}: folder {out.parent} is missing")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_bundle(out):
        raise FileError(
            f"{out}: exists and is not a bundle, or holds other files too. Move it away, or choose "
            "another --out."
        )


def _is_bundle(path: Path) -> bool:
    """Return whether `path` is a bundle with only the files that `write_bundle` writes."""
    try:
        # Use an absolute path, so that it cannot be the name of an embedded bundle.
        files = open_bundle(path.absolute()).manifest.files()
    except VaeError:
        return False
    if path.is_file():
        return True
    if (path / CARD).is_file() and not is_ours((path / CARD).read_bytes()):
        return False  # somebody wrote a README by hand
    return {p.name for p in path.iterdir()} <= {*files, NAME, CARD, PICTURE, ".DS_Store"}


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if missing; raise `FileError` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: {describe_os_error(error)}") from error
