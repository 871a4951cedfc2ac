"""Which samples a command draws: latent points and classes, each a function of the seed and the sample's number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan_core import checkpoint, streams
from gan_core.loop import Game
from gan_core.metrics.statistics.reference import batch_of
from gan_core.settings import SettingsError, similar
from pipelines.evaluate.targets import check_drawing
from pipelines.runs import named_classes


@dataclass(frozen=True)
class Drawing:
    """What the user chose of the samples."""

    seed: int | None = None
    """None: the run's own."""
    truncation: float | None = None
    """The largest value of a latent point, in standard deviations, or psi of a family that truncates w; None: nothing
    is truncated."""
    label: str | None = None
    """The name of the only class to draw; None: all classes in turn."""

    def seed_of(self, game: Game) -> int:
        """The seed of the samples."""
        return game.experiment.seed if self.seed is None else self.seed

    def latents(self, game: Game, purpose: str, start: int, stop: int) -> Tensor:
        """Latent points start .. stop of an endless fixed table, (N, latent).

        Every family maps points of N(0, I), or uniform ones, to samples: an autoencoder maps them to its codes first.
        So all are truncated in the same way, except for a family that truncates w.
        """
        # z is drawn on the CPU, because a GPU's random sequence is another one.
        family, cpu = game.experiment.family, torch.device("cpu")
        z = streams.latents(self.seed_of(game), purpose, start, stop, family.latent, cpu, game.dtype, family.z)
        if self.truncation is not None and not family.truncates_w:
            z = streams.truncated(z, self.truncation, family.z)
        return z.to(game.device)

    def labels(self, game: Game, start: int, stop: int) -> Tensor | None:
        """Classes of samples start .. stop; None if the family knows none. Raises SettingsError."""
        number = self.class_number(game)
        if number is not None:
            return torch.full((stop - start,), number, device=game.device)
        return streams.labels_of(start, stop, game.classes, game.device) if game.conditional else None

    def samples(self, game: Game, start: int, stop: int) -> Tensor:
        """Samples start .. stop, the same in a picture and in files: (N, *shape)."""
        return self.sampled(game, self.latents(game, "picture", start, stop), self.labels(game, start, stop))

    def sampled(self, game: Game, z: Tensor, labels: Tensor | None) -> Tensor:
        """Samples of these latent points and classes: (N, *shape)."""
        return game.sample(z, labels, psi=self.truncation if game.experiment.family.truncates_w else None)

    def check(self, game: Game) -> None:
        """Raises SettingsError for a class that there is not, and for a truncation that the family does not have."""
        self.class_number(game)
        if self.truncation == 0 and not game.experiment.family.truncates_w:
            raise SettingsError("--truncation=0 is no limit above 0", nearest="--truncation 0.5")
        if self.truncation is not None and self.truncation > 1 and game.experiment.family.truncates_w:
            raise SettingsError(
                f"--truncation={self.truncation:g}: {game.experiment.family.name} takes psi, from 0 to 1",
                nearest="--truncation 0.7",
            )

    def class_number(self, game: Game) -> int | None:
        """The number of the only class; None: all are drawn. Raises SettingsError with the nearest name."""
        if self.label is None:
            return None
        if not game.conditional:
            raise SettingsError(
                f"--label={self.label}: {game.experiment.family.name} was not trained with labels", nearest="no --label"
            )
        names = class_names(game)
        if self.label in names:
            return names.index(self.label)
        known = f"0 to {game.classes - 1}" if names == tuple(map(str, range(len(names)))) else named_classes(names)
        meant = _class_meant(self.label, names)
        right = "one of these" if meant is None else f"--label={meant}"
        raise SettingsError(f"--label={self.label}: classes are {known}", nearest=right)


def drawn_batches(game: Game, drawing: Drawing, start: int, stop: int) -> Iterator[Tensor]:
    """Samples start .. stop, a batch at a time. Batches are cut at the same places and drawn whole, whatever is asked
    for: the sums inside a network may depend on what else is in the batch."""
    size = batch_of(game.shape)
    for first in range(start - start % size, stop, size):
        yield drawing.samples(game, first, first + size)[max(start - first, 0) : stop - first]


def drawn(folder: Path, count: int, label: str | None, seed: int | None) -> Tensor:
    """The first samples of a checkpoint's generator, on the CPU: (count, *shape). Raises SettingsError."""
    check_drawing(seed, None, ())
    if count < 1:
        raise SettingsError(f"n={count} samples cannot be drawn", nearest="n=1")
    game, drawing = checkpoint.open_game(folder), Drawing(seed, None, label)
    drawing.check(game)
    return torch.cat(list(drawn_batches(game, drawing, 0, count)))


def class_names(game: Game) -> tuple[str, ...]:
    """The names of the classes. Checkpoints of earlier versions, and some data, have numbers only."""
    return game.class_names or tuple(map(str, range(game.classes)))


def _class_meant(label: str, names: Sequence[str]) -> str | None:
    """The nearest number if all names are numbers; the name at that place if only the label is one; else a similar
    name, None if there is none."""
    try:
        number = int(label)
        return min(names, key=lambda name: abs(int(name) - number))
    except ValueError:
        if label.isdecimal() and int(label) < len(names):
            return names[int(label)]
    return similar(label, names)
