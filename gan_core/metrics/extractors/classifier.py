"""A classifier of the data's own labels, whose last hidden layer is the default extractor's features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.data.dataset import Dataset
from gan_core.data.image_files import in_order
from gan_core.data.sets.stacked import channels_apart
from gan_core.files import Bars, no_bars
from gan_core.metrics.extractors.extractor import FeatureNet, cores, one_thread, quantised
from gan_core.recipe import Shape
from gan_core.streams import seeded

TOTAL_VARIANCE = 3000.0
"""Total variance of the train set's features after scaling. FIDs of uniform noise are then in the thousands, as with
Inception, and do not depend on how long a classifier was trained."""

PIXELS = 8192
"""Pixels of the images that a classifier measures at once, so that its activations fit into a core's cache."""
_POOL = 6
"""Index of the classifier's first layer after its convolutions."""

PASSES, MOST_STEPS, BATCH = 15, 1000, 64
"""A classifier is trained for so many passes over its images, but at most for so many steps of `BATCH` images."""

MOST_MEASURED = 5000
"""Most images, chosen at random, that its accuracy is taken from; most that the scale of the features is taken from."""

MEASURED_PIXELS = 2**18
"""Pixels of the images that are measured at once for these two, 256 images at most."""

SMALLEST_LABELLED = 5
"""Images that a classifier needs: four to be trained on, one to be tested on."""


class Classifier(FeatureNet):
    """A small convolutional classifier of the data's own labels. Features are its last hidden layer (64).

    It is trained in float32 and measures in float64, so that FID does not depend on batch size or device.
    """

    name = "classifier"
    small = True
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
            parts = images.split(max(1, PIXELS // images.shape[2:].numel()))
            threads = torch.get_num_threads()
            with one_thread():
                measured = (
                    in_order(self._measured, parts, 2 * threads, threads) if threads > 1 else map(self._measured, parts)
                )
                hidden = torch.cat(list(measured))
        else:
            hidden = self.body(images)
        return hidden * self.scale, self.head(hidden)

    @torch.no_grad()
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


class StackedClassifier(Classifier):
    """A classifier that looks at each channel of an image by itself: features (N, C * 64), and the log-probabilities of
    the modes, which are those of the channels' classes added up.

    Srivastava et al. 2017, arXiv:1705.07761, section 4.2, count the modes of stacked MNIST by such a one.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        self.channels, self.of_channel = shape[0], round(classes ** (1 / shape[0]))
        super().__init__((1, *shape[1:]), self.of_channel)
        self.classes = classes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = super().forward(images.flatten(0, 1)[:, None])
        each = logits.log_softmax(dim=1).unflatten(0, (-1, self.channels))  # (N, C, K)
        modes = each[:, 0]
        for channel in range(1, self.channels):
            modes = (modes[:, :, None] + each[:, channel, None]).flatten(1)
        return features.unflatten(0, (-1, self.channels)).flatten(1), modes


def classifier_of(data: Dataset) -> Classifier:
    """A classifier for such data, in float32, with the global generator's next weights."""
    return (StackedClassifier if data.is_stacked else Classifier)(data.shape, data.classes)


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


def train_classifier(
    data: Dataset,
    passes: int = PASSES,
    most_steps: int = MOST_STEPS,
    device: torch.device | str = "cpu",
    bars: Bars = no_bars,
) -> tuple[Classifier, float]:
    """A classifier, trained on four fifths of `data` from a fixed seed, and its accuracy on images of the rest.

    On CPUs of one kind the weights are the same to the bit, whatever the number of threads. That of stacks learns from
    their channels, each image once: images that it is tested on are in no stack that it was trained on.
    """
    if data.is_stacked:
        single, accuracy = train_classifier(channels_apart(data), passes, most_steps, device, bars)
        stacked = classifier_of(data).to(device).requires_grad_(False).eval().double()
        stacked.load_state_dict(single.state_dict())
        stacked.scale.mul_(data.shape[0] ** -0.5)
        return stacked, accuracy
    order = torch.randperm(len(data.images), generator=seeded("cpu", "classifier split"))
    held_out, train = order.tensor_split([len(order) // 5])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = classifier_of(data).to(device)
    with one_thread():
        _train(net, data, train, min(passes * -(-len(train) // BATCH), most_steps), bars)
        net.requires_grad_(False).eval().double()
        tested = held_out[:MOST_MEASURED]
        scaled = order[:: -(-len(order) // MOST_MEASURED)].sort().values
        with bars("FID's classifier, images measured", len(tested) + len(scaled)) as move:
            guesses = net.head(_hidden(net, data, tested, move)).argmax(1).cpu()
            variance = _hidden(net, data, scaled, move).var(dim=0).sum()
        net.scale.fill_((TOTAL_VARIANCE / variance) ** 0.5)
    return net, float((guesses == data.labels[tested]).double().mean())


def _train(net: Classifier, data: Dataset, chosen: Tensor, steps: int, bars: Bars) -> None:
    """Trains on the chosen images for so many steps."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    with bars("FID's classifier, steps of training", steps) as move:
        for batch in islice(_batches(chosen), steps):
            images, labels = (values.to(net.scale.device) for values in (data.images[batch], data.labels[batch]))
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(net(quantised(images))[1], labels).backward()
            optimizer.step()
            schedule.step()
            move(1)


def _batches(chosen: Tensor) -> Iterator[Tensor]:
    """The numbers of the images of each step, pass after pass."""
    for number in count():
        yield from chosen[torch.randperm(len(chosen), generator=seeded("cpu", "classifier", number))].split(BATCH)


def _hidden(net: Classifier, data: Dataset, chosen: Tensor, move: Callable[[float], None]) -> Tensor:
    """The last hidden layer (N, 64) of the chosen images, before it is scaled."""

    def of(batch: Tensor) -> Tensor:
        hidden: Tensor = net.body(quantised(data.images[batch].to(net.scale.device)).double())
        move(len(batch))
        return hidden

    batches = chosen.split(max(1, min(256, MEASURED_PIXELS // data.images.shape[2:].numel())))
    return torch.cat(list(in_order(of, batches, ahead=cores(), threads=cores())))
