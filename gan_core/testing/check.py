"""`check_family`: plays a family in small and finds what would go wrong on many workers or after a resume."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_core import checkpoint
from gan_core.experiment import Experiment
from gan_core.family import Family
from gan_core.health.divergence import DivergedError
from gan_core.loop import DTYPES, Game
from gan_core.settings import SettingsError, assign, paths, raised
from gan_core.testing.contract import Contract, UnplayableError
from gan_core.testing.fault import FamilyError, Fault
from gan_core.testing.games import BATCH, dataset, differing, small_family, state
from gan_core.testing.hidden_state import hidden_state
from gan_core.testing.penalties import penalty_faults
from gan_core.testing.randomness import STREAMS, global_state, kept, moved, seed_all
from gan_core.testing.record import Record, record
from gan_core.testing.sample_checks import network_faults, sample_faults
from gan_core.testing.settings_checks import as_family, needed, settings_faults
from gan_core.testing.two_ranks import disagreements, played_by_two

_IMAGES = 256
"""Of the train set, that are played with."""


def check_family(family: Family | type[Family] | str, *settings: str, rounds: int = 4) -> None:
    """Checks a family, by its class, its name or its place, or one with settings of yours.

    It is played for so many rounds in float64 with small networks (`width`, `latent`) on images of digits, by one
    process and by two, and resumed in the middle. `settings` are as for `ganfleet train`: "family.lr=1e-3",
    "data.image_size=48", "data.name=photos". Takes seconds of a CPU.

    Raises FamilyError, which has a line for each fault: what is wrong, where, and how to mend it. Raises SettingsError
    for settings that are wrong.
    """
    if isinstance(family, type) and issubclass(family, Family):
        without = list(needed(family))
        if without:
            raise FamilyError(family.name, without)
    played = as_family(family)
    faults = faults_of(played, *settings, rounds=rounds)
    if faults:
        raise FamilyError(played.name, faults)


def faults_of(family: Family, *settings: str, rounds: int = 4, workers: bool = True) -> list[Fault]:
    """What `check_family` finds. `workers=False` leaves out the two processes."""
    if rounds < 2:
        raise SettingsError(f"rounds={rounds}: a run is resumed after half of them", nearest="rounds=2")
    experiment = _small(family, settings, rounds)
    with kept():
        seed_all(1)
        of_settings = list(settings_faults(family))
        if any(fault.check == "settings" for fault in of_settings):
            return of_settings
        return [*of_settings, *_Checks(experiment, rounds, workers=workers).faults()]


def _small(family: Family, settings: Sequence[str], rounds: int) -> Experiment:
    """The experiment that is played. The family may be one that has no place to be imported from."""
    given = [word for word in settings if word.startswith("family.")]
    chosen = {name: getattr(family, name) for name in family.model_fields_set}
    fields = assign({"family": chosen}, given, known=[f"family.{name}" for name in paths(family)])["family"]
    others = [word for word in settings if word not in given]
    words = ["compute.precision=fp64", f"data.batch_size={BATCH}", *others, f"budget.rounds={rounds}"]
    small = small_family(type(family).load(fields, prefix="family."))
    return Experiment.load({**assign({}, words, known=paths(Experiment)), "family": small})


class _Checks:
    """The checks that play."""

    def __init__(self, experiment: Experiment, rounds: int, *, workers: bool) -> None:
        self.experiment, self.rounds, self.workers = experiment, rounds, workers
        self.real = dataset(experiment)
        first = torch.arange(min(_IMAGES, len(self.real.images)))
        self.images = self.real.images[first].to(DTYPES[experiment.compute.precision])
        self.labels = self.real.labels[first]

    def faults(self) -> Iterator[Fault]:
        """All faults. What would only follow from an earlier one is left out."""
        try:
            yield from self._faults()
        except UnplayableError as error:
            yield error.fault
        except DivergedError as error:
            yield Fault("play", f"it diverges at once: {error}", "losses that stay finite with small networks")
        except Exception as error:  # a family may raise anything
            yield Fault("play", f"it cannot be played: {raised(error)}", "mend that line")

    def _faults(self) -> Iterator[Fault]:
        before = global_state()
        game = self._new(self.experiment)
        whose = moved(before, global_state())
        if whose:
            wrong = (
                f"recipe() draws from {' and '.join(whose)}'s global generator, so the seed does not say the weights"
            )
            yield Fault("random", wrong, "torch's functions, which recipe() calls with the run's seed")
            return
        unplayable = list(network_faults(game))
        if unplayable:
            yield from unplayable
            return
        contract = Contract(game)
        started = hidden_state(game)
        with contract.watched():
            straight = self._play(game, self.rounds)
        yield from contract.faults.values()
        broken = {fault.check for fault in contract.faults.values()}
        if "random" not in broken:
            repeatable = yield from self._repeated(straight, started)
            if repeatable and self.workers and "gradient" not in broken:
                yield from self._two_workers(game, straight)
        yield from penalty_faults(self.experiment, self._new, self.images, self.labels)
        yield from sample_faults(game, is_images=self.real.is_images)
        yield from self._other_settings()

    def _new(self, experiment: Experiment, classes: int | None = None) -> Game:
        return Game(experiment, self.real.shape, classes=self.real.classes if classes is None else classes)

    def _play(self, game: Game, count: int, labels: Tensor | None = None) -> Record:
        return record(game, self.images.to(game.dtype), self.labels if labels is None else labels, count)

    def _repeated(self, straight: Record, started: dict[str, str]) -> Generator[Fault, None, bool]:
        """Whether the game is a function of its seed, and whether a resumed one is the same. Returns the former."""
        seed_all(2)
        half = self.rounds // 2
        first = self._new(self.experiment)
        changed = _changed(started, hidden_state(first))
        self._play(first, half)
        unlike = differing(straight.states[half - 1], state(first))
        if unlike:
            wrong = f"a second game of the same seed is another one: {unlike[0]} differs after {half} rounds"
            if changed:
                mend = "make it anew in recipe(), or keep it in a buffer of a player's network"
                yield Fault("state", f"{wrong}, and both share {changed[0]}", mend)
            else:
                yield Fault("random", wrong, f"draw random numbers by {STREAMS}")
            return False
        with tempfile.TemporaryDirectory() as folder:
            second = self._new(self.experiment)
            checkpoint.load(second, checkpoint.save(first, Path(folder) / "here"))
        lost = _changed(hidden_state(first), hidden_state(second))
        self._play(second, self.rounds - half)
        unlike = differing(straight.states[-1], state(second))
        if unlike:
            wrong = f"a run that is resumed after {half} rounds is another one: {unlike[0]} differs"
            if lost:
                wrong += f"; a checkpoint does not hold {' and '.join(lost[:3])}"
            yield Fault("state", wrong, "keep state in a buffer of a player's network: register_buffer(name, tensor)")
        return True

    def _two_workers(self, game: Game, straight: Record) -> Iterator[Fault]:
        real = self.real
        two = played_by_two(self.experiment, real.shape, real.classes, self.images, self.labels, self.rounds)
        if isinstance(two, Fault):
            yield two
        else:
            yield from disagreements(game, straight, two)

    def _other_settings(self) -> Iterator[Fault]:
        """Whether it plays in the other number formats, and without labels if it does not say that it needs them."""
        for precision in ("fp32", "bf16"):
            compute = self.experiment.compute.model_copy(update={"precision": precision})
            experiment = self.experiment.model_copy(update={"compute": compute})
            try:
                self._play(self._new(experiment), 1)
            except Exception as error:  # a family may raise anything
                wrong = f"it cannot be played with compute.precision={precision}: {raised(error)}"
                yield Fault("play", wrong, "make tensors like others: torch.zeros_like(x), x.new_zeros(...)")
        if not self.experiment.family.needs_labels:
            try:
                self._play(self._new(self.experiment, classes=1), 1, torch.zeros_like(self.labels))
            except Exception as error:  # a family may raise anything
                wrong = f"it cannot be played on data without labels: {raised(error)}"
                yield Fault("labels", wrong, "needs_labels = True, in the class")


def _changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Where the values differ, without the parts of what is named already."""
    found: list[str] = []
    for path in dict.fromkeys((*before, *after)):
        if before.get(path) != after.get(path) and not path.startswith(tuple(found)):
            found.append(path)
    return found
