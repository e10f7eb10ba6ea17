"""Decode latents with fully connected and convolutional models, as float, int8 and uint8."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch

from .models import BenchmarkModel, compiled, cvae
from .timing import Table, Work

LABEL = 3


def run(table: Table) -> None:
    """Measure all models, batch sizes and variants."""
    mlp = cvae("reference", ("int8", "uint8"))
    with torch.inference_mode():
        _one(table, mlp)
        for n, rounds in ((64, 80), (256, 60), (4096, 15), (65_536, 11)):
            _batch(table, mlp, n, rounds)
        _variants(table, mlp)
        for name, n in (("conv", 64), ("conv64", 8)):
            _convolutional(table, cvae(name), n)


def _one(table: Table, mlp: BenchmarkModel) -> None:
    z, label = mlp.latents(1), np.array([LABEL])
    decoder = mlp.load()
    decoder.decode(z, LABEL)
    # Share our session: a second one would hold its own copy of the weights.
    bare = decoder.decoder(conditional=True).session.raw
    in_compiled = _compiled(mlp, z)
    candidates: dict[str, Work] = {
        "ours": lambda: decoder.decode(z, LABEL),
        "bare session": lambda: bare.run(["image"], {"z": z, "label": label}),
        "torch eager": _in_torch(mlp, z),
        **({"torch.compile": in_compiled} if in_compiled else {}),
    }
    targets: dict[str, tuple[str, float | None]] = {
        "torch eager": ("faster", 2.5), "torch.compile": ("faster", 1.0),
        "bare session": ("cost", 1.25),
    }  # fmt: skip
    table.compare("decode one latent vector, with all checks", candidates, targets, rounds=100)


def _batch(table: Table, mlp: BenchmarkModel, n: int, rounds: int) -> None:
    z, model = mlp.latents(n), mlp.load()
    hidden = np.empty((n, 256), np.float32)
    first = np.random.default_rng(1).random((z.shape[1], 256), np.float32)
    second = np.random.default_rng(2).random((256, 784), np.float32)

    def products() -> None:
        np.dot(z, first, out=hidden)
        np.dot(hidden, second)  # allocates its result, as decoding does

    candidates: dict[str, Work] = {
        "ours": lambda: model.decode(z, LABEL),
        "the bare products (BLAS)": products,
        "torch eager": _in_torch(mlp, z),
    }
    targets: dict[str, tuple[str, float | None]] = {
        "the bare products (BLAS)": ("faster", 0.95), "torch eager": ("faster", 1.0),
    }  # fmt: skip
    table.compare(f"decode {n:,} latents", candidates, targets, items=n, rounds=rounds)
    if n >= 4096:
        two = mlp.load(threads=2)
        both: dict[str, Work] = {
            "ours, two threads": lambda: two.decode(z, LABEL),
            "ours, one thread": lambda: model.decode(z, LABEL),
        }
        table.compare(
            f"decode {n:,} latents, threads=2", both, {"ours, one thread": ("faster", None)},
            items=n, rounds=rounds,
        )  # fmt: skip


def _variants(table: Table, mlp: BenchmarkModel) -> None:
    n = 256
    z, plain, int8 = mlp.latents(n), mlp.load(), mlp.load("int8")
    error = np.square(plain.decode(z, LABEL) - int8.decode(z, LABEL)).mean()
    psnr = float(-10 * np.log10(error))
    eager: dict[str, tuple[str, float | None]] = {"torch eager": ("faster", 4.0)}
    rest: dict[str, Work] = {"torch eager": _in_torch(mlp, z)}
    for name, work in (
        (f"int8, {psnr:.0f} dB", lambda: int8.decode(z, LABEL)),
        (f"int8 with uint8 output, {psnr:.0f} dB", lambda: int8.decode(z, LABEL, dtype="uint8")),
        ("uint8", lambda: plain.decode(z, LABEL, dtype="uint8")),
    ):
        table.compare(
            f"decode {n} latents, {name}", {"ours": work} | rest, eager, items=n, rounds=60
        )


def _convolutional(table: Table, conv: BenchmarkModel, n: int) -> None:
    c, h, w = conv.config.image_shape
    model, z = conv.load(), conv.latents(n)
    images = np.random.default_rng(0).random((n, c, h, w), np.float32)
    label, pixels = torch.full((n,), LABEL), torch.from_numpy(images)
    last = pixels.to(memory_format=torch.channels_last)
    targets: dict[str, tuple[str, float | None]] = {
        "torch eager": ("faster", 1.2), "torch, channels-last": ("faster", 1.2),
    }  # fmt: skip
    channels_last = deepcopy(conv.torch).to(memory_format=torch.channels_last)
    latents = torch.from_numpy(z)
    decoding: dict[str, Work] = {
        "ours": lambda: model.decode(z, LABEL),
        "torch eager": lambda: conv.torch.decode(latents, label).numpy(),
        "torch, channels-last": lambda: channels_last.decode(latents, label).numpy(),
    }
    encoding: dict[str, Work] = {
        "ours": lambda: model.encode(images, LABEL),
        "torch eager": lambda: conv.torch.encode(pixels, label)[0].numpy(),
        "torch, channels-last": lambda: channels_last.encode(last, label)[0].numpy(),
    }
    size = f"{n} of {c}×{h}×{w}"
    table.compare(f"convolutional decode, {size}", decoding, targets, items=n, rounds=20)
    table.compare(f"convolutional encode, {size}", encoding, targets, items=n, rounds=20)


def _in_torch(mlp: BenchmarkModel, z: Any) -> Work:
    latents, label = torch.from_numpy(z), torch.full((len(z),), LABEL)
    return lambda: mlp.torch.decode(latents, label).numpy()


def _compiled(mlp: BenchmarkModel, z: Any) -> Work | None:
    latents, label = torch.from_numpy(z), torch.full((len(z),), LABEL)
    decode = compiled(mlp.torch.decode, latents, label)
    return decode and (lambda: decode(latents, label).numpy())
