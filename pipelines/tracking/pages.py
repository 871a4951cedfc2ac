"""What a person sees of a run on MLflow's pages: its description, its data set, the columns of the table, the links."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence

from gan_core.experiment import Data
from gan_core.measures import FID, Objective, measure_name
from infra.mlflow.pages import VIEW, DataSet, View, picture_of, run_page, runs_page
from infra.passwords import masked
from pipelines.console import number
from pipelines.runs import DataRecord, RunFolder
from pipelines.settings import CommonSettings

EXPERIMENT = "ganfleet"
"""The name of the experiment in MLflow that has all runs."""
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
COMMAND = "mlflow.source.name"
"""The tag with the command line that made a run, which MLflow shows as its source."""
ALL_RUNS = "ganfleet"
"""The key of the view of all runs."""
_WIDTH = 80
"""Characters in a line of a command."""
_FEW_SEARCHES = 10
_STATE = "tags.ganfleet.state"
_COMMON = ("family.name", "family.lr", "family.beta1", "family.n_critic")


def view_of_all() -> dict[str, str]:
    """The experiment's tag with the view of all runs: FID, the settings that most families have, and the state."""
    return _tag(ALL_RUNS, _COMMON, "", 0, FID)


def best_metric(objective: Objective) -> str:
    """The metric of a search that is the best value of all trials that have ended, against their number."""
    return f"best_{objective.name}"


def view_of_search(folder: RunFolder, fields: Sequence[str], first_step: int, objective: Objective) -> dict[str, str]:
    """The experiment's tag with the view of a search: its runs alone, the best first, with the searched `fields`
    (`family.lr`). The samples are those of the first evaluation, which every trial has."""
    return _tag(
        view_key(folder), ["family.name", *fields], f"tags.`ganfleet.id` LIKE '{folder.id}%'", first_step, objective
    )


def view_key(folder: RunFolder) -> str:
    """The key of a search's view: its name in letters that a tag may have, and the beginning of its id, as there may be
    searches of one name."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', folder.path.name)}-{folder.id[:8]}"


def _tag(key: str, params: Sequence[str], search: str, step: int, objective: Objective) -> dict[str, str]:
    settings = [f"params.{name}" for name in params]
    curves = [objective.name, best_metric(objective)] + ["fid"] * (not objective.is_fid)
    measured = [f"metrics.{name}" for name in curves]
    columns = [*measured, _STATE, *settings, "attributes.Dataset"]
    widths = {**dict.fromkeys(measured, 90), _STATE: 120, "params.family.name": 110}
    charts = f"{objective.label} and samples", curves, "samples", step
    lowest_first = objective.mode == "min"
    return {VIEW + key: View(columns, measured[0], widths, search, *charts, lowest_first=lowest_first).tag}


def search_link(settings: CommonSettings, experiment_id: str, folder: RunFolder) -> str:
    """The address of a search's runs, or the command that shows it."""
    if not settings.tracking.server:
        return settings.curves
    return runs_page(settings.tracking_uri, experiment_id, view_key(folder))


def links(server: str, experiment_id: str, tags: Sequence[str]) -> dict[str, str]:
    """The addresses of the page of all runs and, if searches are few, of each one's; `tags`: the experiment's keys."""
    keys = sorted(key.removeprefix(VIEW) for key in tags if key.startswith(VIEW) and key != VIEW + ALL_RUNS)
    shown = keys if len(keys) <= _FEW_SEARCHES else []
    return {"all runs": runs_page(server, experiment_id, ALL_RUNS)} | {
        key: runs_page(server, experiment_id, key) for key in shown
    }


def run_link(settings: CommonSettings, experiment_id: str, run_id: str | None) -> str:
    """The address of a run's page, or the command that shows it."""
    if not settings.tracking.server or run_id is None:
        return settings.curves
    return run_page(settings.tracking_uri, experiment_id, run_id)


def data_set(data: Data, folder: RunFolder) -> DataSet | None:
    """The data of a run as MLflow shows them, from the record in its folder; None if it has none."""
    record = DataRecord.read(folder)
    if record is None:
        return None
    about = {"images": record.images, "held out": record.held_out, "shape": "x".join(map(str, record.shape))}
    source = data.name if data.path is None or data.own else masked(str(data.path))
    return DataSet(data.name, record.digest[:16], source, {**about, "classes": record.classes})


def note(
    folder: RunFolder,
    headline: str,
    settings: str = "",
    tags: Mapping[str, str] | None = None,
    pictures: Sequence[str] = (),
) -> dict[str, str]:
    """The tag with a run's description: the headline, the settings, pictures in Markdown, the command, the folder.

    `tags`: the run's, among them the command line.
    """
    command = (tags or {}).get(COMMAND, "")
    parts = [
        "  \n".join(part for part in (f"**{headline}**", settings) if part),
        *pictures,
        f"```\n{_in_lines(command)}\n```" if command else "",
        f"Folder {folder.where}",
    ]
    return {NOTE: "\n\n".join(part for part in parts if part)}


def _in_lines(command: str) -> str:
    """A command line in lines that fit beside a page's details, to be pasted into a shell."""
    return " \\\n    ".join(textwrap.wrap(command, _WIDTH, break_long_words=False, break_on_hyphens=False))


def sample_picture(run_id: str, folder: RunFolder) -> list[str]:
    """A run's last sample grid as a picture in its description."""
    return [picture_of(run_id, "samples/latest.png")] if folder.pictures() else []


def described(settings: Mapping[str, object], *without: str) -> str:
    """`lr 0.0003, n_critic 3`, of settings by their dotted path, but for those `without`."""
    shown = {name: value for name, value in settings.items() if name not in without}
    return ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in shown.items())


def last_measured(folder: RunFolder, measures: Sequence[str]) -> str:
    """`FID 31.2 at step 400`: the last evaluation of a run, with those of its other measures; without one, the last
    step."""
    rows = folder.rows()
    evaluated = [row for row in rows if math.isfinite(row.get("fid", math.nan))]
    last: Mapping[str, float] = next(reversed(evaluated), rows[-1] if rows else {"step": 0})
    return f"{measured(last if evaluated else {}, measures)} at step {int(last['step'])}"


def measured(metrics: Mapping[str, float], measures: Sequence[str]) -> str:
    """`FID 31.2, KID 0.02`, of a run with these measures."""
    names = ["fid", *map(measure_name, measures)]
    return ", ".join(f"{Objective(name).label} {number(metrics.get(name))}" for name in names)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
