"""From a command line to a run that plays: the request, `--resume`, `--from-search`, exit codes.

Nothing here imports torch or Ray."""

from pipelines.launch._request import Line, Order, search_order, train_order
from pipelines.launch._resume import SEARCH_MAY_CHANGE, TRAIN_MAY_CHANGE, resumed_search, resumed_train
from pipelines.launch._session import FAILED, INPUT, INTERRUPTED, begin, run

__all__ = [
    "FAILED",
    "INPUT",
    "INTERRUPTED",
    "SEARCH_MAY_CHANGE",
    "TRAIN_MAY_CHANGE",
    "Line",
    "Order",
    "begin",
    "resumed_search",
    "resumed_train",
    "run",
    "search_order",
    "train_order",
]
