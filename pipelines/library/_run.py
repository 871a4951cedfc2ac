"""`Run`: a training run as Python sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gan_core.settings import by_path
from pipelines.library._html import page
from pipelines.library._play import play
from pipelines.library._words import command_line
from pipelines.runs import RunFolder, import_own_code, newest_checkpoint, refresh_records
from pipelines.settings import SearchExperiment, Storage, TrainExperiment, as_settings_error

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor, nn

Experiment = TypeVar("Experiment", TrainExperiment, SearchExperiment)


class Played(Generic[Experiment]):
    """What a run and a search have in common: a name, a folder, settings, and a generator that was learned.

    It reads the folder at each question, so it is up to date, also while the run is played.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """The name of the run, of the search, or of a trial."""
        return self._folder.path.name

    @property
    def folder(self) -> Path:
        """The run's folder on this machine; of a run in S3, this machine's copy of it."""
        return self._folder.path

    @cached_property
    def _experiment(self) -> Experiment:
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """All settings by their dotted paths, as `settings=` of `train` and `search` takes them."""
        return by_path(self._experiment.model_dump(mode="json"))

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint of a run; of a search, that of its best trial or confirmed run. Raises SettingsError if
        there is none yet."""
        return newest_checkpoint(self._folder)

    @property
    def generator(self) -> nn.Module:
        """The generator of `checkpoint` on the CPU, in eval mode: the running average of the weights, which `sample`
        draws from. It maps z (N, latent), with labels (N,) if the family is conditional, to samples (N, *shape)."""
        from gan_core import checkpoint

        return checkpoint.open_game(self.checkpoint).average

    def sample(self, n: int, label: str | int | None = None, seed: int | None = 0) -> Tensor:
        """The first `n` samples of a seed: (n, C, H, W), images in [-1, 1]; (n, D) for points. The same as
        `ganfleet sample` draws.

        `label`: the class to draw, by its name; None: all in turn, if the family is conditional. `seed`: None is the
        run's own. Raises SettingsError for a class or a seed that cannot be.
        """
        from pipelines.evaluate.drawing import drawn

        return drawn(self.checkpoint, n, None if label is None else str(label), seed)

    def export(self, to: str, out: str | Path | None = None) -> Path:
        """Writes the generator of `checkpoint` to a file, with a model card next to it, and returns its path; as
        `ganfleet export`.

        `to`: onnx, torch or safetensors. `out`: a file, or a folder for both; None: a file in the working folder.
        Raises SettingsError for a generator whose file would draw other samples.
        """
        from pipelines.evaluate.export import export

        refresh_records(self._folder)
        return export(self.checkpoint, to, out).file

    def _address(self) -> list[str]:
        """The words that find it again from anywhere: where it is, and how its store is reached."""
        storage: Storage = self._experiment.storage
        words = [f"storage.path={self._folder.home}"]
        if storage.endpoint_url is not None:
            words.append(f"storage.endpoint_url={storage.endpoint_url}")
        return words

    def _resumed(
        self, verb: str, settings: Sequence[str | Mapping[str, Any]], callbacks: Sequence[object]
    ) -> RunFolder:
        words = [word for word in settings if isinstance(word, str)] + self._address()
        changes = {key: value for one in settings if isinstance(one, Mapping) for key, value in one.items()}
        line = command_line(words, changes, resume=self.name)
        return play(verb, line, callbacks, Run)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._folder.where}>"


class Run(Played[TrainExperiment]):
    """A training run: what it logged, and what it learned."""

    @cached_property
    def _experiment(self) -> TrainExperiment:
        import_own_code(self._folder)
        return TrainExperiment.from_yaml(self._folder.experiment.read_text())

    @property
    def _rows(self) -> list[dict[str, float]]:
        with as_settings_error(f"storage.path={self._folder.home}"):
            self._folder.refresh_file(self._folder.metrics)
        return self._folder.rows()

    @property
    def metrics(self) -> DataFrame:
        """The logged rows: `step`, losses, `images_per_second`, and `fid` where it was evaluated."""
        import pandas

        return pandas.DataFrame(self._rows)

    @property
    def fid(self) -> float | None:
        """The FID of the last evaluation; None before the first one."""
        return next((row["fid"] for row in reversed(self._rows) if "fid" in row), None)

    def resume(self, *settings: str | Mapping[str, Any], callbacks: Sequence[object] = ()) -> Run:
        """Plays on from the newest checkpoint: `run.resume("budget.rounds=4000")`. Budgets, resources and places may
        change. Raises SettingsError if nothing is left to play."""
        return Run(self._resumed("train", settings, callbacks))

    def _repr_html_(self) -> str:
        """The run in a notebook: its newest sample grid, and its settings that are no defaults."""
        with as_settings_error(f"storage.path={self._folder.home}"):
            self._folder.refresh()
        rows = self._folder.rows()
        about = {
            "step": rows[-1]["step"] if rows else 0,
            "FID": self.fid,
            **by_path(self._experiment.model_dump(mode="json", exclude_defaults=True)),
        }
        return page("run", self.name, about, self._folder.pictures()[-1:])
