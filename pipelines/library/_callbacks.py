"""A program's own callbacks: they see what is logged, and can change nothing."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from gan_core.settings import SettingsError, similar
from pipelines.console import say, show
from pipelines.runs import RunFolder

_LOG = logging.getLogger(__name__)
METHODS = ("on_log", "on_evaluation", "on_checkpoint")


class Callbacks:
    """Calls `on_log(run, step, metrics)`, `on_evaluation(run, step, metrics)` and
    `on_checkpoint(run, step, checkpoint)` of each object that has them. What they print is shown; an error of theirs is
    a line. `as_run`: how they see the folder of a run or trial."""

    def __init__(self, callbacks: Sequence[object], as_run: Callable[[RunFolder], object]) -> None:
        """Raises SettingsError for an object that has none of the methods."""
        if not isinstance(callbacks, Sequence):
            raise SettingsError(f"callbacks={callbacks!r} is no list", nearest="callbacks=[...]")
        for one in callbacks:
            if not any(hasattr(one, method) for method in METHODS):
                right = next((name for name in map(partial(similar, known=METHODS), dir(one)) if name), None)
                nearest = right or f"an object with {', '.join(METHODS[:-1])} or {METHODS[-1]}"
                raise SettingsError(f"callbacks: {type(one).__name__} has no method that is called", nearest=nearest)
        self._callbacks, self._as_run = tuple(callbacks), as_run
        self._failed: set[str] = set()

    def __call__(self, console: Console, folder: RunFolder, row: Mapping[str, Any], checkpoint: Path | None) -> None:
        """A row was logged."""
        run, step = self._as_run(folder), int(row["step"])
        metrics = MappingProxyType({name: value for name, value in row.items() if name != "step"})
        for one in self._callbacks:
            self._call(console, one, "on_log", run, step, metrics)
            if "fid" in metrics:
                self._call(console, one, "on_evaluation", run, step, metrics)
            if checkpoint is not None:
                self._call(console, one, "on_checkpoint", run, step, checkpoint)

    def _call(self, console: Console, callback: object, method: str, *given: object) -> None:
        function = getattr(callback, method, None)
        if function is None:
            return
        about, printed = f"{type(callback).__name__}.{method}", io.StringIO()
        try:
            with redirect_stdout(printed):
                function(*given)
        except (Exception, SystemExit) as error:
            _LOG.exception("callback %s", about)
            if about not in self._failed:  # the log has the others
                say(
                    console,
                    f"callback {about}: {type(error).__name__}: {' '.join(str(error).split())[:200]}; see run.log",
                )
            self._failed.add(about)
        if printed.getvalue():
            show(console, printed.getvalue().rstrip("\n"))
