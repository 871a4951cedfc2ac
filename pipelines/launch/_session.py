"""From a request to an exit code: the run's folder is made, libraries write to a file in it, and an error is one line.

Exit codes: 0 done; 2 the user's input; 75 interrupted, can be resumed; 1 anything else.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console

from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from infra.cluster import ClusterError, check_address
from infra.health import check_connects
from infra.passwords import masked
from infra.stores.protocol import StoreError
from pipelines import interrupts
from pipelines.console import quiet, record, screen_of
from pipelines.interrupts import InterruptedRunError
from pipelines.launch._data import with_data, with_own_data
from pipelines.launch._log import logged
from pipelines.launch._request import Request
from pipelines.launch._shipped import IN_JOB, keep_shipped
from pipelines.runs import FullDiskError, NameTakenError, RunFolder, TakenOverError, as_full_disk_error, sweep_run
from pipelines.settings import CommonSettings, Storage, UnavailableError, check_capacity

_LOG = logging.getLogger(__name__)

DONE, INPUT, INTERRUPTED, FAILED = 0, 2, 75, 1


def ends_as_interrupted(error: Exception) -> bool:
    """Whether the error ends a batch job as interrupted, so that it is started again, and not as a user's mistake."""
    return isinstance(error, UnavailableError) and bool(os.environ.get(IN_JOB))


def check_cluster() -> None:
    """Raises SettingsError if RAY_ADDRESS names no cluster that can be joined."""
    try:
        check_address()
    except ClusterError as error:
        raise SettingsError(str(error)) from None


def ready(request: Request[Any]) -> Request[Any]:
    """The request once all is checked that needs neither torch nor Ray. A new run has the size of its images; a data
    set of the user's own is made again for a resumed one, which goes on with the same images only.

    Raises SettingsError if the data are not there or do not fit, or if the tracking server does not answer.
    """
    if request.resumed:
        return replace(request, experiment=with_own_data(request.experiment))
    experiment, notes = with_data(request.experiment)
    if experiment.tracking.server:
        check_answers(experiment)
    return replace(request, experiment=experiment, notes=notes)


def check_answers(settings: CommonSettings) -> None:
    """Raises UnavailableError if nothing answers at `tracking.uri`."""
    uri = settings.tracking_uri

    def waiting(seconds: float) -> None:
        print(masked(f"waiting for {uri} to answer, {seconds:g} s at most"), file=screen_of(sys.stderr), flush=True)

    try:
        check_connects(uri, waiting)
    except OSError as error:
        why = error.strerror or str(error)
        raise UnavailableError(masked(f"tracking.uri={uri}: no MLflow server answers: {why}")) from None


@contextmanager
def begin(request: Request[Any]) -> Iterator[tuple[Request[Any], Callable[[], None]]]:
    """Holds a run's folder for this driver, writes the settings of a new or resumed run, and begins its log. Raises
    SettingsError.

    Gives the request, whose run has the next free name if the one that was made up for it is taken, and a function that
    undoes what was written if the run is refused later.
    """
    check_capacity(request.experiment)
    cache_folder()  # MLflow cannot even be imported where there is no home folder
    with ExitStack() as driver:
        try:
            request, undo = _claimed(request, driver)
            sweep_run(request.folder, request.experiment.storage)
            driver.enter_context(logged(request.folder.log))
        except OSError as error:
            raise _not_writable(request, error) from None
        try:
            shipped = keep_shipped(request.experiment, request.folder)
        except SettingsError:
            undo()
            raise
        request = replace(request, notes=(*request.notes, *shipped))
        about = f"{request.folder.path.name}: {request.folder.where}   log: {request.folder.log}"
        for line in (about, *request.notes):
            print(line, file=screen_of(sys.stdout), flush=True)
        _record_start(request)
        yield request, undo


def _record_start(request: Request[Any]) -> None:
    """The first lines of a driver in the run's log: what was typed, and the settings that are no defaults."""
    chosen = request.experiment.model_dump(mode="json", exclude_defaults=True)
    settings = yaml.safe_dump(chosen, default_flow_style=True, sort_keys=False, width=math.inf)
    record(f"{request.folder.path.name}: {request.folder.where}   {request.typed}")
    record(f"settings: {settings.strip()}")
    for note in request.notes:
        record(note)


def _claimed(request: Request[Any], driver: ExitStack) -> tuple[Request[Any], Callable[[], None]]:
    """Holds the folder until `driver` is closed, and writes the settings."""
    first = request.folder
    if request.resumed:
        driver.enter_context(first.sole_driver())
        before = first.experiment.read_bytes()
        first.change(request.experiment.to_yaml().encode())
        return request, lambda: first.change(before)
    while True:
        folder = request.folder
        try:
            folder.check_free()
            driver.enter_context(folder.sole_driver())
            source = {"mlflow.source.name": masked(request.typed), "mlflow.source.type": "LOCAL"}  # MLflow shows it
            folder.create(request.experiment.to_yaml(), {**request.origin, **source})
            return request, folder.withdraw
        except NameTakenError:
            driver.close()
            if not request.made_up:
                raise
            request = request.renamed(first.free_name())


def _not_writable(request: Request[Any], error: OSError) -> SettingsError:
    place, right = f"storage.path={request.experiment.storage.path}", "storage.path=runs"
    if request.experiment.storage.remote:
        place, right = f"the cache {request.folder.path.parent}", "GANFLEET_CACHE=FOLDER"
    return SettingsError(f"{place} cannot be written to: {error.strerror}", nearest=right)


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    code: int
    """The exit code of a command."""
    lines: tuple[str, ...] = ()
    """What to tell the user: what went wrong, and how to resume."""
    error: BaseException | None = None
    """None if it is done, or was interrupted by the user."""


def played(
    verb: str,
    storage: Storage,
    folder: RunFolder,
    undo: Callable[[], None],
    play: Callable[[Console], None],
    screen: Callable[[Path], AbstractContextManager[Console]] | None = None,
) -> Ending:
    """Calls `play`, and makes its error an ending.

    `screen`: makes the console, given the file for the output of libraries; None: the console shows our lines only, and
    the output of libraries goes to that file.
    """
    failure = ""
    cause: BaseException | None = None
    with (screen or quiet)(folder.ray_log) as console:
        try:
            with interrupts.raised(), as_full_disk_error(storage):
                play(console)
            code = DONE
        except (InterruptedRunError, KeyboardInterrupt):
            code = INTERRUPTED
        except TakenOverError as error:
            code, failure, cause = FAILED, str(error), error
        except FullDiskError as error:  # the full disk may be the log's
            code, failure, cause = INTERRUPTED, str(error), error
        except StoreError as error:
            code, failure, cause = INTERRUPTED, str(error), error
            _LOG.error("the store does not answer", exc_info=True)
        except (SettingsError, ClusterError) as error:
            away = ends_as_interrupted(error) or interrupts.stop_requested.is_set()
            code, failure, cause = INTERRUPTED if away else INPUT, str(error), error
        except (Exception, SystemExit) as error:
            code, failure, cause = FAILED, _diverged(error), error
            if not failure:
                failure = _described(error)
                _LOG.error("%s", type(error).__name__, exc_info=True)
            if interrupts.stop_requested.is_set():  # a library made this of KeyboardInterrupt
                code, failure, cause = INTERRUPTED, "", None
        interrupts.settle()
    resume = f"ganfleet {verb} --resume {folder.path.name}{storage.command_suffix}"
    lines = [f"error: {failure}"] if failure else []
    lines += [f"interrupted; to go on: {resume}"] if code == INTERRUPTED else []
    for line in lines or ["done"]:
        record(line)
    if code == INPUT:
        undo()
    else:
        with suppress(StoreError):  # a driver that was taken over keeps its logs on this machine only
            folder.upload(folder.log, folder.ray_log)
    if failure and code != INPUT:
        lines[0] += f"   (log: {folder.log})"
    return Ending(code, tuple(map(masked, lines)), cause)


def finish(ending: Ending) -> None:
    """Prints the lines of an ending, and ends the process of a command unless all went well."""
    for line in ending.lines:
        typer.echo(line, err=True)
    if ending.code != DONE:
        raise SystemExit(ending.code)


def _diverged(error: BaseException) -> str:
    """What to say if it is a divergence; else empty."""
    from gan_core.health.divergence import DivergedError  # loads torch, which a run does where a person sees it

    if not isinstance(error, DivergedError):
        return ""
    last, right = f"last good checkpoint: {error.checkpoint or 'none'}", "a smaller family.lr"
    right += "" if error.rollbacks else ", or reliability.on_divergence=rollback"
    return f"the game diverged: {error}; {last}; nearest: {right}"


def _described(error: BaseException) -> str:
    """An unexpected error in a line. What Ray raises is a traceback of a worker, whose last line says what happened."""
    text = " ".join(str(error).split())
    if len(text) > 300:
        text = str(error).strip().splitlines()[-1].strip()[:300]
    return f"{type(error).__name__}: {text}" + ("; see ray.log" if _of_ray(error) else "")


def _of_ray(error: BaseException | None) -> bool:
    """Whether it was raised by Ray, or because of an error of Ray: then it began in another process."""
    return error is not None and (type(error).__module__.startswith("ray.") or _of_ray(error.__cause__))
