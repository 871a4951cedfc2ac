"""BiGAN: a critic of pairs, and an encoder that is trained with the generator."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from gan_core import streams
from gan_core.recipe import Turn
from tests.gan_core.games import BATCH, dataset, new_game, play, small, state


@pytest.fixture
def game():
    game = new_game(small("bigan", "compute.precision=fp64"))
    play(game, 2)
    return game


def batch(game, player):
    real = dataset(game.experiment).to("cpu", torch.float64)
    return streams.draw_batches(Turn(0, player, 7, BATCH), game.experiment.family.latent, real.images, real.labels)[0]


def test_both_losses_are_cross_entropies_of_the_two_kinds_of_pairs(game):
    """By PyTorch's binary cross entropy of the probability that a pair is (x, E(x)). Labels are swapped for G and E."""
    generator, encoder, critic = game.generator, game.current["encoder"], game.players["critic"].net
    for player, real_label in (("critic", 1.0), ("generator", 0.0)):
        given = batch(game, player)
        scores = critic(given.real, encoder(given.real)), critic(generator(given.z), given.z)
        wanted = sum(
            F.binary_cross_entropy_with_logits(score, torch.full_like(score, label))
            for score, label in zip(scores, (real_label, 1 - real_label), strict=True)
        )
        assert_close(game.players[player](given)[0], wanted)


def test_encoder_and_generator_are_one_player(game):
    before = state(game)
    nets = {"generator": game.generator, "encoder": game.current["encoder"]}
    trained = {id(weight) for weight in game.players["generator"].parameters()}
    assert trained == {id(weight) for net in nets.values() for weight in net.parameters()}
    play(game, 1)
    for name, net in nets.items():
        for key, weight in net.named_parameters():
            assert not torch.equal(before[f"current.{name}.{key}"], weight), (name, key)


def test_the_critics_turn_gives_no_gradient_to_the_others(game):
    for player in game.players.values():
        player.requires_grad_(True)
        player.zero_grad()
    game.players["critic"](batch(game, "critic"))[0].backward()
    assert all(weight.grad is None for weight in game.players["generator"].parameters())
    assert all(weight.grad is not None for weight in game.players["critic"].parameters())
