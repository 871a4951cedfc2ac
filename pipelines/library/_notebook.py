"""Progress in a notebook: one output of the cell, which is updated."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType, RenderHook
from rich.control import Control
from rich.live import Live

from pipelines.console import quiet

_WIDTH = 110
_SECONDS = 0.5
"""From one update to the next."""
_FORMAT = "<pre style='line-height: normal'>{code}</pre>"


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def screen() -> Console:
    """A console for what is no run: for bars on the way."""
    return CellConsole() if in_notebook() else Console(stderr=True)


@contextmanager
def in_cell(log: Path) -> Iterator[Console]:
    """Sends to `log` what libraries and child processes print. Yields a console whose bars are one output of the
    cell."""
    console = CellConsole()
    with quiet(log), log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield console


class CellConsole(Console):
    """Lines are the cell's text; what a terminal would redraw, is one output that is updated."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        terminal = {"TERM": "xterm"}
        super().__init__(
            file=sys.stdout, force_terminal=True, force_jupyter=False, no_color=True, width=_WIDTH, _environ=terminal
        )
        self._html, self._output = HTML, display(HTML(""), display_id=True)
        self._lives: list[Live] = []
        self._shown = 0.0

    def push_render_hook(self, hook: RenderHook) -> None:
        """A bar or table begins."""
        if isinstance(hook, Live):
            self._lives.append(hook)

    def pop_render_hook(self) -> None:
        """It ends, and leaves nothing."""
        self._lives.pop()
        self._update("")

    def control(self, *control: Control) -> None:
        """A cell has no cursor."""

    def print(self, *objects: Any, **options: Any) -> None:
        """A line; or a bar's sign that it has changed."""
        if not (len(objects) == 1 and isinstance(objects[0], Control)):
            super().print(*objects, **options)
        elif self._lives and time.monotonic() - self._shown >= _SECONDS:
            self._update(_rendered(self._lives[-1].renderable))

    def _update(self, html: str) -> None:
        self._shown = time.monotonic()
        self._output.update(self._html(html))


def _rendered(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False, force_terminal=True)
    console.print(shown)
    return console.export_html(inline_styles=True, code_format=_FORMAT)
