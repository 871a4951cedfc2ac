"""From a request to an exit code: the run's folder is made, libraries write to its log, and an error is one line.

Exit codes: 0 done; 2 the user's input; 75 interrupted, can be resumed; 1 anything else.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from gan_core.settings import SettingsError
from infra.cluster import ClusterError
from infra.stores.protocol import StoreError
from pipelines.errors import ends_as_interrupted
from pipelines.launch._request import Request
from pipelines.runs import FullDiskError, RunFolder, TakenOverError, as_full_disk_error, stop_requested
from pipelines.settings import Storage, check_capacity

DONE, INPUT, INTERRUPTED, FAILED = 0, 2, 75, 1


def begin(request: Request[Any]) -> Callable[[], None]:
    """Writes the settings of a new or resumed run, and where those of a new one come from. Raises SettingsError.

    Returns a function that undoes this if the run is refused later.
    """
    experiment, folder = request.experiment, request.folder
    check_capacity(experiment)
    try:
        if request.resumed:
            before = folder.experiment.read_bytes()
            folder.change(experiment.to_yaml().encode())
        else:
            folder.create(experiment.to_yaml(), request.origin)
    except OSError as error:
        place, right = f"storage.path={experiment.storage.path}", "storage.path=runs"
        if experiment.storage.remote:
            place, right = f"the cache {folder.path.parent}", "GANFLEET_CACHE=FOLDER"
        raise SettingsError(f"{place} cannot be written to: {error.strerror}", nearest=right) from None
    typer.echo(f"{folder.path.name}: {folder.where}   log: {folder.log}")
    return (lambda: folder.change(before)) if request.resumed else folder.withdraw


def run(
    verb: str,
    storage: Storage,
    folder: RunFolder,
    undo: Callable[[], None],
    play: Callable[[Console], None],
    screen: Callable[[Path], AbstractContextManager[Console]] | None = None,
) -> None:
    """Calls `play`; turns its errors into an exit code and one line.

    `screen`: makes the console, given the log; None: the console shows our lines only, and the output of libraries goes
    to the log.
    """
    from gan_core.loop import DivergedError
    from pipelines.console import quiet
    from pipelines.errors import InterruptedRunError

    handle_signals()
    failure = ""
    with (screen or quiet)(folder.log) as console:
        try:
            with as_full_disk_error(storage):
                play(console)
            code = DONE
        except (InterruptedRunError, KeyboardInterrupt):
            code = INTERRUPTED
        except TakenOverError as error:
            code, failure = FAILED, str(error)
        except FullDiskError as error:  # the full disk may be the log's
            code, failure = INTERRUPTED, str(error)
        except StoreError as error:
            code, failure = INTERRUPTED, str(error)
            _log_it()
        except (SettingsError, ClusterError) as error:
            code, failure = INTERRUPTED if ends_as_interrupted(error) else INPUT, str(error)
        except DivergedError as error:
            code, failure = FAILED, f"the game diverged: {error}; nearest: a smaller family.lr"
        except Exception as error:
            code, failure = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            _log_it()
    if code == INPUT:
        undo()
    else:
        with suppress(StoreError):  # a driver that was taken over keeps its log on this machine only
            folder.upload(folder.log)
    if code == DONE:
        return
    if failure:
        typer.echo(f"error: {failure}" + (f"   (log: {folder.log})" if code != INPUT else ""), err=True)
    if code == INTERRUPTED:
        resume = f"ganfleet {verb} --resume {folder.path.name}{storage.command_suffix}"
        typer.echo(f"interrupted; to go on: {resume}", err=True)
    raise SystemExit(code)


def _log_it() -> None:
    """Writes the traceback to the log, unless the log's disk is full."""
    with suppress(OSError):
        traceback.print_exc()


def handle_signals() -> None:
    """Makes Ctrl-C and TERM raise KeyboardInterrupt, or whatever a library makes of SIGINT."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # Ray blocks SIGINT in its jobs
    signal.signal(signal.SIGINT, _interrupt)  # a shell's background job starts with it ignored
    signal.signal(signal.SIGTERM, _end_once)


def _interrupt(*_: object) -> None:
    stop_requested.set()
    raise KeyboardInterrupt


def _end_once(*_: object) -> None:
    """Treats the first TERM as Ctrl-C and ignores the others: Slurm sends TERM to every process of a job and the script
    passes it on, so the second one would cut short the end of the run."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop_requested.set()
    signal.raise_signal(signal.SIGINT)
