"""The original GAN's two learning rates."""

import pytest

from tests.gan_core.games import new_game, small


@pytest.mark.parametrize(("words", "critic"), [((), 3e-4), (("family.critic_lr=2e-3",), 2e-3)])
def test_the_critic_learns_at_its_own_rate_or_at_the_generators(words, critic):
    game = new_game(small("gan", "family.lr=3e-4", *words))
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in game.optimizers.items()}
    assert rates == {"critic": critic, "generator": 3e-4}
