"""`train`, `search`, `evaluate` and `load`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.evaluate.targets import Measurement
from pipelines.library._measure import measured
from pipelines.library._notebook import screen
from pipelines.library._play import play
from pipelines.library._run import Run
from pipelines.library._search import Search
from pipelines.library._words import FamilyLike, command_line, words_of
from pipelines.runs import find_run
from pipelines.settings import CommonSettings, restricted_settings


def train(
    family: FamilyLike | None = None,
    *words: FamilyLike,
    settings: Mapping[str, Any] | None = None,
    data: Any = None,
    callbacks: Sequence[object] = (),
    config: str | Path | None = None,
    resume: str | None = None,
    from_search: str | Search | None = None,
    init_from: str | Path | Run | None = None,
) -> Run:
    """Trains one family: `train("wgan_gp", "family.lr=3e-4", "budget.rounds=2000")`, as `ganfleet train` does.

    `family`: a name, a class, a family with its fields, or `package.module:Class`. `words`: settings as they are typed.
    `settings`: the same by dotted path, with Python's values; networks may be a class or an object. `data`: a name, a
    place (`package.module:load`), or images: a tensor, an array, a Dataset of torch or of Hugging Face. `callbacks`:
    objects with any of `on_log(run, step, metrics)`, `on_evaluation(run, step, metrics)` and
    `on_checkpoint(run, step, checkpoint)`; they cannot change the run. `config`, `resume`, `from_search` and
    `init_from` are the options of the command.

    Ctrl-C ends it early; the run that is returned can be resumed. Raises SettingsError for a setting that is wrong, and
    the error that ended the run.
    """
    from_search, init_from = _named(from_search), _named(init_from)
    line = command_line((family, *words), settings, data, config, resume, from_search, init_from)
    return Run(play("train", line, callbacks, Run))


def search(
    family: FamilyLike | Sequence[FamilyLike] | None = None,
    *words: FamilyLike,
    settings: Mapping[str, Any] | None = None,
    data: Any = None,
    callbacks: Sequence[object] = (),
    config: str | Path | None = None,
    resume: str | None = None,
) -> Search:
    """Searches the hyper-parameters of one family or several: `search(["wgan", MyGan], "search.trials=32")`, as
    `ganfleet search` does.

    The arguments are those of `train`. Callbacks get each trial as a run of the trial's name, once its rows are there.
    """
    line = command_line((family, *words), settings, data, config, resume)
    return Search(play("search", line, callbacks, Run))


def evaluate(
    target: str | Path | Run | Search,
    *words: str,
    settings: Mapping[str, Any] | None = None,
    bootstrap: bool = False,
) -> dict[str, Any]:
    """Measures a run's newest checkpoint, a search's best one, a checkpoint's folder, or a folder of images against
    another, as `ganfleet evaluate` does: `evaluate(run)["fid"]`, `evaluate("first", "metrics.samples=5000")`,
    `evaluate("samples/", "photos/")`.

    `bootstrap`: whether to add the 95% interval of FID. Returns the measures, and what they were measured with. Raises
    SettingsError.
    """
    given = [str(_named(target)), *(target._address() if isinstance(target, Run | Search) else [])]
    wanted = Measurement.of([*given, *words, *words_of(settings or {})])
    return measured(wanted, screen(), bootstrap)


def load(target: str | Path, *words: str, settings: Mapping[str, Any] | None = None) -> Run | Search:
    """A run or a search that was played before, by its name, its folder or its address in S3.

    `words` and `settings` say where names are looked up: `load("first", "storage.path=s3://bucket/runs")`. Raises
    SettingsError with the nearest name.
    """
    given = restricted_settings(CommonSettings, [*words, *words_of(settings or {})], "storage")
    folder = find_run(str(target), given.storage)
    return Search(folder) if folder.of_search else Run(folder)


def _named(target: str | Path | Run | Search | None) -> str | None:
    """How a command line names it."""
    if target is None or isinstance(target, str):
        return target
    return str(target) if isinstance(target, Path) else target._folder.where
