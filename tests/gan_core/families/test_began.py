"""BEGAN's balance against the paper's equations, written out independently."""

import pytest
import torch
from torch.testing import assert_close

from gan_core import streams
from gan_core.loop import rounds
from gan_core.recipe import Turn
from tests.gan_core.games import BATCH, dataset, new_game, small


def error(critic, x):
    """Equation 1 with exponent 1, as a mean over pixels."""
    return (x - critic(x)).abs().sum() / x.numel()


def turn(game, player, number):
    real = dataset(game.experiment).to("cpu", torch.float64)
    return streams.draw_batches(
        Turn(0, player, number, BATCH), game.experiment.family.latent, real.images, real.labels
    )[0]


def test_losses_k_and_convergence_follow_section_3_4():
    fields = ("family.gamma=0.8", "family.lambda_k=0.25", "family.k_start=0.125", "family.lr=1e-3")
    game = new_game(small("began", "compute.precision=fp64", *fields))
    critic, generator = game.players["critic"].net, game.generator
    k, seen = 0.125, []
    for number in range(8):
        with torch.no_grad():
            given = turn(game, "critic", number)
            real, fake = float(error(critic, given.real)), float(error(critic, generator(given.z)))
        scalars = next(rounds(game, *data(game))).scalars()
        assert scalars["loss/critic"] == pytest.approx(real - k * fake)
        assert scalars["convergence"] == pytest.approx(real + abs(0.8 * real - fake))
        assert scalars["k"] == pytest.approx(k)
        k = min(max(k + 0.25 * (0.8 * real - fake), 0), 1)
        assert float(critic.get_buffer("k")) == pytest.approx(k)
        seen.append(k)
    assert len(set(seen)) > 4


def data(game, dtype=torch.float64):
    real = dataset(game.experiment).to("cpu", dtype)
    return real.images, real.labels


def test_the_generator_lowers_its_samples_error():
    game = new_game(small("began", "compute.precision=fp64"))
    given = turn(game, "generator", 0)
    critic, fake = game.players["critic"].net, game.generator(given.z)
    loss, scalars = game.players["generator"](given)
    assert_close(loss, error(critic, fake))
    assert not scalars
    weights = list(game.generator.parameters())
    wanted = torch.autograd.grad(error(critic, fake), weights)
    assert_close(torch.autograd.grad(loss, weights), wanted)


def test_a_critics_gradient_is_that_of_reals_less_k_times_that_of_fakes():
    game = new_game(small("began", "compute.precision=fp64"))
    critic, given = game.players["critic"].net, turn(game, "critic", 0)
    critic.get_buffer("k").fill_(0.3)
    fake = game.generator(given.z).detach()
    weights = list(critic.parameters())
    real_slope, fake_slope = (torch.autograd.grad(error(critic, x), weights) for x in (given.real, fake))
    found = torch.autograd.grad(game.players["critic"](given)[0], weights)
    assert_close(found, tuple(one - 0.3 * other for one, other in zip(real_slope, fake_slope, strict=True)))


@pytest.mark.parametrize(("gamma", "end"), [(0, 0), (1, 1)])
def test_k_stays_between_0_and_1(gamma, end):
    """The fakes are of constant grey: their error is above 0 and below that of digits."""
    words = (f"family.gamma={gamma}", "family.lambda_k=1", "family.k_start=0.5")
    game = new_game(small("began", *words, "compute.precision=fp64"))
    with torch.no_grad():
        for weight in game.generator.parameters():
            weight.zero_()
        game.generator[-2].bias.fill_(0.2)
    critic = game.players["critic"].net
    for number in range(8):
        game.players["critic"](turn(game, "critic", number))
        game.players["critic"].after_step()
    assert critic.get_buffer("k") == end


def test_both_rates_halve_and_the_generators_is_a_multiple():
    game = new_game(small("began", "family.lr=1e-3", "family.generator_rate=8", "family.halve_rounds=2"))
    seen = []
    for _ in rounds(game, *data(game, torch.float32)):
        seen.append([optimizer.param_groups[0]["lr"] for optimizer in game.optimizers.values()])
        if len(seen) == 5:
            break
    assert seen == [[1e-3 * share, 8e-3 * share] for share in (1, 1, 0.5, 0.5, 0.25)]


@pytest.mark.parametrize(("words", "width"), [(("family.hidden=3",), 3), (("family.hidden=0",), 8)])
@pytest.mark.parametrize("net", ["dcgan", "began"])
def test_the_hidden_state_has_its_own_width_or_that_of_z(net, words, width):
    critic = new_game(small("began", f"family.net={net}", *words)).players["critic"].net
    assert critic.encoder(torch.zeros(2, 1, 16, 16)).shape == (2, width)


@pytest.mark.parametrize("net", ["dcgan", "began"])
def test_the_critic_can_raise_the_error_of_black_fakes_and_the_generator_makes_images(net):
    """With a tanh the reconstruction of a black image saturates, and the critic has no gradient there."""
    game = new_game(small("began", f"family.net={net}", "compute.precision=fp64"))
    critic, black = game.players["critic"].net, -torch.ones(2, 1, 16, 16, dtype=torch.float64)
    bias = list(critic.decoder.parameters())[-1]
    with torch.no_grad():
        bias.fill_(-20.0)
    (slope,) = torch.autograd.grad(error(critic, black), [bias])
    assert slope.abs() > 0.5
    assert game.generator(torch.randn(4, 8, dtype=torch.float64) * 100).abs().max() <= 1
