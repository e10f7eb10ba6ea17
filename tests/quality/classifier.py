"""An independent digit classifier, which is used only to measure samples.

Training takes a few minutes on one core and reaches 99.4% or more on MNIST's test split. The
penultimate layer provides the features for the Fréchet distance and for precision and recall.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_runtime.datasets import load_dataset
from vae_train.data import Images, to_device


class Classifier(nn.Module):
    """Classify greyscale 28×28 images; the last hidden layer has 128 features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *self._block(1, 32),
            nn.MaxPool2d(2),
            *self._block(32, 64),
            *self._block(64, 64),
            nn.MaxPool2d(2),
            *self._block(64, 96),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(96 * 49, 128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, 10)

    @staticmethod
    def _block(a: int, b: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()

    def features(self, image: Tensor) -> Tensor:
        """Compute the features f32[N, 128] of images f32[N, 1, 28, 28] in [0, 1]."""
        return self.body(image)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits f32[N, 10] of images f32[N, 1, 28, 28] in [0, 1]."""
        return self.head(self.features(image))


def train_classifier(
    data: Images, epochs: int = 6, batch_size: int = 128, precision: str = "bf16", seed: int = 0
) -> Classifier:
    """Train on labelled images with random shifts of up to two pixels."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2, fused=True)
    steps = epochs * -(-len(data) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps + 1, pct_start=0.2, cycle_momentum=False
    )
    for _ in range(epochs):
        model.train()
        for index in torch.randperm(len(data), generator=order).split(batch_size):
            image, label = data.batch(index)
            dy, dx = torch.randint(0, 5, (2,), generator=order).tolist()
            image = F.pad(image, (2, 2, 2, 2))[:, :, dy : dy + 28, dx : dx + 28]
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = model(image)
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), label, label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def load_or_train(data: str, path: Path) -> Classifier:
    """Load the classifier from `path`, or train it on `data` and save it there."""
    model = Classifier()
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    model = train_classifier(to_device(load_dataset(data), torch.device("cpu"), labelled=True))
    torch.save(model.state_dict(), path)
    return model


@torch.no_grad()
def predict(model: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Predict the class i64[N] and features f32[N, 128] of images f32[N, 1, 28, 28], on the CPU."""
    device = model.head.weight.device
    features = torch.cat([model.features(batch.to(device)) for batch in images.split(500)])
    return model.head(features).argmax(1).cpu(), features.cpu()
