"""The Python interface: `from pipelines import train, search, evaluate, load`.

Nothing here imports torch, Ray or pandas before it is needed."""

from pipelines.library._calls import evaluate, load, search, train
from pipelines.library._measure import measured
from pipelines.library._run import Run
from pipelines.library._search import Search
from pipelines.library._start import started

__all__ = ["Run", "Search", "evaluate", "load", "measured", "search", "started", "train"]
