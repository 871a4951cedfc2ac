from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from gan_core import ranks, streams
from gan_core.data.byte_images import ByteImages
from gan_core.recipe import Batch, Turn

SIZE, LATENT = 8, 5
FIELDS = [name for name in Batch._fields if name != "turn"]


def table(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels whose values are their indices."""
    numbers = torch.arange(count)
    return numbers.double().reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4), numbers


def draw_batch(*given, **more) -> Batch:
    (batch,) = streams.draw_batches(*given, **more)
    return batch


def turn(index, *, seed=0, player="critic", count=20, size=SIZE, latent=LATENT):
    return draw_batch(Turn(seed, player, index, size), latent, *table(count))


def ranked(monkeypatch, rank: int, world: int) -> None:
    monkeypatch.setattr(ranks, "rank", lambda: rank)
    monkeypatch.setattr(ranks, "world_size", lambda: world)


# Images


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
    points = draw_batch(Turn(0, "critic", 0, 4), LATENT, torch.zeros(9, 2), torch.zeros(9).long())
    assert points.mix.shape == (4, 1)


# Slices of ranks


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("index", [0, 2, 17])
def test_the_slices_of_the_ranks_are_the_global_batch(monkeypatch, world, index):
    whole = turn(index)
    slices = []
    for rank in range(world):
        ranked(monkeypatch, rank, world)
        slices.append(turn(index))
    for name in FIELDS:
        assert {len(getattr(batch, name)) for batch in slices} == {SIZE // world}
        assert torch.equal(torch.cat([getattr(batch, name) for batch in slices]), getattr(whole, name))


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_knows_whose_turn_it_is(monkeypatch, rank):
    ranked(monkeypatch, rank, 2)
    assert turn(17, seed=3).turn == Turn(3, "critic", 17, SIZE)


# Parts of a batch


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("part", [2, 4, 8])
def test_the_parts_of_a_turn_are_its_batch(monkeypatch, world, part):
    """Draws of a loss, and flips, are those of the whole batch, too."""
    whole = draw_batch(Turn(0, "critic", 5, SIZE), LATENT, *slopes(40), flip=True)
    noise = streams.normal(whole.turn, "noise", whole.real)
    found, drawn = {}, {}
    for rank in range(world):
        ranked(monkeypatch, rank, world)
        for batch in streams.draw_batches(Turn(0, "critic", 5, SIZE), LATENT, *slopes(40), micro_batch=part, flip=True):
            found[batch.turn.first, rank] = batch
            drawn[batch.turn.first, rank] = streams.normal(batch.turn, "noise", batch.real)
    assert len(found) == SIZE // part * world
    for name in FIELDS:
        assert torch.equal(torch.cat([getattr(found[key], name) for key in sorted(found)]), getattr(whole, name))
    assert torch.equal(torch.cat([drawn[key] for key in sorted(drawn)]), noise)


# Flips


def slopes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 2, 3, 4) that differ from their mirror images, and their numbers."""
    return torch.arange(count * 24, dtype=torch.float64).reshape(count, 2, 3, 4), torch.arange(count)


def flipped(index: int, size: int = SIZE) -> tuple[list[bool], Batch]:
    """Which images of a turn are mirrored, found by comparison with the images themselves."""
    images, numbers = slopes(40)
    batch = draw_batch(Turn(0, "critic", index, size), LATENT, images, numbers, flip=True)
    found = []
    for real, number in zip(batch.real, batch.labels, strict=True):
        mirrored = torch.from_numpy(images[number].numpy()[:, :, ::-1].copy())
        assert torch.equal(real, mirrored) != torch.equal(real, images[number])
        found.append(torch.equal(real, mirrored))
    return found, batch


def test_about_half_of_the_images_are_mirrored_and_others_in_each_turn():
    seen = [flipped(index)[0] for index in range(50)]
    assert 150 < sum(map(sum, seen)) < 250  # of 400
    assert len({tuple(one) for one in seen}) > 40


def test_flips_change_nothing_else_that_a_turn_draws():
    images, numbers = slopes(40)
    plain = draw_batch(Turn(0, "critic", 3, SIZE), LATENT, images, numbers)
    _, batch = flipped(3)
    for name in ("labels", "z", "mix", "turn"):
        assert torch.equal(torch.as_tensor(getattr(batch, name)[-1]), torch.as_tensor(getattr(plain, name)[-1]))


@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_mirror_the_images_that_one_worker_would(monkeypatch, world):
    whole, _ = flipped(5)
    parts = []
    for rank in range(world):
        ranked(monkeypatch, rank, world)
        parts += flipped(5)[0]
    assert parts == whole


def test_bytes_are_mirrored_like_floats():
    stored = torch.arange(40 * 24).reshape(40, 2, 3, 4).remainder(256).byte()
    images, numbers = ByteImages(stored), torch.arange(40)
    batch = draw_batch(Turn(0, "critic", 1, SIZE), LATENT, images, numbers, flip=True)
    same = draw_batch(Turn(0, "critic", 1, SIZE), LATENT, images.floats(), numbers, flip=True)
    assert torch.equal(batch.real, same.real)


# Known labels


def hidden(kept: int, *, seed=0, sizes=(30, 40, 50, 60)) -> tuple[torch.Tensor, torch.Tensor]:
    """Shuffled labels of classes of those sizes, and the same with some hidden."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(9))]
    return labels, streams.hide_labels(seed, labels, kept)


@pytest.mark.parametrize(
    ("kept", "wanted"), [(4, [1] * 4), (40, [10] * 4), (160, [30, 40, 45, 45]), (180, [30, 40, 50, 60])]
)
def test_each_class_keeps_an_equal_share_of_the_labels(kept, wanted):
    labels, left = hidden(kept)
    known = left >= 0
    assert labels[known].bincount().tolist() == wanted
    assert torch.equal(left[known], labels[known])
    assert (left[~known] == -1).all()


def test_a_remainder_is_shared_out_one_by_one():
    labels, left = hidden(42)
    counts = labels[left >= 0].bincount()
    assert (int(counts.sum()), int(counts.min()), int(counts.max())) == (42, 10, 11)


def test_which_labels_are_known_is_a_function_of_the_seed():
    assert torch.equal(hidden(40, seed=5)[1], hidden(40, seed=5)[1])
    assert not torch.equal(hidden(40, seed=5)[1], hidden(40, seed=6)[1])


# Noise


def test_a_turn_is_a_function_of_its_arguments_alone():
    first = turn(3)
    torch.manual_seed(9)
    torch.randn(100)
    for index in (5, 0, 3):
        again = turn(index)
    for name in FIELDS:
        assert torch.equal(getattr(first, name), getattr(again, name))


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 2**31 - 1}, {"player": "generator"}, {"index": 4}], ids=str)
def test_another_seed_player_or_turn_draws_another_batch(other):
    one, two = turn(3), turn(**{"index": 3, **other})
    assert not torch.equal(one.labels, two.labels)
    for name in ("z", "mix"):
        assert not (getattr(one, name) == getattr(two, name)).any()


def test_turns_are_independent_of_each_other():
    """The correlation between the noise of neighbouring turns, players and seeds is within 5 standard errors of 0."""
    long = dict(size=4096, latent=8, count=4096)
    one = turn(0, **long).z.flatten()
    for other in (turn(1, **long), turn(0, player="generator", **long), turn(0, seed=1, **long)):
        correlation = torch.corrcoef(torch.stack([one, other.z.flatten()]))[0, 1]
        assert abs(correlation) < 5 / len(one) ** 0.5


def test_noise_is_normal_and_mixing_weights_are_uniform():
    """Mean and variance are within 5 standard errors of those of N(0, 1) and U(0, 1)."""
    batch = turn(0, size=4096, latent=16, count=4096)
    z, mix = batch.z.flatten(), batch.mix.flatten()
    assert abs(z.mean()) < 5 / len(z) ** 0.5
    assert abs(z.var() - 1) < 5 * (2 / len(z)) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / len(z)) ** 0.5
    assert abs(mix.mean() - 0.5) < 5 * (1 / 12 / len(mix)) ** 0.5
    assert abs(mix.var() - 1 / 12) < 5 * (1 / 180 / len(mix)) ** 0.5
    assert mix.min() >= 0
    assert mix.max() < 1


# Latents and labels for evaluation


def test_the_classes_of_an_endless_sequence_take_turns():
    assert streams.labels_of(0, 7, 3, "cpu").tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert streams.labels_of(5, 9, 3, "cpu").tolist() == [2, 0, 1, 2]
    assert streams.labels_of(4, 4, 3, "cpu").tolist() == []
    assert streams.labels_of(0, 2, 1, "cpu").dtype == torch.int64


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


def test_uniform_latents_fill_the_cube_and_are_truncated_by_scaling():
    z = streams.latents(0, "evaluation", 0, 20_000, LATENT, torch.device("cpu"), torch.float64, "uniform")
    assert -1 <= z.min() < -0.999
    assert 0.999 < z.max() < 1
    assert_close(z.mean(0), torch.zeros(LATENT).double(), rtol=0, atol=5 / (3 * len(z)) ** 0.5)
    assert_close(z.T.cov(), torch.eye(LATENT).double() / 3, rtol=0, atol=5 * (2 / len(z)) ** 0.5 / 3)
    assert torch.equal(streams.truncated(z, 0.5, "uniform"), z / 2)
    assert torch.equal(streams.truncated(z, 1.5, "uniform"), z), "nothing is beyond it"


def test_a_batch_has_uniform_z_and_the_rest_as_with_normal_z():
    given = Turn(0, "critic", 3, SIZE), LATENT, *slopes(40)
    (uniform,), (normal,) = streams.draw_batches(*given, z="uniform"), streams.draw_batches(*given)
    assert uniform.z.shape == normal.z.shape
    assert uniform.z.abs().max() < 1 < normal.z.abs().max()
    assert torch.equal(uniform.real, normal.real)
