"""Images that are stored as bytes, against the same images as floats."""

import copy
from functools import reduce
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from gan_core.data.byte_images import ByteImages, normalised
from gan_core.data.dataset import Dataset
from gan_core.experiment import Experiment
from gan_core.loop import DTYPES, Game, rounds
from gan_core.measures import Metrics
from gan_core.metrics.extractors.extractor import quantised
from gan_core.metrics.statistics.reference import Reference

BYTES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300, 3, 8, 8), dtype=np.uint8))
LABELS = torch.arange(300) % 3


def test_all_bytes_lie_evenly_between_minus_one_and_one():
    values = normalised(torch.arange(256, dtype=torch.uint8))
    assert torch.equal(values, torch.from_numpy((np.arange(256, dtype=np.float32) / np.float32(127.5)) - 1))
    assert (values[0], values[255]) == (-1, 1)
    assert torch.equal(quantised(values), values)
    assert torch.equal(((values + 1) * 127.5).round().to(torch.uint8), torch.arange(256, dtype=torch.uint8))


TAKEN = {
    "index": lambda images: images[torch.tensor([5, 0, 5, 299])],
    "mask": lambda images: images[LABELS == 1],
    "one": lambda images: images[-1],
    "index_select": lambda images: images.index_select(0, torch.tensor([7, 8])),
    "flatten": lambda images: images.flatten(1),
    "mean": lambda images: images.mean((0, 2, 3)),
    "cat": lambda images: torch.cat([images[:2], torch.zeros(1, 3, 8, 8, dtype=images.dtype), images[9:]]),
    "from the right": lambda images: torch.ones(1, dtype=images.dtype) - images,
    "clone": lambda images: images.clone(),
    "whole numbers": lambda images: (images * 100).long(),
    "to whole numbers": lambda images: images.to(torch.int64),
    "iterated": lambda images: torch.stack(list(images[:4])),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_is_an_ordinary_tensor_of_the_same_values(name, dtype):
    found, wanted = TAKEN[name](ByteImages(BYTES, dtype)), TAKEN[name](normalised(BYTES, dtype))
    assert type(found) is torch.Tensor
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


PARTS = {
    "slice": lambda images: [images[3:9]],
    "stride": lambda images: [images[::7]],
    "split": lambda images: images.split(128),
    "chunk": lambda images: images.chunk(4),
    "detach": lambda images: [images.detach()],
    "to": lambda images: [images.to("cpu", images.dtype), images.cpu(), images.contiguous()],
    "another type and back": lambda images: [images.double().float()],
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_share_the_bytes(name):
    stored = BYTES.clone()
    whole = ByteImages(stored)
    found, wanted = PARTS[name](whole), PARTS[name](normalised(BYTES))
    assert [type(part) for part in found] == [ByteImages] * len(wanted)
    assert all(torch.equal(part.floats(), right) for part, right in zip(found, wanted, strict=True))
    assert {part.stored.untyped_storage().data_ptr() for part in found} == {stored.untyped_storage().data_ptr()}


def test_another_type_of_float_is_still_bytes():
    doubles = ByteImages(BYTES).to("cpu", torch.float64)
    assert isinstance(doubles, ByteImages)
    assert torch.equal(doubles[:].clone(), BYTES.double() / 127.5 - 1)
    assert ByteImages(BYTES).to("meta").stored.device.type == "meta"


def test_a_part_costs_no_more_memory_than_its_bytes():
    """A row of 10^12 bytes is indexed. As floats they would not fit into memory."""
    endless = torch.tensor([7], dtype=torch.uint8).expand(10**8, 3, 64, 64)
    images = ByteImages(endless).to("cpu", torch.float64)
    assert torch.equal(images[torch.tensor([10**8 - 1])], normalised(endless[:1], torch.float64))
    assert len(images[10**7 :].split(10**7)) == 9


def test_a_net_and_its_gradients_see_the_same_numbers():
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))
    second = copy.deepcopy(first)
    first(ByteImages(BYTES)[:16]).sum().backward()
    second(normalised(BYTES)[:16]).sum().backward()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_the_same_game_is_played_with_bytes_and_with_floats(precision):
    experiment = Experiment.load({"family": "wgan_gp"}).override(
        "family.width=4",
        "family.n_critic=2",
        "data.image_size=8",
        "data.batch_size=16",
        f"compute.precision={precision}",
    )
    weights = []
    for images in (ByteImages(BYTES), normalised(BYTES, DTYPES[precision])):
        real = Dataset("made", images, LABELS, 3).to("cpu", DTYPES[precision])
        game = Game(experiment, real.shape)
        list(islice(rounds(game, real.images, real.labels), 3))
        weights.append(torch.cat([value.flatten() for value in game.average.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("extractor", ["pixels", "classifier"])
def test_the_same_reference_is_built_from_bytes_and_from_floats(extractor):
    built = [
        Reference.build(Metrics(extractor=extractor), Dataset("made", images, LABELS, 3))
        for images in (ByteImages(BYTES), normalised(BYTES))
    ]
    assert torch.equal(built[0].target.mean, built[1].target.mean)
    assert torch.equal(built[0].target.covariance, built[1].target.covariance)


def test_a_digest_is_of_the_bytes_in_every_type():
    one = Dataset("made", ByteImages(BYTES), LABELS, 3)
    other = BYTES.clone()
    other[299, 2, 7, 7] ^= 1
    assert one.digest() == one.to("cpu", torch.float64).digest()
    assert one.digest() != Dataset("made", ByteImages(other), LABELS, 3).digest()
    parts = [BYTES[:100], BYTES[100:]]
    joined = reduce(lambda left, right: torch.cat([left, right]), parts)
    assert Dataset("made", ByteImages(joined), LABELS, 3).digest() == one.digest()


def test_stored_images_are_not_changed_in_place():
    with pytest.raises(TypeError, match="images"):
        ByteImages(BYTES).mul_(2)
    with pytest.raises(TypeError, match="images"):
        ByteImages(BYTES)[3:5] = 0
    assert torch.equal(torch.zeros(300, 3, 8, 8).add_(ByteImages(BYTES)), normalised(BYTES))


def test_values_are_not_shown_by_looking():
    assert repr(ByteImages(BYTES, torch.float64)) == "ByteImages((300, 3, 8, 8), dtype=torch.float64, device='cpu')"
