"""Fixtures: small bundles, and `vae-run` in this process."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import vae_runtime as vae

DATA = Path(__file__).parents[1] / "data"
BUNDLES = ("ae_conv", "ae_mlp", "cvae_conv", "cvae_mlp", "vae_conv", "vae_mlp")


def unpack(path: Path, target: Path) -> None:
    """Extract a zipped bundle to a folder."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)


class Ran(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: bytes
    err: str

    @property
    def error(self) -> str:
        """The one line of its error message."""
        assert self.out == b"", self.out
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        return self.err[:-1]


Run = Callable[..., Ran]


@pytest.fixture(params=BUNDLES)
def any_bundle(request: pytest.FixtureRequest) -> Path:
    return DATA / f"{request.param}.zip"


@pytest.fixture
def cvae_path() -> Path:
    return DATA / "cvae_conv.zip"


@pytest.fixture
def variants_path() -> Path:
    """A CVAE with `uint8` and `fp16` variants of its decoders."""
    return DATA / "cvae_mlp.zip"


@pytest.fixture
def vae_path() -> Path:
    return DATA / "vae_conv.zip"


@pytest.fixture
def ae_path() -> Path:
    return DATA / "ae_mlp.zip"


@pytest.fixture
def cvae(cvae_path: Path) -> Iterator[vae.Autoencoder]:
    with vae.load(cvae_path, device="cpu") as model:
        yield model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Call `vae-run` in an empty folder, as its console script does."""
    import warnings

    from vae_runtime.cli import cli
    from vae_runtime.console import run as enter

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*args: Any, stdin: bytes = b"") -> Ran:
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["vae-run", *map(str, args)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as stop:
                enter(cli, "vae-run")
        code = stop.value.code
        assert isinstance(code, int)
        return Ran(code, out.buffer.getvalue(), err.buffer.getvalue().decode())

    return call


@pytest.fixture
def digits(cvae: vae.Autoencoder, tmp_path: Path) -> Path:
    """A folder of eight small images, two of each of four classes."""
    from vae_runtime.images import encode_image

    folder = tmp_path / "digits"
    folder.mkdir()
    for label in range(4):
        for i, image in enumerate(cvae.sample(2, label, seed=label)):
            (folder / f"{label}{i}.png").write_bytes(encode_image(image))
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
