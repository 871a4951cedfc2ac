"""What a family makes of Fashion-MNIST at its defaults, in so many core-seconds of training.

    python tests/benchmarks/fashion_mnist/clothes.py OUT.png 600 dcgan wgan_gp

Plays the games of `ganfleet train FAMILY data=fashion_mnist` in this process by one thread, without evaluations, in
turns of some seconds, each until it has used so many seconds of user and system time. Writes their samples side by
side, anew after each minute of it, and prints a line then.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from PIL import Image

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.loop import Game, rounds
from pipelines.evaluate.pictures import game_picture
from pipelines.settings import TrainExperiment

TURN, SHOWN = 10.0, 60.0


def picture(games: list[Game], dataset: Dataset) -> Image.Image:
    """The sample grids beside each other."""
    grids = [game_picture(game, dataset) for game in games]
    gap = 16
    width, height = sum(grid.width for grid in grids) + gap * (len(grids) - 1), max(grid.height for grid in grids)
    whole = Image.new("L", (width, height), 255)
    left = 0
    for grid in grids:
        whole.paste(grid.convert("L"), (left, 0))
        left += grid.width + gap
    return whole


def main(out: Path, core_seconds: float, families: list[str]) -> None:
    torch.set_num_threads(1)
    about = {"data": {"name": "fashion_mnist"}, "budget": {"rounds": 10**6}}
    experiments = [TrainExperiment.load({"family": {"name": family}, **about}) for family in families]
    dataset = data.load(experiments[0].data)
    games = [Game(one, dataset.shape, "cpu", dataset.classes) for one in experiments]
    playing = [rounds(game, dataset.images, dataset.labels) for game in games]
    used, shown = 0.0, 0.0
    while used < core_seconds:
        for steps in playing:
            began = time.process_time()
            while time.process_time() - began < TURN:
                next(steps)
        used += TURN
        if used - shown >= SHOWN or used >= core_seconds:
            shown = used
            picture(games, dataset).save(out, optimize=True)
            done = ", ".join(f"{game.experiment.family.name} {game.step} rounds" for game in games)
            print(f"{used:.0f} core-seconds each: {done}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
