"""Checks of what a game's networks draw: shape, range, independence, and the running average."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gan_core.loop import Game
from gan_core.testing.fault import Fault
from gan_core.testing.games import asked
from gan_core.testing.randomness import global_state, moved


def network_faults(game: Game) -> Iterator[Fault]:
    """What is wrong with the networks of a game before its first round."""
    for name, net in game.current.items():
        if not list(net.parameters()):
            wrong = f"the recipe's {name} has no weights of its own"
            yield Fault("samples", wrong, _REGISTER)
            return
    given = asked(game, 6)
    samples = game.sample(*given)
    if samples.shape != (6, *game.shape):
        wrong = f"the generator maps z of shape {tuple(given[0].shape)} to {tuple(samples.shape)}"
        yield Fault("samples", wrong, f"samples of shape {(6, *game.shape)}")


_REGISTER = "register its networks as attributes of a Module, not in a list or a closure"


def sample_faults(game: Game, *, is_images: bool) -> Iterator[Fault]:
    """What is wrong with the samples of a game that was played. Changes its weights."""
    given = asked(game, 6)
    before = global_state()
    samples = game.sample(*given)
    if not samples.isfinite().all():
        yield Fault("samples", "the generator's samples are not finite", "finite numbers")
        return
    largest = float(samples.abs().max())
    if is_images and largest > 1 + 1e-6:
        yield Fault("samples", f"the generator's images reach {largest:.3g}, outside of [-1, 1]", "end it with Tanh")
    whose = moved(before, global_state())
    if whose or not torch.equal(samples, game.sample(*given)):
        wrong = "the generator draws random numbers of its own when it samples, so the same z gives other samples"
        yield Fault("random", wrong, "draw nothing in evaluation mode (if self.training: ...), or from z")
        return
    if len(samples.flatten(1).unique(dim=0)) == 1:
        yield Fault("samples", "the generator gives the same sample for every z", "use z")
    apart = torch.cat([game.sample(*(part[rows] for part in given)) for rows in (slice(1), slice(1, None))])
    if not torch.allclose(samples, apart, rtol=1e-9, atol=1e-9):
        wrong = "a sample depends on the others that are drawn with it"
        yield Fault("samples", wrong, "in evaluation mode use running statistics, as BatchNorm does")
    yield from _average_faults(game)


def _average_faults(game: Game) -> Iterator[Fault]:
    """A running average has its own weights, those of networks that a player trains."""
    trained = {id(weight) for player in game.players.values() for weight in player.parameters()}
    for name, net in game.current.items():
        alone = [key for key, weight in net.named_parameters() if id(weight) not in trained]
        if alone:
            wrong = f"the recipe's {name} has a weight that no player trains: {alone[0]}"
            yield Fault("samples", wrong, f"the {name} of a recipe is a network of one of its players, not a copy")
    given = asked(game, 4)
    before = game.sample(*given)
    with torch.no_grad():
        for player in game.players.values():
            for weight in player.parameters():
                weight.add_(1.0)
    if not torch.equal(before, game.sample(*given)):
        wrong = "the generator's running average changes with the weights that are trained: it has no copy of them"
        yield Fault("samples", wrong, _REGISTER)
