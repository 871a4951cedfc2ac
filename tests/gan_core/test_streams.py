from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from gan_core import ranks, streams

SIZE, LATENT = 8, 5


def table(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are their own number, labels too."""
    numbers = torch.arange(count)
    return numbers.double().reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4), numbers


def turn(index, *, seed=0, player="critic", count=20, size=SIZE, latent=LATENT):
    return streams.turn(seed, player, index, size, latent, *table(count))


def ranked(monkeypatch, rank: int, world: int) -> None:
    monkeypatch.setattr(ranks, "rank", lambda: rank)
    monkeypatch.setattr(ranks, "world_size", lambda: world)


# Which images


@pytest.mark.parametrize(("count", "size"), [(20, 8), (24, 8), (7, 3), (5, 12), (4, 4), (1, 3), (13, 5)])
def test_an_epoch_shows_each_image_once(count, size):
    turns = 3 * count
    shown = torch.cat([turn(index, count=count, size=size).labels for index in range(turns)])
    assert len(shown) == turns * size
    epochs = shown[: len(shown) // count * count].reshape(-1, count)
    assert len(epochs) == 3 * size
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(count))


def test_each_epoch_has_an_order_of_its_own():
    shown = torch.cat([turn(index).labels for index in range(10)]).reshape(4, 20)
    assert len(shown.unique(dim=0)) == 4
    assert not torch.equal(shown[0], torch.arange(20))


def test_images_come_with_their_labels():
    for index in range(5):
        batch = turn(index)
        assert torch.equal(batch.real[:, 0, 0, 0].long(), batch.labels)


def test_shapes_and_types():
    batch = turn(3)
    assert batch.real.shape == (SIZE, 1, 4, 4)
    assert batch.labels.shape == (SIZE,)
    assert batch.z.shape == (SIZE, LATENT)
    assert batch.mix.shape == (SIZE, 1, 1, 1)
    assert {batch.real.dtype, batch.z.dtype, batch.mix.dtype} == {torch.float64}
    points = streams.turn(0, "critic", 0, 4, LATENT, torch.zeros(9, 2), torch.zeros(9).long())
    assert points.mix.shape == (4, 1)


# How ranks share


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("index", [0, 2, 17])
def test_the_slices_of_the_ranks_are_the_global_batch(monkeypatch, world, index):
    whole = turn(index)
    slices = []
    for rank in range(world):
        ranked(monkeypatch, rank, world)
        slices.append(turn(index))
    assert {len(part) for batch in slices for part in batch} == {SIZE // world}
    for name in whole._fields:
        assert torch.equal(torch.cat([getattr(batch, name) for batch in slices]), getattr(whole, name))


# What is drawn


def test_a_turn_is_a_function_of_its_arguments_alone():
    first = turn(3)
    torch.manual_seed(9)
    torch.randn(100)
    for index in (5, 0, 3):
        again = turn(index)
    for name in first._fields:
        assert torch.equal(getattr(first, name), getattr(again, name))


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 2**31 - 1}, {"player": "generator"}, {"index": 4}], ids=str)
def test_another_seed_player_or_turn_draws_another_batch(other):
    one, two = turn(3), turn(**{"index": 3, **other})
    assert not torch.equal(one.labels, two.labels)
    for name in ("z", "mix"):
        assert not (getattr(one, name) == getattr(two, name)).any()


def test_turns_are_independent_of_each_other():
    """Correlation between the noise of neighbouring turns, players and seeds: within 5 standard errors of 0."""
    long = dict(size=4096, latent=8, count=4096)
    one = turn(0, **long).z.flatten()
    for other in (turn(1, **long), turn(0, player="generator", **long), turn(0, seed=1, **long)):
        correlation = torch.corrcoef(torch.stack([one, other.z.flatten()]))[0, 1]
        assert abs(correlation) < 5 / len(one) ** 0.5


def test_noise_is_normal_and_mixing_weights_are_uniform():
    """Mean and variance within 5 standard errors of N(0, 1) and U(0, 1)."""
    batch = turn(0, size=4096, latent=16, count=4096)
    z, mix = batch.z.flatten(), batch.mix.flatten()
    assert abs(z.mean()) < 5 / len(z) ** 0.5
    assert abs(z.var() - 1) < 5 * (2 / len(z)) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / len(z)) ** 0.5
    assert abs(mix.mean() - 0.5) < 5 * (1 / 12 / len(mix)) ** 0.5
    assert abs(mix.var() - 1 / 12) < 5 * (1 / 180 / len(mix)) ** 0.5
    assert mix.min() >= 0
    assert mix.max() < 1


# Latents for evaluation


def latents(start, stop, *, seed=0, purpose="evaluation", latent=LATENT):
    return streams.latents(seed, purpose, start, stop, latent, torch.device("cpu"), torch.float64)


@pytest.mark.parametrize("cuts", [[0, 1, 700], [0, 256, 512, 700], [0, 255, 257, 513, 700], [0, 100, 200, 300, 700]])
def test_latents_are_the_same_however_they_are_sliced(cuts):
    whole = latents(0, 700)
    assert whole.shape == (700, LATENT)
    assert torch.equal(torch.cat([latents(a, b) for a, b in pairwise(cuts)]), whole)
    assert len(whole.unique(dim=0)) == 700


def test_latents_of_another_seed_or_purpose_are_others():
    for other in (latents(0, 300, seed=1), latents(0, 300, purpose="pictures")):
        assert not (latents(0, 300) == other).any()


def test_latents_are_normal():
    z = latents(0, 20_000)
    assert_close(z.mean(0), torch.zeros(LATENT).double(), rtol=0, atol=5 / len(z) ** 0.5)
    assert_close(z.T.cov(), torch.eye(LATENT).double(), rtol=0, atol=5 * (2 / len(z)) ** 0.5)
