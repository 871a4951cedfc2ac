"""SNGAN: which weights are normalised, its losses, its labels, its decay."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core.loop import Game
from gan_core.recipe import Batch, Turn
from gan_core.settings import SettingsError
from tests.gan_core.games import dataset, new_game, play, small


def a_batch(game: Game, player: str) -> Batch:
    real = dataset(game.experiment)
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(16, 8, generator=draw, dtype=game.dtype)
    images = real.images[:16].to(game.dtype)
    return Batch(images, real.labels[:16], z, torch.rand(16, 1, 1, 1, generator=draw), Turn(0, player, 0, 16))


@pytest.mark.parametrize("words", [["family.net=dcgan"], ["family.net=resnet", "family.labels=true"]])
def test_every_weight_of_the_critic_has_a_largest_singular_value_of_1(words):
    game = new_game(small("sngan", "compute.precision=fp64", *words))
    play(game, 2)
    critic, batch = game.players["critic"].net, a_batch(game, "critic")
    for _ in range(150):
        critic(batch.real, batch.labels) if game.conditional else critic(batch.real)
    layers = [one for one in critic.modules() if isinstance(one, nn.Conv2d | nn.Linear | nn.Embedding)]
    largest = [float(torch.linalg.matrix_norm(one.weight.detach().flatten(1), 2)) for one in layers]
    assert largest == pytest.approx([1.0] * len(layers), abs=1e-3)
    assert any(isinstance(one, nn.Embedding) for one in layers) == game.conditional
    assert len([one for one in critic.parameters() if one.dim() > 1]) == len(layers)


@pytest.mark.parametrize("labels", ["false", "true"])
def test_the_losses_are_hinges(labels):
    game = new_game(small("sngan", "compute.precision=fp64", f"family.labels={labels}"))
    for player in game.players.values():
        player.eval()  # neither vectors nor statistics change from pass to pass
    batch = a_batch(game, "critic")
    given = (batch.labels,) if game.conditional else ()
    critic, fake = game.players["critic"].net, game.generator(batch.z, *given)
    real_score, fake_score = critic(batch.real, *given), critic(fake, *given)
    real, fake = real_score.tolist(), fake_score.tolist()
    wanted = sum(max(0.0, 1 - one) for one in real) + sum(max(0.0, 1 + one) for one in fake)
    assert game.players["critic"](batch)[0].item() == pytest.approx(wanted / 16)
    assert game.players["generator"](a_batch(game, "generator"))[0].item() == pytest.approx(-sum(fake) / 16)


def test_labels_are_given_to_both_networks_or_to_none():
    labelled, plain = new_game(small("sngan", "family.labels=true")), new_game(small("sngan"))
    assert (labelled.conditional, plain.conditional) == (True, False)
    assert (labelled.experiment.family.needs_labels, plain.experiment.family.needs_labels) == (True, False)
    z = torch.zeros(2, 8)
    one, other = labelled.sample(z, torch.tensor([3, 4]))
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="sngan knows no labels"):
        plain.sample(z, torch.tensor([3, 4]))


def test_labels_of_one_class_are_refused():
    with pytest.raises(SettingsError, match="family.labels=true: .* one class only; nearest: family.labels=false"):
        Game(small("sngan", "family.labels=true"), (1, 16, 16), classes=1)


def test_the_rates_fall_to_0_in_the_rounds_given():
    game, found = new_game(small("sngan", "family.lr=1e-3", "family.decay_rounds=4", "family.n_critic=1")), []
    for optimizer in game.optimizers.values():
        optimizer.register_step_pre_hook(lambda one, *_: found.append(one.param_groups[0]["lr"]))
    before = play(game, 4)
    assert found == pytest.approx([1e-3 * (1 - played / 4) for played in range(4) for _ in range(2)])
    weights = {key: value.clone() for key, value in game.generator.named_parameters()}
    play(game, 1)
    assert before[-1].step == 4
    for key, value in game.generator.named_parameters():
        assert_close(value, weights[key], rtol=0, atol=0)


def test_the_critic_may_have_a_width_of_its_own():
    wide, narrow = (new_game(small("sngan", f"family.critic_width={width}")) for width in (8, 4))
    sizes = [sum(one.numel() for one in game.players["critic"].parameters()) for game in (wide, narrow)]
    assert sizes[0] > 3 * sizes[1]
    assert wide.experiment.family.width == narrow.experiment.family.width == 4
