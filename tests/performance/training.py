"""Time the training loop on one thread against a tutorial's loop and bare products.

The candidates take turns of a few hundred milliseconds. Times are CPU times of the process: on one
thread of an idle machine they equal wall time, and on a busy machine they are fairer. All
candidates keep freed memory, as `vae-train` does.

    loader    the reference recipe at batch 32 against a tutorial's `DataLoader` loop
    products  the reference recipe at batch 512 against its matrix products, forward and backward
    conv      the default convolutional CVAE at batch 128 against its convolutions alone
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.performance.timing import Row, Table, Times
from vae_models import build, preset
from vae_train.config import recipe
from vae_train.data import Images
from vae_train.device import keep_freed_memory
from vae_train.loop import fit

SHAPE = (1, 28, 28)
Work = Callable[[], int]  # trains, and returns the number of images


class TorchvisionImages(Dataset[tuple[Tensor, int]]):
    """MNIST as torchvision loads it: each item is a Pillow image that `ToTensor` converts."""

    def __init__(self, images: Images) -> None:
        self._pixels, self._labels = images.pixels[:, 0].numpy(), images.labels

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self._pixels[index])
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True)).view(1, 28, 28)
        assert self._labels is not None
        return pixels.contiguous().to(torch.float32).div(255), int(self._labels[index])


class Tutorial(nn.Module):
    """The reference VAE, written as in a tutorial."""

    def __init__(self, hidden: int = 256, h: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, h), nn.ReLU()
        )
        self.mu, self.log_var = nn.Linear(h, h), nn.Linear(h, h)
        self.decoder = nn.Sequential(
            nn.Linear(h, hidden), nn.ReLU(), nn.Linear(hidden, 784), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.encoder(x)
        mu, log_var = self.mu(hidden), self.log_var(hidden)
        return self.decoder(mu + torch.exp(log_var / 2) * torch.randn_like(mu)), mu, log_var


def tutorial(data: Dataset[Any]) -> Work:
    """Train with summed BCE + KL, Adam and batches of 32."""
    model = Tutorial()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(data, batch_size=32, shuffle=True)

    def epoch() -> int:
        done = 0
        for image, _ in loader:
            x = image.flatten(1)
            y, mu, log_var = model(x)
            kl = -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1).mean()
            loss = F.binary_cross_entropy(y, x, reduction="none").sum(dim=1).mean() + kl
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
            done += len(x)
        return done

    return epoch


def ours(images: Images, name: str, family: Any, **changes: Any) -> Work:
    """Train one epoch with the loop of `vae-train`."""
    model = build(preset(name, family, SHAPE, 10))  # type: ignore[arg-type]
    config = recipe(name, family, 784, epochs=1, validation=0.0, **changes)

    def epoch() -> int:
        fit(model, images, None, config)
        return len(images)

    return epoch


def products(batch: int, steps: int) -> Work:
    """Run the matrix products of the reference VAE: one forward and two backward per layer."""
    layers = [(784, 256), (256, 8), (8, 8), (8, 8), (8, 256), (256, 784)]
    jobs = []
    for k, (width, height) in enumerate(layers):
        x, w, dy = torch.rand(batch, width), torch.rand(height, width), torch.rand(batch, height)
        jobs.append((x, w.t(), torch.empty(batch, height)))
        jobs.append((dy.t(), x, torch.empty(height, width)))
        if k:  # the gradient of the image is not needed
            jobs.append((dy, w, torch.empty(batch, width)))

    def run() -> int:
        for _ in range(steps):
            for a, b, out in jobs:
                torch.mm(a, b, out=out)
        return batch * steps

    return run


def convolutions(batch: int, steps: int, dtype: torch.dtype) -> Work:
    """Run every convolution of the default CVAE on its input, forward and backward."""
    model = build(preset("default", "cvae", SHAPE, 10))
    seen: list[tuple[nn.Module, Tensor]] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda m, given, out: seen.append((m, given[0].detach())))
    model(torch.rand(batch, *SHAPE), torch.arange(batch) % 10)
    jobs = []
    for k, (module, x) in enumerate(seen):
        module._forward_hooks.clear()
        module.to(dtype)
        x = x.to(dtype).requires_grad_(k > 0)
        with torch.no_grad():
            dy = torch.rand_like(module(x))
        jobs.append((module, x, dy))

    def run() -> int:
        for _ in range(steps):
            for module, x, dy in jobs:
                wanted = [p for p in (x, *module.parameters()) if p.requires_grad]
                torch.autograd.grad(module(x), wanted, dy)
        return batch * steps

    return run


def parts() -> Iterator[tuple[str, dict[str, Work]]]:
    """Yield the title and the candidates of each part."""
    rng = np.random.default_rng(0)

    def images(n: int) -> Images:
        pixels = torch.from_numpy(rng.integers(0, 256, (n, *SHAPE), np.uint8))
        return Images(pixels, torch.arange(n) % 10)

    some = images(32 * 100)
    floats = TensorDataset(some.pixels.float().div(255), torch.arange(len(some)) % 10)
    yield (
        "reference VAE, batch 32",
        {
            "DataLoader, tensors ready": tutorial(floats),
            "vae-train": ours(Images(some.pixels, None), "reference", "vae"),
            "DataLoader, as torchvision": tutorial(TorchvisionImages(some)),
        },
    )
    plain = Images(images(512 * 20).pixels, None)
    yield (
        "reference VAE, batch 512",
        {
            "vae-train": ours(plain, "reference", "vae", batch_size=512),
            "matrix products alone": products(512, 20),
        },
    )
    some = images(128 * 2)
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        yield (
            f"default CVAE, batch 128, {precision}",
            {
                "vae-train": ours(some, "default", "cvae", precision=precision),
                "convolutions alone": convolutions(128, 2, dtype),
            },
        )


def run(table: Table) -> None:
    """Measure in a child process, because `keep_freed_memory` would affect the following parts."""
    targets: dict[str, tuple[str, float | None]] = {
        "DataLoader, as torchvision": ("faster", 2.5), "matrix products alone": ("cost", 1.25),
        "DataLoader, tensors ready": ("faster", None), "convolutions alone": ("cost", None),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.performance.training", "3" if table.quick else "9"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    for title, found in json.loads(done.stdout).items():
        times = {name: Times.of(microseconds) for name, microseconds in found.items()}
        ours = times.pop("vae-train")
        for other, each in times.items():
            table.add(Row.of(f"training, {title}", other, *targets[other], ours, each, "µs"))


def measured(works: dict[str, Work], runs: int) -> dict[str, list[float]]:
    """Return the CPU microseconds per image of each turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            start = time.process_time()
            done = work()
            if turn:  # the first turn fills the caches
                times[name].append((time.process_time() - start) / done * 1e6)
    return times


def main() -> None:
    """Print the microseconds per image of each turn of each candidate, as JSON."""
    torch.set_num_threads(1)
    keep_freed_memory()
    runs = int(sys.argv[1])
    print(json.dumps({title: measured(works, runs) for title, works in parts()}))


if __name__ == "__main__":
    main()
