"""From a command line to a run in progress: the request, `--resume`, `--from-search`, exit codes.

Nothing here imports torch or Ray."""

from pipelines.launch._data import as_found, find_data, image_size, tried, with_data
from pipelines.launch._log import logged
from pipelines.launch._request import CommandLine, Request, train_request
from pipelines.launch._resume import SEARCH_MAY_CHANGE, TRAIN_MAY_CHANGE, resumed_search, resumed_train
from pipelines.launch._search_request import search_request
from pipelines.launch._session import (
    DONE,
    FAILED,
    INPUT,
    INTERRUPTED,
    Ending,
    begin,
    check_cluster,
    ends_as_interrupted,
    finish,
    played,
    ready,
)
from pipelines.launch._shipped import IN_JOB, keep_shipped

__all__ = [
    "DONE",
    "FAILED",
    "INPUT",
    "INTERRUPTED",
    "IN_JOB",
    "SEARCH_MAY_CHANGE",
    "TRAIN_MAY_CHANGE",
    "CommandLine",
    "Ending",
    "Request",
    "as_found",
    "begin",
    "check_cluster",
    "ends_as_interrupted",
    "find_data",
    "finish",
    "image_size",
    "keep_shipped",
    "logged",
    "played",
    "ready",
    "resumed_search",
    "resumed_train",
    "search_request",
    "train_request",
    "tried",
    "with_data",
]
