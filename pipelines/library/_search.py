"""`Search`: a search as Python sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from gan_core.settings import SettingsError, by_path, unknown
from pipelines.library._html import page, table
from pipelines.library._run import Played
from pipelines.runs import import_own_code
from pipelines.settings import SearchExperiment, as_settings_error

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

    from pipelines.search.progress import SearchResult

SHOWN_TRIALS = 10
"""How many trials a notebook shows."""
Plot = Literal["progress", "settings", "parallel", "importance", "samples", "families"]


class Search(Played[SearchExperiment]):
    """A search: its trials, the best settings, and the generator that they learned."""

    @cached_property
    def _experiment(self) -> SearchExperiment:
        import_own_code(self._folder)
        return SearchExperiment.from_yaml(self._folder.experiment.read_text())

    @property
    def _result(self) -> SearchResult:
        from pipelines.search.progress import result_so_far

        with as_settings_error(f"storage.path={self._folder.home}"):
            return result_so_far(self._experiment, self._folder)

    @property
    def trials(self) -> DataFrame:
        """A row for each trial that has begun: `trial`, `family`, the objective by its name, `fid`, `step`, `state`,
        `reason` (why it was stopped or failed), `signs` (of warning), `images_seen`, then its settings, such as
        `family.lr`."""
        import pandas

        names = ("trial", "fid", "step", "state", "reason", "signs", "images_seen")
        rows = []
        for one in self._result.outcomes:
            own = {name: getattr(one, name) for name in names}
            value = {"trial": one.trial, "family": one.settings["name"], self._experiment.objective.name: one.value}
            rows.append({**value, **own, **_by_path(one.settings)})
        return pandas.DataFrame(rows)

    @property
    def confirmed(self) -> DataFrame:
        """A row for each confirmed setting, the winner first: `trial`, `family`, the objective by its name and `sd`
        (mean and standard deviation over the fresh seeds), `seeds`, `lost` (seeds that did not reach the end), then the
        settings."""
        import pandas

        rows = [
            {
                "trial": one.trial.trial,
                "family": one.family,
                self._experiment.objective.name: one.mean,
                "sd": one.sd,
                "seeds": [run.seed for run in one.runs],
                "lost": len(one.lost),
                **_by_path(one.trial.settings),
            }
            for one in self._result.confirmed
        ]
        return pandas.DataFrame(rows)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best settings by their dotted paths, `family.name` among them, as `train(settings=...)` takes them: of
        the confirmed winner, else of the trial of the best value. None before the first evaluation."""
        best = self._result.best
        if best is None:
            return None
        family = self._experiment.trial(best.settings).family.chosen()
        return _by_path(best.settings) | {f"family.{key}": value for key, value in family.items()}

    @property
    def value(self) -> float | None:
        """The value of the objective by which the best settings won: the mean over fresh seeds if they were
        confirmed."""
        best = self._result.best
        return None if best is None else best.value

    @property
    def fid(self) -> float | None:
        """`value` if FID is the objective; else the FID of the run that `generator` is of."""
        best = self._result.best
        return None if best is None else best.value if best.objective.is_fid else best.run_fid

    def plot(self, kind: Plot = "progress") -> Image:
        """A picture of what the search learned: `progress` is the best value against compute, `settings` values against
        each hyper-parameter, `parallel` parallel coordinates, `importance` fANOVA, `samples` the contact sheet of all
        trials, `families` the comparison of families. Raises SettingsError if there are too few trials for it."""
        from PIL import Image

        from pipelines.search.plots.draw import draw_learned, picture_of

        if kind not in get_args(Plot):
            raise SettingsError(unknown("plot", kind, get_args(Plot)))
        file = picture_of(self._folder, kind)
        with as_settings_error(f"storage.path={self._folder.home}"):
            self._folder.refresh_file(file)
        if not file.is_file():
            result = self._result
            draw_learned(self._folder, self._experiment, result.outcomes, result.confirmed)
        if not file.is_file():
            raise SettingsError(f"the search '{self.name}' has too few trials for '{kind}'", nearest="plot('samples')")
        return Image.open(file)

    def resume(self, *settings: str | Mapping[str, Any], callbacks: Sequence[object] = ()) -> Search:
        """Plays what is left, or more: `search.resume("search.trials=64")`. Budgets, resources and places may
        change."""
        return Search(self._resumed("search", settings, callbacks))

    def _repr_html_(self) -> str:
        """The search in a notebook: the contact sheet of its trials, and a table of the best ones."""
        from pipelines.search.plots.draw import picture_of
        from pipelines.search.progress import ranked

        result, best, sheet = self._result, self.best or {}, picture_of(self._folder, "samples")
        with as_settings_error(f"storage.path={self._folder.home}"):
            self._folder.refresh_file(sheet)
        winner = result.best and result.best.confirmed
        label, objective = result.objective.label, result.objective
        about = {"trials": len(result.outcomes), f"best {label}": self.value, **best}
        if winner:
            about["confirmed"] = winner.summary
        shown = ranked(result.outcomes, objective)[:SHOWN_TRIALS]
        rows = [(one.trial, one.value, one.step, one.ending, one.described) for one in shown]
        trials = table(("trial", label, "step", "state", "settings"), rows)
        return page("search", self.name, about, [sheet], trials)


def _by_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a trial by their dotted paths."""
    own = {name: value for name, value in settings.items() if name != "name"}
    return {name if "." in name else f"family.{name}": value for name, value in by_path(own).items()}
