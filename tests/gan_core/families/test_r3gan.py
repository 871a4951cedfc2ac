"""R3GAN: its losses sample by sample, and what is annealed."""

import math

import pytest
import torch
import torch.nn.functional as F

from gan_core import checkpoint
from gan_core.loop import Game
from gan_core.recipe import Batch, Turn
from gan_core.settings import SettingsError
from tests.gan_core.games import dataset, new_game, play, small, state

ANNEALED = ("family.anneal_rounds=8", "family.r1_r2_gamma=3", "family.r1_r2_gamma_last=1")


def a_batch(game: Game, player: str, played: int) -> Batch:
    real = dataset(game.experiment).images[:16].to(game.dtype)
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(0), dtype=game.dtype)
    turn = Turn(0, player, played, 16, played)
    return Batch(real, torch.zeros(16, dtype=torch.long), z, torch.zeros(16, 1, 1, 1), turn)


def slope(critic: torch.nn.Module, image: torch.Tensor) -> float:
    """The squared norm of the critic's gradient at one image."""
    image = image[None].detach().requires_grad_()
    critic(image).sum().backward()
    return float(image.grad.square().sum())


@pytest.mark.parametrize(("played", "gamma"), [(0, 3), (4, 2), (8, 1), (50, 1)])
def test_the_losses_are_those_of_pairs_with_r1_and_r2(played, gamma):
    game = new_game(small("r3gan", "compute.precision=fp64", *ANNEALED))
    play(game, 3)
    critic, batch = game.players["critic"].net, a_batch(game, "critic", played)
    fake = game.generator(batch.z).detach()
    apart = (critic(fake) - critic(batch.real)).detach()
    penalties = [slope(critic, one) for one in (*batch.real, *fake)]
    assert min(penalties) > 0
    found, logged = game.players["critic"](batch)
    wanted = sum(math.log1p(math.exp(float(one))) for one in apart) / 16 + gamma / 2 * sum(penalties) / 16
    assert found.item() == pytest.approx(wanted)
    assert logged["gradient_penalty"].item() == pytest.approx(sum(penalties) / 32)
    generators, _ = game.players["generator"](a_batch(game, "generator", played))
    assert generators.item() == pytest.approx(float(F.softplus(-apart).mean()))


def test_the_rate_and_beta2_end_at_their_last_values():
    words = ["family.lr=1e-3", "family.lr_last=1e-4", "family.beta2=0.8", "family.beta2_last=0.9"]
    game, found = new_game(small("r3gan", *ANNEALED, *words)), []
    for optimizer in game.optimizers.values():
        optimizer.register_step_pre_hook(
            lambda one, *_: found.append((one.param_groups[0]["lr"], *one.param_groups[0]["betas"]))
        )
    play(game, 10)
    left = [(1 + math.cos(math.pi * min(played, 8) / 8)) / 2 for played in range(10)]
    wanted = [(1e-4 + 9e-4 * share, 0.0, 0.9 - 0.1 * share) for share in left]
    assert found[::2] == [pytest.approx(one) for one in wanted]
    assert found[1::2] == found[::2]


def test_without_annealing_the_first_values_stay():
    game = new_game(small("r3gan", "family.lr=1e-3"))
    play(game, 2)
    groups = [optimizer.param_groups[0] for optimizer in game.optimizers.values()]
    assert [(one["lr"], one["betas"]) for one in groups] == [(1e-3, (0.0, 0.9))] * 2


def test_an_annealed_game_is_resumed_bit_for_bit(tmp_path):
    straight, first = (new_game(small("r3gan", *ANNEALED)) for _ in range(2))
    play(straight, 6)
    play(first, 3)
    second = checkpoint.open_game(checkpoint.save(first, tmp_path / "here"))
    play(second, 3)
    one, other = state(straight), state(second)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("last", ["lr_last", "beta2_last", "r1_r2_gamma_last"])
def test_a_last_value_without_annealing_is_refused(last):
    with pytest.raises(SettingsError, match=f"family.{last}=0.5 has no meaning with family.anneal_rounds=0; nearest"):
        small("r3gan", f"family.{last}=0.5")
