"""What every turn of a player must be, watched while a game is played in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gan_core.loop import Game
from gan_core.recipe import Player
from gan_core.settings import place
from gan_core.testing.fault import Fault
from gan_core.testing.randomness import Drawing, global_state, moved

ONE_BACKWARD = "add it to the loss that the player returns, so that one backward pass has all (gradients of several "
ONE_BACKWARD += "workers are averaged in that pass only)"


class UnplayableError(Exception):
    """A turn cannot be played; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Contract:
    """The faults of the turns that were played under `watched`."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.faults: dict[str, Fault] = {}
        self.gradients: dict[str, float] = {}
        """The largest number in any gradient of each player so far."""
        self._before: dict[str, Any] = {}
        self._grads: dict[str, tuple[int, int] | None] = {}
        self._blamed = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watches each turn."""
        self.drawing = Drawing((*self.game.players.items(), *self.game.current.items()))
        hooks: list[Any] = []
        afterwards = {name: player.after_step for name, player in self.game.players.items()}
        for name, player in self.game.players.items():
            hooks += [
                player.register_forward_pre_hook(self._begin),
                player.register_forward_hook(partial(self._end, name)),
                self.game.optimizers[name].register_step_pre_hook(partial(self._gradient, name, player)),
            ]
            player.after_step = partial(self._after_step, name, afterwards[name])
        try:
            yield
        finally:
            self.drawing.end()
            for hook in hooks:
                hook.remove()
            for name, player in self.game.players.items():
                player.after_step = afterwards[name]
        for name, largest in self.gradients.items():
            if not largest:
                self._add("gradient", f"the loss of {name} has a gradient of 0 in every turn", _GRAPH)
        for wrong, mend in self.drawing.found.items():
            self._add("random", f"{wrong}, so a run depends on what else the program does", mend)

    def _add(self, check: str, wrong: str, mend: str) -> None:
        self.faults.setdefault(wrong, Fault(check, wrong, mend))

    def _begin(self, player: Player, _: Any) -> None:
        self._grads = {key: _mark(weight.grad) for key, weight in player.named_parameters()}
        self._before, self._blamed = global_state(), self.drawing.blamed

    def _end(self, name: str, player: Player, _: Any, found: Any) -> None:
        where = _named(player)
        whose = moved(self._before, global_state())
        if whose and self.drawing.blamed == self._blamed:
            self.drawing.blame(f"the loss of {name} ({where})", whose)
        filled = [key for key, weight in player.named_parameters() if _mark(weight.grad) != self._grads[key]]
        if filled:
            wrong = (
                f"the loss of {name} ({where}) runs a backward pass of its own: it fills the gradient of {filled[0]}"
            )
            self._add("gradient", wrong, ONE_BACKWARD)
        loss = _loss_of(found, name, where)
        if not torch.isfinite(loss):
            raise UnplayableError(
                Fault("play", f"the loss of {name} ({where}) is {float(loss)} at the start", "a loss that is finite")
            )

    def _gradient(self, name: str, player: Player, *_: Any) -> None:
        grads = {key: weight.grad for key, weight in player.named_parameters()}
        without = [key for key, grad in grads.items() if grad is None]
        if without:
            which = f"{without[0]} and {len(without) - 1} more" if len(without) > 1 else without[0]
            wrong = f"the loss of {name} ({_named(player)}) gives {which} no gradient"
            self._add("gradient", wrong, "use it in every turn, or leave it out of the network that is trained")
        largest = [float(grad.abs().max()) for grad in grads.values() if grad is not None]
        self.gradients[name] = max([self.gradients.get(name, 0.0), *largest])

    def _after_step(self, name: str, after_step: Any) -> None:
        weights = {
            f"{owner}.{key}": weight
            for owner, player in self.game.players.items()
            for key, weight in player.named_parameters()
        }
        before, state = {key: _mark(weight.grad) for key, weight in weights.items()}, global_state()
        after_step()
        changed = [key for key, weight in weights.items() if _mark(weight.grad) != before[key]]
        if changed:
            wrong = f"after_step of {name} runs a backward pass of its own: it changes the gradient of {changed[0]}"
            self._add("gradient", wrong, ONE_BACKWARD)
        whose = moved(state, global_state())
        if whose:
            self.drawing.blame(f"after_step of {name}", whose)


_GRAPH = "compute it from the network's output, outside of torch.no_grad() and without detach()"


def _mark(grad: Tensor | None) -> tuple[int, int] | None:
    return None if grad is None else (id(grad), grad._version)


def _named(player: Player) -> str:
    """The function that computes a player's loss, and where it is."""
    code = getattr(player.loss, "__code__", None)
    name = getattr(player.loss, "__name__", type(player.loss).__name__)
    return name if code is None else f"{name}, {place(code.co_filename, code.co_firstlineno)}"


def _loss_of(found: Any, name: str, where: str) -> Tensor:
    """The loss in what a player's forward pass returned. Raises UnplayableError."""
    about = f"the loss of {name} ({where})"
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Mapping):
        kind = type(found).__name__
        raise UnplayableError(Fault("play", f"{about} returns a {kind}", "return loss, {'name': scalar, ...}"))
    loss, scalars = found
    if not isinstance(loss, Tensor) or loss.dim():
        shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise UnplayableError(
            Fault("play", f"{about} is {shape}, not a scalar", "its mean over the batch: loss.mean()")
        )
    if not loss.requires_grad:
        raise UnplayableError(Fault("gradient", f"{about} has no graph, so nothing can be trained by it", _GRAPH))
    for key, value in scalars.items():
        if not isinstance(value, Tensor) or value.dim():
            wrong = f"{about} logs {key!r}, which is no tensor without dimensions"
            raise UnplayableError(Fault("play", wrong, f"{key!r}: value.mean()"))
    return loss
