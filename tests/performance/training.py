"""Time the training loop on one thread against a tutorial's loop and bare products.

    python -m tests.performance.training [--runs 7] [--out docs/training-speed.json] [PART ...]

The candidates take turns of a few hundred milliseconds. Seconds are CPU seconds of the process: on
one thread of a quiet machine they equal wall time, and on a busy machine they are fairer. All
candidates keep freed memory, as `vae-train` does. Prints the median, the minimum, the maximum and
the ratio of the medians.

    loader    the reference recipe at batch 32 against a tutorial's `DataLoader` loop
    products  the reference recipe at batch 512 against its matrix products, forward and backward
    conv      the default convolutional CVAE at batch 128 against its convolutions alone
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
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
    """MNIST as torchvision provides it: each item is a Pillow image that `ToTensor` converts."""

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


def parts(names: list[str]) -> Iterator[tuple[str, dict[str, Work]]]:
    """The candidates of each part; the last is the baseline."""
    rng = np.random.default_rng(0)

    def images(n: int) -> Images:
        pixels = torch.from_numpy(rng.integers(0, 256, (n, *SHAPE), np.uint8))
        return Images(pixels, torch.arange(n) % 10)

    if "loader" in names:
        some = images(32 * 100)
        floats = TensorDataset(some.pixels.float().div(255), torch.arange(len(some)) % 10)
        plain = Images(some.pixels, None)
        yield (
            "loader: reference VAE, batch 32",
            {
                "DataLoader, tensors ready": tutorial(floats),
                "vae-train": ours(plain, "reference", "vae"),
                "DataLoader, as torchvision": tutorial(TorchvisionImages(some)),
            },
        )
    if "products" in names:
        plain = Images(images(512 * 20).pixels, None)
        yield (
            "products: reference VAE, batch 512",
            {
                "vae-train": ours(plain, "reference", "vae", batch_size=512),
                "matrix products alone": products(512, 20),
            },
        )
    if "conv" in names:
        some = images(128 * 2)
        for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            yield (
                f"conv: default CVAE, batch 128, {precision}",
                {
                    "vae-train": ours(some, "default", "cvae", precision=precision),
                    "convolutions alone": convolutions(128, 2, dtype),
                },
            )


def run(table: Table) -> None:
    """Measure ours against each of the others for the table of all benchmarks.

    This needs its own process: the effect of `keep_freed_memory` would last for the following parts.
    """
    targets: dict[str, tuple[str, float | None]] = {
        "DataLoader, as torchvision": ("faster", 2.5), "matrix products alone": ("cost", 1.25),
        "DataLoader, tensors ready": ("faster", None), "convolutions alone": ("cost", None),
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        file, runs = Path(folder) / "found.json", "3" if table.quick else "9"
        words = [sys.executable, "-m", "tests.performance.training", "--runs", runs, "--out", file]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(file.read_text())["parts"]
    for title, rows in found.items():
        times = {name: Times.of(row["microseconds"]) for name, row in rows.items()}
        ours = times.pop("vae-train")
        for other, each in times.items():
            better, target = targets[other]
            ratio = ours.median / each.median
            ratio = ratio if better == "cost" else 1 / ratio
            work = f"training, {title.partition(': ')[2]}"
            table.add(Row(work, other, ratio, better, target, ours, each, "µs"))


def measured(works: dict[str, Work], runs: int) -> dict[str, list[float]]:
    """CPU microseconds per image of each turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            start = time.process_time()
            done = work()
            if turn:  # the first turn fills the caches
                times[name].append((time.process_time() - start) / done * 1e6)
    return times


def main() -> None:
    """Print the tables and write the figures with --out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["loader", "products", "conv"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    found: dict[str, Any] = {}
    for title, works in parts(chosen.parts):
        times = measured(works, chosen.runs)
        base = statistics.median(list(times.values())[-1])
        print(f"\n{title}\n{'':28}{'images/s':>10}{'µs/image':>10}{'min':>8}{'max':>8}{'ratio':>8}")
        rows = {}
        for name, each in times.items():
            median = statistics.median(each)
            rows[name] = {
                "images_per_second": round(1e6 / median),
                "microseconds": [round(value, 2) for value in sorted(each)],
                "times_the_last": round(median / base, 3),
            }
            print(
                f"{name:28}{1e6 / median:10,.0f}{median:10.2f}{min(each):8.2f}{max(each):8.2f}"
                f"{median / base:8.2f}",
                flush=True,
            )
        found[title] = rows
    if chosen.out:
        machine = {
            "processor": platform.machine(), "python": platform.python_version(),
            "torch": str(torch.__version__), "threads": 1,
        }  # fmt: skip
        chosen.out.write_text(json.dumps({"machine": machine, "parts": found}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
