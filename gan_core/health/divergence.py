"""Divergence: a number of a game is not finite. It is found before the optimiser's step.

Every turn looks at its loss and its gradient, and nothing of it is read from the device until a round is logged. From
the first bad turn on no player takes a step, so the weights stay finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from gan_core import ranks


class DivergedError(RuntimeError):
    """A number of the game is not finite; the game cannot continue."""

    def __init__(self, what: str, step: int, why: str = "") -> None:
        """`what`: the number, with the player, as in `gradient_norm/critic is inf`. `step`: the round in which it was
        found."""
        super().__init__(what, step, why)
        self.what, self.step, self.why = what, step, why
        self.checkpoint: str | None = None
        """The address of the last checkpoint before the step, if there is one."""
        self.rollbacks = 0
        """How often the game rolled back before."""

    def __str__(self) -> str:
        before = f" after {self.rollbacks} rollback{'' if self.rollbacks == 1 else 's'}" if self.rollbacks else ""
        return f"{self.what} at step {self.step}{before}" + (f": {self.why}" if self.why else "")


def check_finite(values: Mapping[str, float], step: int) -> None:
    """Raises DivergedError if one of the values is not finite."""
    for name, value in values.items():
        if not isfinite(value):
            raise DivergedError(f"{name} is {value}", step)


class Watch:
    """Watches the numbers of one game: losses and gradients at each turn, and all of its state when a round is read."""

    def __init__(
        self,
        players: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        averages: Mapping[str, nn.Module],
        device: torch.device,
    ) -> None:
        self._players, self._optimizers, self._averages = players, optimizers, averages
        self._names = list(players)
        self._first = torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float64, device=device)
        """The first bad turn, -1 if there is none; its loss; the norm of its gradient."""
        self._is_sound = device.type == "cpu"
        """Whether no turn was bad until now, on a CPU, where a number is read at no cost. Other devices do not say."""

    def see_turn(self, step: int, player: str, loss: Tensor, norm: Tensor) -> Tensor | None:
        """Looks at a turn of the round that ends at `step`: its loss and the norm of its gradient. Returns 1, on the
        device, if the game has diverged in this turn or earlier, and else 0; None, on a CPU, if it has not."""
        if self._is_sound and isfinite(float(loss.detach())) and isfinite(float(norm)):
            return None
        self._is_sound = False
        number = step * len(self._names) + self._names.index(player)
        turn = torch.full((), number, dtype=torch.float64, device=self._first.device)
        seen = torch.stack([turn, loss.detach().double(), norm.double()])
        is_first = (self._first[0] < 0) & ~seen.isfinite().all()
        self._first = torch.where(is_first, seen, self._first)
        return (self._first[0] >= 0).float()

    def read(self, losses: Mapping[str, Tensor], step: int) -> dict[str, float]:
        """The means of a round's losses over all ranks.

        Raises DivergedError on all ranks if a number of the game is not finite on one of them: what each rank has found
        is sent with the losses.
        """
        state = self._largest()
        mine = torch.cat([self._first, torch.stack(list(state.values())).double()])
        of_ranks = mine.new_zeros(ranks.world_size(), len(mine))
        of_ranks[ranks.rank()] = mine
        sent = torch.cat([torch.stack([loss.double() for loss in losses.values()]), of_ranks.flatten()])
        received = ranks.total(sent).tolist()
        found = [received[at : at + len(mine)] for at in range(len(losses), len(received), len(mine))]
        self._raise_for_turn([one[:3] for one in found if one[0] >= 0])
        means = {name: value / ranks.world_size() for name, value in zip(losses, received, strict=False)}
        check_finite(means, step)
        for one in found:
            check_finite(dict(zip(state, one[3:], strict=True)), step)
        return means

    def _raise_for_turn(self, turns: Iterable[list[float]]) -> None:
        first = min(turns, key=lambda turn: turn[0], default=None)
        if first is None:
            return
        step, player = divmod(int(first[0]), len(self._names))
        kinds = (f"loss/{self._names[player]}", f"gradient_norm/{self._names[player]}")
        check_finite(dict(zip(kinds, first[1:], strict=True)), step)

    def _largest(self) -> dict[str, Tensor]:
        """The largest magnitude in the state of each player, optimiser and average; NaN if one is NaN."""
        found = {f"state/{name}": [*one.parameters(), *one.buffers()] for name, one in self._players.items()}
        for name, optimizer in self._optimizers.items():
            values = [value for slots in optimizer.state.values() for value in slots.values()]
            found[f"optimizer/{name}"] = [value for value in values if value.dim()]  # not the count of steps
        found |= {f"average/{name}": [*one.parameters(), *one.buffers()] for name, one in self._averages.items()}
        return {name: _largest_of(tensors) for name, tensors in found.items() if tensors}


def gradient_norm(player: nn.Module) -> Tensor:
    """The norm of a player's whole gradient, of no dimensions."""
    return get_total_norm([one.grad for one in player.parameters() if one.grad is not None])


def _largest_of(tensors: Iterable[Tensor]) -> Tensor:
    floats = [tensor.detach() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return torch.stack([one.abs().max().double() for one in floats]).max()
