"""Extractors turn images into features. Name and weights' digest of the extractor are reported with each FID."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.data.dataset import Dataset
from gan_core.recipe import Shape
from gan_core.streams import seeded

TOTAL_VARIANCE = 3000.0
"""Total variance of the train set's features after scaling. FIDs of uniform noise are then in the thousands, as with
Inception, and do not depend on how long a classifier was trained."""

PIXELS = 8192
"""Pixels of the images that a classifier measures at once, so that its activations fit into a core's cache."""
_POOL = 6
"""Index of the classifier's first layer after its convolutions."""

_SOURCES = (
    *("metrics/extractors/extractor", "metrics/extractors/inception"),
    *("metrics/statistics/tally", "metrics/statistics/moments", "data/image_files"),
)

_SLACK = 1e-3
"""How far values may exceed [-1, 1], by rounding or resampling."""

CODE = hashlib.sha256(
    b"".join((Path(__file__).parents[2] / f"{name}.py").read_bytes() for name in _SOURCES)
).hexdigest()
"""Digest of the files that define features. Cached reference statistics depend on it, so they are never stale."""


def quantised(images: Tensor) -> Tensor:
    """Images as a PNG would store them: clamped to [-1, 1] and rounded to 256 levels."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


class FeatureNet(nn.Module):
    """Base of all networks that turn images into features.

    For your own, write a subclass and set `metrics.extractor=package.module:Class`. Its constructor takes no arguments;
    `metrics.weights` is a file of its state dict.
    """

    name: str
    """Reported with each FID, as are the next two."""
    resize: str = "none"
    """How it resizes images, in words."""
    input_range: str = "[-1, 1]"
    """The range of numbers that the network computes with, in words."""
    classes: int | None = None
    """Number of classes of its logits; None: it does not classify, so there is no Inception Score."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, *shape), images in [-1, 1] -> features (N, D) and logits (N, classes) or None."""
        raise NotImplementedError


class PixelFeatures(FeatureNet):
    """The samples themselves as features: right for points, a weak measure for images."""

    name = "pixels"

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return images.flatten(1), None


class Classifier(FeatureNet):
    """A small convolutional classifier of the data's own labels. Features are its last hidden layer (64).

    It is trained in float32 and measures in float64, so that FID does not depend on batch size or device.
    """

    name = "classifier"
    scale: Tensor

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.classes = classes
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

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = images.to(self.scale.dtype)
        if images.dtype == torch.float64 and images.device.type == "cpu" and not torch.is_grad_enabled():
            at_once = max(1, PIXELS // images.shape[2:].numel())
            hidden = torch.cat([self._measured(part) for part in images.split(at_once)])
        else:
            hidden = self.body(images)
        return hidden * self.scale, self.head(hidden)

    def _measured(self, images: Tensor) -> Tensor:
        """`body` in two thirds of the time of PyTorch's float64 convolutions on a CPU.

        Channels are the first axis, so that a layer is one matrix product.
        """
        planes = images.transpose(0, 1)
        for layer in self.body[:_POOL]:
            planes = convolved(planes, layer) if isinstance(layer, nn.Conv2d) else planes.relu_()
        pooled = planes.shape[2:] == (4, 4)
        hidden: Tensor = self.body[_POOL + pooled :](planes.transpose(0, 1))
        return hidden


def convolved(planes: Tensor, layer: nn.Conv2d) -> Tensor:
    """A 3x3 convolution with padding 1, (C, N, H, W) -> (C', N, H', W')."""
    (stride, _), bias = layer.stride, layer.bias
    assert (layer.kernel_size, layer.padding) == ((3, 3), (1, 1))
    assert bias is not None
    padded = F.pad(planes, (1, 1, 1, 1))
    patches = padded.unfold(2, 3, stride).unfold(3, 3, stride)  # (C, N, H', W', 3, 3)
    channels, count, height, width = patches.shape[:4]
    columns = patches.permute(0, 4, 5, 1, 2, 3).reshape(9 * channels, -1)
    return torch.addmm(bias[:, None], layer.weight.flatten(1), columns).view(-1, count, height, width)


@dataclass(frozen=True)
class Extractor:
    """A feature network on its device, and its digest."""

    net: FeatureNet
    digest: str = ""
    """sha256 of the weights: of the tensors, or of the published file."""
    quantise: bool = True
    """Whether images are rounded to 256 levels first, as for published FIDs."""
    accuracy: float | None = None
    """A classifier's accuracy on held-out images."""
    device: torch.device | str = "cpu"
    """The net's device; images are moved to it."""

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", tensors_digest(self.net.state_dict()))

    def features(self, images: Tensor) -> Tensor:
        """(N, *shape) -> (N, D); see `__call__`."""
        return self(images)[0]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images (N, C, H, W), uint8 or in [-1, 1], or points (N, D) -> features (N, D), and logits if it classifies.

        Raises ValueError for images with values out of range or NaN.
        """
        images = images.to(self.device)
        if images.dtype == torch.uint8:
            images = images.float() / 127.5 - 1
        elif images.dim() == 4:
            images = self._checked(images.float())
        return self.net(images.float())

    def _checked(self, images: Tensor) -> Tensor:
        low, high = (float(bound) for bound in images.aminmax())
        if not (low >= -1 - _SLACK and high <= 1 + _SLACK):  # true for NaN, too
            raise ValueError(f"images range from {low:.4g} to {high:.4g}; wanted: [-1, 1], or uint8 0 to 255")
        return quantised(images) if self.quantise else images

    def about(self) -> dict[str, str]:
        """What to report with each measure."""
        return {
            "extractor": self.net.name,
            "weights": self.digest[:16],
            "resize": self.net.resize,
            "input_range": self.net.input_range + (", of 256 levels" if self.quantise else ""),
            **({} if self.accuracy is None else {"accuracy": f"{self.accuracy:.4f}"}),
        }

    def to(self, device: torch.device | str) -> Extractor:
        """The same on a device."""
        return replace(self, net=self.net.to(device), device=device)


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 of the tensors' names, shapes, types and bytes."""
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


SMALLEST_LABELLED = 5
"""Images that a classifier needs: four to be trained on, one to be tested on."""


def train_classifier(data: Dataset, epochs: int = 15) -> tuple[Classifier, float]:
    """A classifier, trained on four fifths of `data` from a fixed seed, and its accuracy on the rest."""
    order = torch.randperm(len(data.images), generator=seeded("cpu", "classifier split"))
    held_out, train = order.tensor_split([len(order) // 5])
    images = quantised(data.images)
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
            F.cross_entropy(net(images[chosen])[1], data.labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    net.requires_grad_(False).eval().double()
    guesses = torch.cat([net(images[chosen])[1].argmax(1) for chosen in held_out.split(256)])
    features = torch.cat([net(some)[0] for some in images.split(256)])
    net.scale.fill_((TOTAL_VARIANCE / features.var(dim=0).sum()) ** 0.5)
    return net, float((guesses == data.labels[held_out]).double().mean())
