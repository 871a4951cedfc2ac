"""How FID reacts to real images that were made worse in a known way: a test of the extractor, with no generator in it.

Heusel et al. 2017, arXiv:1706.08500, figure 3, disturb images by noise and blur; Lucic et al. 2018, arXiv:1711.10337,
section 5.1, drop classes. That FID does not see copies is why memorisation is measured beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.data.dataset import Dataset
from gan_core.metrics.by_class import moments_by_class
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.memorisation import memorisation
from gan_core.metrics.statistics.moments import Moments
from gan_core.metrics.statistics.reference import Reference, batch_of, labelled_batches, real_batches
from gan_core.metrics.statistics.tally import Tally
from gan_core.streams import seeded

BLURS = (1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 6)
"""Standard deviations of the blur, as shares of the shorter side."""
NOISES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Standard deviations of the noise; values range from -1 to 1."""
COPIES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of images that are copies of training images; the others are fresh ones."""
MOST_DROPS = 9
"""Most numbers of dropped classes that are tried."""
MOST_ORDERS, WIDE = 10, 512
"""Orders in which classes are dropped: `MOST_ORDERS`, or one for more than `WIDE` features, where FID takes seconds."""
MOST_FRESH = 1000
"""Most fresh images. Memorisation compares each with all training images."""


@dataclass(frozen=True)
class Reaction:
    """The FID of the data's own images under a disturbance."""

    disturbance: str
    """blur, noise, dropped classes or copies."""
    level: float
    """Of blur: its standard deviation in pixels. Of noise: its standard deviation. Of dropped classes: their number. Of
    copies: their share."""
    fid: float
    ratio: float | None = None
    """Of copies: `Memorisation.ratio`."""
    nearer: float | None = None
    """Of copies: `Memorisation.nearer`."""


def reactions(data: Dataset, reference: Reference, move: Callable[[float], None] = lambda _: None) -> list[Reaction]:
    """FIDs of the train images, disturbed more and more, against the reference statistics of the same images: 0 without
    a disturbance. `move` is called with the number of images measured; see `images_measured`.

    Copies are compared with fresh images: half of the held-out ones. The other half is the yardstick of memorisation.
    Without held-out images there are none. With one class none are dropped.
    """
    found = [Reaction(kind, 0.0, 0.0) for kind in ("blur", "noise")]
    for share in BLURS:
        sigma = share * min(data.shape[1:])
        found.append(Reaction("blur", sigma, _fid(data, reference, partial(_blurred, sigma=sigma), move)))
    for sigma in NOISES:
        found.append(Reaction("noise", sigma, _fid(data, reference, partial(_noisy, sigma=sigma), move)))
    if data.classes > 1:
        found += _dropped(data, reference, move)
    if data.held_out is not None and len(data.held_out) >= 4:
        found += _copies(data, reference)
    return sorted(found, key=lambda one: KINDS.index(one.disturbance))  # stable: levels stay in their order


KINDS = ("blur", "noise", "dropped classes", "copies")


def images_measured(data: Dataset, reference: Reference) -> int:
    """How many images `reactions` measures in disturbed form."""
    assert reference.count is not None
    return reference.count * (len(BLURS) + len(NOISES) + (data.classes > 1))


def rises(found: list[Reaction], disturbance: str) -> bool:
    """Whether FID is higher at each level of the disturbance than at the one before."""
    fids = [one.fid for one in found if one.disturbance == disturbance]
    return all(low < high for low, high in pairwise(fids))


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images (N, C, H, W) convolved with a Gaussian of `sigma` pixels; their rim is repeated outside."""
    reach = min(max(1, round(4 * sigma)), min(images.shape[2:]) * 2)
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    window = (-offsets.square() / (2 * sigma * sigma)).exp()
    window /= window.sum()
    padded = F.pad(images, (reach,) * 4, mode="replicate").flatten(0, 1)[:, None]
    rows = F.conv2d(padded, window[None, None, :, None])
    return F.conv2d(rows, window[None, None, None]).view_as(images)


def _blurred(images: Tensor, first: int, sigma: float) -> Tensor:
    return blurred(images, sigma)


def _noisy(images: Tensor, first: int, sigma: float) -> Tensor:
    """Images with noise, clamped to [-1, 1]. It is the same noise at each level, only larger."""
    noise = torch.randn(images.shape, generator=seeded("cpu", "sensitivity", first))
    return (images + sigma * noise.to(images)).clamp(-1, 1)


def _fid(
    data: Dataset, reference: Reference, disturb: Callable[[Tensor, int], Tensor], move: Callable[[float], None]
) -> float:
    assert reference.count is not None

    def batches() -> Iterator[Tensor]:
        first = 0
        for images in real_batches(data, reference.count or 0):
            yield disturb(images[:].float(), first).clamp(-1, 1)
            first += len(images)

    extractor = reference.extractor
    tally = Tally(extractor, reference.count).extend(batches(), move, core_each=extractor.core_each)
    assert tally.moments is not None
    return frechet_distance(reference.target.to("cpu"), tally.moments.gaussian.to("cpu"))


def _dropped(data: Dataset, reference: Reference, move: Callable[[float], None]) -> list[Reaction]:
    """FID without 0 to K - 1 of the K classes: the mean over orders in which they are dropped, each begun at another
    class, so that no single class decides."""
    assert reference.count is not None
    count = reference.count

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in labelled_batches(data, count):
            yield images, labels
            move(len(images))

    known = moments_by_class(reference.extractor.features, batches())
    classes = [moments for _, moments in sorted(known.items())]
    numbers = torch.linspace(0, len(classes) - 1, min(MOST_DROPS, len(classes) - 1) + 1).round().int().tolist()
    orders = min(len(classes), MOST_ORDERS if len(reference.target.mean) <= WIDE else 1)
    target, found = reference.target.to("cpu"), []
    for number in numbers:
        fids = []
        for order in range(orders):
            first = order * len(classes) // orders + number
            kept = [classes[(first + index) % len(classes)] for index in range(len(classes) - number)]
            whole = Moments.none(kept[0].mean)
            for moments in kept:
                whole = whole.merge(moments)
            fids.append(frechet_distance(target, whole.gaussian.to("cpu")))
        # Without a drop FID is a rounding error of merged moments.
        found.append(Reaction("dropped classes", float(number), sum(fids) / len(fids) if number else 0.0))
    return found


def _copies(data: Dataset, reference: Reference) -> list[Reaction]:
    """FID and memorisation of fresh images of which a share is replaced by training images."""
    assert data.held_out is not None
    fresh, yardstick = data.held_out[0::2][:MOST_FRESH], data.held_out[1::2][:MOST_FRESH]
    fresh, yardstick = fresh[:].float(), yardstick[:].float()
    rows = torch.randperm(len(data.images), generator=seeded("cpu", "sensitivity", "copies"))[: len(fresh)]
    train, taken = data.images[:].float().flatten(1), data.images[rows].float()
    target, found = reference.target.to("cpu"), []
    for share in COPIES:
        count = min(round(share * len(fresh)), len(taken))
        images = torch.cat([taken[:count], fresh[count:]])
        tally = Tally(reference.extractor, len(images)).extend(images.split(batch_of(data.shape)))
        assert tally.moments is not None
        near = memorisation(images.flatten(1), train, yardstick.flatten(1))
        fid = frechet_distance(target, tally.moments.gaussian.to("cpu"))
        found.append(Reaction("copies", share, fid, near.ratio, near.nearer))
    return found
