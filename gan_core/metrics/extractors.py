"""What turns images into features, and says which one it is: its name and its weights' digest go with each FID."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.data import Dataset
from gan_core.recipe import Shape
from gan_core.streams import seeded

TOTAL_VARIANCE = 3000.0
"""The train set's total feature variance after scaling: FIDs of uniform noise are then in the thousands, as
Inception's are, and do not depend on how long a classifier was trained."""

CODE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
"""Digest of this file: a change of preprocessing, net or training makes a new reference, never a stale one."""


def quantised(images: Tensor) -> Tensor:
    """Images as a PNG would keep them: clamped to [-1, 1] and rounded to 256 levels."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


class Pixels(nn.Module):
    """The samples themselves as features: exact for points, a weak measure for images."""

    name = "pixels"

    def forward(self, samples: Tensor) -> Tensor:
        """(N, *shape) -> (N, D)."""
        return (quantised(samples) if samples.dim() == 4 else samples).flatten(1)


class Classifier(nn.Module):
    """A small convolutional classifier of the data's own labels; features are its last hidden layer (64)."""

    name = "classifier"
    scale: Tensor

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(shape[0], 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, classes)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> features (N, 64)."""
        return self.body(quantised(images)) * self.scale

    def logits(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> class logits (N, classes)."""
        return self.head(self.body(quantised(images)))


@dataclass(frozen=True)
class Extractor:
    """A feature network on its device, and what identifies it."""

    net: Classifier | Pixels
    accuracy: float | None = None
    """Share of held-out images that a classifier names rightly."""
    digest: str = field(init=False)
    """sha256 of the weights."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", tensors_digest(self.net.state_dict()))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(N, *shape) -> (N, D), float32."""
        return self.net(images.float())


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, shapes, types and bytes of tensors."""
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def train_classifier(data: Dataset, epochs: int = 15) -> Extractor:
    """Trains the classifier on four fifths of `data` from a fixed seed; the rest measures its accuracy."""
    order = torch.randperm(len(data.images), generator=seeded("cpu", "classifier split"))
    held_out, train = order.tensor_split([len(order) // 5])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(data.shape, data.classes)
    steps = epochs * -(-len(train) // 64)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(epochs):
        shuffled = train[torch.randperm(len(train), generator=seeded("cpu", "classifier", epoch))]
        for chosen in shuffled.split(64):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(net.logits(data.images[chosen]), data.labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    net.requires_grad_(False).eval()
    guesses = torch.cat([net.logits(data.images[chosen]).argmax(1) for chosen in held_out.split(256)])
    features = torch.cat([net(images) for images in data.images.split(256)]).double()
    net.scale.fill_((TOTAL_VARIANCE / features.var(dim=0).sum()) ** 0.5)
    return Extractor(net, float((guesses == data.labels[held_out]).double().mean()))
