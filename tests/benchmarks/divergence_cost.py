"""What it costs to look for numbers that are not finite: CPU seconds of training with it, divided by those without.

    python tests/benchmarks/divergence_cost.py [BLOCKS]

Blocks of rounds with and without take turns, so that both see the same machine. The median ratio is printed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice

import torch

from gan_core import data, loop
from gan_core.experiment import Experiment
from gan_core.loop import Game, Round, rounds

GAMES = {
    "wgan_gp on ring8, MLP of 16 x 8": ("wgan_gp", "data.name=ring8", "family.width=8"),
    "wgan_gp on digits 16x16, width 32": ("wgan_gp",),
    "dcgan on digits 16x16, width 32": ("dcgan",),
    "wgan (RMSProp) on digits 16x16, width 32": ("wgan",),
}

ROUNDS = 20
"""Rounds of a block, of which the last is read; a run logs every 50th."""


def playing(family: str, *words: str) -> Iterator[Round]:
    """Endless rounds of a new game."""
    experiment = Experiment.load({"family": family}).override(*words, "budget.rounds=1000000")
    real = data.load(experiment.data)
    return rounds(Game(experiment, real.shape, classes=real.classes), real.images, real.labels)


def block(played: Iterator[Round], count: int, watched: bool) -> float:
    """Seconds for some rounds, the last of which is read as a logged round is."""
    see, step, read = loop.Watch.see_turn, loop.guarded_step, loop.Watch.read
    if not watched:
        loop.Watch.see_turn = lambda *_: None  # type: ignore[method-assign,assignment,return-value]
        loop.Watch.read = lambda _, losses, step: torch.stack([*losses.values()]).tolist()  # type: ignore[method-assign]
        loop.guarded_step = lambda optimizer, _: optimizer.step()  # type: ignore[assignment]
    try:
        began = time.process_time()
        *_, last = islice(played, count)
        last.scalars()
        return time.process_time() - began
    finally:
        loop.Watch.see_turn, loop.guarded_step, loop.Watch.read = see, step, read  # type: ignore[method-assign]


def main(blocks: int) -> None:
    torch.set_num_threads(1)
    for name, words in GAMES.items():
        played = playing(*words)
        block(played, 2, watched=True)
        ratios = [block(played, ROUNDS, watched=True) / block(played, ROUNDS, watched=False) for _ in range(blocks)]
        print(f"{name}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
