"""Instance noise and dropout: their size, and that ranks and resumed runs draw the same."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core import nets, ranks, streams
from gan_core.family import build_family, family_class, family_names
from gan_core.options import InstanceNoiseFamily
from gan_core.recipe import Turn
from gan_core.settings import SettingsError
from gan_core.techniques.noise import GlobalDropout, in_turn, instance_noise, with_dropout

SIZE = 64


def turn(number: int = 0, *, player: str = "critic", seed: int = 0, size: int = SIZE, played: int = 0) -> Turn:
    return Turn(seed, player, number, size, played)


def zeros(count: int = SIZE, *shape: int) -> torch.Tensor:
    return torch.zeros(count, *(shape or (3, 8, 8)), dtype=torch.float64)


# Streams


@pytest.mark.parametrize("draw", [streams.normal, streams.uniform])
def test_the_rows_of_the_ranks_are_those_of_one(monkeypatch, draw):
    whole = draw(turn(5), "it", zeros())
    parts = []
    for rank in range(4):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(ranks, "world_size", lambda: 4)
        parts.append(draw(turn(5), "it", zeros(SIZE // 4)))
    assert torch.equal(torch.cat(parts), whole)
    assert whole.dtype == torch.float64


def test_each_turn_player_seed_and_purpose_draws_its_own():
    one = streams.normal(turn(5), "it", zeros())
    assert torch.equal(one, streams.normal(turn(5), "it", zeros()))
    others = [turn(6), turn(5, player="generator"), turn(5, seed=1)]
    for other in [streams.normal(key, "it", zeros()) for key in others] + [streams.normal(turn(5), "that", zeros())]:
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 5 / one.numel() ** 0.5


# Instance noise


@pytest.mark.parametrize("played", [0, 1, 24])
def test_noise_falls_linearly_by_rounds(played):
    found = instance_noise(0.4, 30)(zeros(), "real", turn(74, played=played))
    wanted = 0.4 * (1 - played / 30)
    assert abs(float(found.std()) - wanted) < 5 * wanted / (2 * found.numel()) ** 0.5
    whole = instance_noise(0.4, 10**9)(zeros(), "real", turn(74, played=played))
    assert_close(found, whole * (1 - played / 30), rtol=1e-6, atol=0)


def test_noise_is_added_to_the_samples_and_differs_between_real_and_fake():
    noised = instance_noise(0.4, 10)
    x = torch.rand(SIZE, 2, dtype=torch.float64)
    assert_close(noised(x, "real", turn()) - x, noised(zeros(SIZE, 2), "real", turn()), rtol=0, atol=1e-12)
    assert not torch.equal(noised(x, "real", turn()), noised(x, "fake", turn()))


@pytest.mark.parametrize(("sigma", "played"), [(0.4, 10), (0.4, 1000), (0.0, 0)])
def test_no_noise_is_the_samples_themselves(sigma, played):
    x = zeros()
    assert instance_noise(sigma, 10)(x, "fake", turn(played=played)) is x


@pytest.mark.parametrize(
    "family", [name for name in family_names() if issubclass(family_class(name), InstanceNoiseFamily)]
)
def test_a_length_without_noise_is_refused(family):
    with pytest.raises(SettingsError, match=r"family.noise_rounds=5 has no meaning.*nearest: family.instance_noise="):
        build_family({"name": family, "noise_rounds": 5})
    made = build_family({"name": family, "noise_rounds": 5, "instance_noise": 0.1})
    for settings in (made, build_family(family)):
        assert build_family(settings.model_dump()) == settings


# Dropout


def test_dropout_leaves_out_a_share_and_scales_the_rest():
    layer = GlobalDropout(0.3, place=1)
    layer.turn = turn(2)
    found = layer(torch.ones(SIZE, 3, 8, 8, dtype=torch.float64))
    assert_close(found.unique(), torch.tensor([0, 1 / 0.7], dtype=torch.float64))
    assert abs(float((found == 0).double().mean()) - 0.3) < 5 * (0.21 / found.numel()) ** 0.5
    assert len((found == 0).flatten(1).unique(dim=0)) == SIZE


def test_dropout_draws_by_turn_and_layer_and_not_where_it_is_evaluated():
    x = torch.ones(SIZE, 3, 8, 8)
    one, other = GlobalDropout(0.5, place=1), GlobalDropout(0.5, place=2)
    for layer in (one, other):
        layer.turn = turn(2)
    first = one(x)
    assert torch.equal(first, one(x))
    assert not torch.equal(first, other(x))
    one.turn = turn(3)
    assert not torch.equal(first, one(x))
    assert one.eval()(x) is x


def test_dropout_follows_each_batch_norm_of_a_generator():
    plain = nets.dcgan_generator(8, (1, 16, 16), 4)
    assert with_dropout(plain, 0.0) is plain
    layers = list(with_dropout(plain, 0.5))
    places = [place for place, layer in enumerate(layers) if isinstance(layer, GlobalDropout)]
    assert len(places) == 2
    assert all(isinstance(layers[place - 1], nn.BatchNorm2d) for place in places)
    assert len({layers[place].place for place in places}) == 2
    assert [layer for layer in layers if not isinstance(layer, GlobalDropout)] == list(plain)


def test_a_generator_is_told_whose_turn_it_is():
    generator = with_dropout(nets.dcgan_generator(8, (1, 8, 8), 4), 0.5)
    z = torch.randn(6, 8)
    first, second = (in_turn(generator, turn(number, size=6))(z).detach() for number in (0, 1))
    assert not torch.equal(first, second)
    assert_close(in_turn(generator, turn(0, size=6))(z).detach(), first)
