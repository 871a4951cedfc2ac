"""Draws the pictures in `NAME/learned/` from the search's folder, at any time during a search or after it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from gan_core.experiment import POINTS
from infra.files import write_atomic
from pipelines.console import say
from pipelines.evaluate.detail.style import STYLE, png_of
from pipelines.evaluate.pictures import png
from pipelines.runs import RunPaths
from pipelines.search._outcome import Outcome, short_names, with_names
from pipelines.search._study import study_table
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.search.plots._boxes import draw_boxes
from pipelines.search.plots._history import points
from pipelines.search.plots._importance import draw_importance
from pipelines.search.plots._panels import draw_panels
from pipelines.search.plots._parallel import draw_parallel
from pipelines.search.plots._progress import draw_progress
from pipelines.search.plots._published import draw_published
from pipelines.search.plots._sheet import draw_sheet
from pipelines.search.plots._style import families_of
from pipelines.settings import SearchExperiment

_LOG = logging.getLogger(__name__)


def draw_learned(
    folder: RunPaths,
    experiment: SearchExperiment,
    outcomes: Sequence[Outcome],
    confirmed: Sequence[ConfirmedTrial] = (),
) -> list[Path]:
    """Draws all pictures of a search, whether it has ended or not, and returns the files:

    `progress.png` best value of the objective against compute, `settings.png` its values against each hyper-parameter,
    `parallel.png` parallel coordinates, `importance.png` fANOVA, `samples.png` each trial's samples, the best first,
    and, where families are compared, `families.png`, their box plots, and `published.png`, their ranks beside those of
    "Are GANs Created Equal?" if they are the study's models. A picture without enough trials is not drawn, and
    an earlier one is deleted.
    """
    return _write(folder, pictures(folder, experiment, outcomes, confirmed))


def pictures(
    folder: RunPaths,
    experiment: SearchExperiment,
    outcomes: Sequence[Outcome],
    confirmed: Sequence[ConfirmedTrial] = (),
) -> dict[str, Figure | Image.Image | None]:
    """The pictures of `draw_learned` by name; None of one without enough trials."""
    names, objective = short_names(experiment.entries), experiment.objective
    spaces = {names[name]: space for name, space in experiment.spaces().items()}
    colours = {names[name]: colour for name, colour in families_of(experiment).items()}
    named = with_names(outcomes, names)
    again = [replace(one, trial=with_names([one.trial], names)[0]) for one in confirmed]
    with rc_context(STYLE):
        return {
            "progress": draw_progress(points(folder, named, objective), colours, objective),
            "settings": draw_panels(named, spaces, colours, objective),
            "parallel": draw_parallel(named, spaces, objective),
            "importance": draw_importance(named, spaces, colours, objective),
            "samples": _sheet(folder, experiment, outcomes),
            "families": draw_boxes(named, again, colours, objective) if experiment.search.compare else None,
            "published": draw_published(study_table(folder, experiment, outcomes, confirmed), colours),
        }


def draw_contact_sheet(folder: RunPaths, experiment: SearchExperiment, outcomes: Sequence[Outcome]) -> None:
    """Draws `samples.png` alone, which is cheap enough for a search that runs. An error is only logged."""
    try:
        _write(folder, {"samples": _sheet(folder, experiment, outcomes)})
    except Exception:
        _LOG.warning("no contact sheet of the samples", exc_info=True)


def picture_of(folder: RunPaths, name: str) -> Path:
    """Where a picture is, once there are trials enough for it."""
    return folder.path / "learned" / f"{name}.png"


def _sheet(folder: RunPaths, experiment: SearchExperiment, outcomes: Sequence[Outcome]) -> Image.Image | None:
    size = None if experiment.data.name in POINTS else experiment.data.size
    names = short_names(experiment.entries)
    return draw_sheet(folder, with_names(outcomes, names), size, experiment.objective)


def _write(folder: RunPaths, drawn: Mapping[str, Figure | Image.Image | None]) -> list[Path]:
    """Writes each picture as `learned/NAME.png`. Deletes the file of a picture that is None."""
    written = []
    for name, picture in drawn.items():
        path = picture_of(folder, name)
        if picture is None:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, png(picture) if isinstance(picture, Image.Image) else png_of(picture))
        written.append(path)
    return written


def try_to_draw(
    console: Console,
    folder: RunPaths,
    experiment: SearchExperiment,
    outcomes: Sequence[Outcome],
    confirmed: Sequence[ConfirmedTrial] = (),
) -> list[Path]:
    """`draw_learned` at the end of a search. An error is only printed, with its traceback in the log: the search still
    has to write its results."""
    try:
        return draw_learned(folder, experiment, outcomes, confirmed)
    except Exception as error:
        _LOG.exception("pictures of what was learned")
        say(console, f"no pictures of what was learned: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return []
