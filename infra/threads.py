"""The same work on several items, by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def each(work: Callable[[T], None], items: Iterable[T], threads: int) -> None:
    """Calls `work` for each item. After the first error or Ctrl-C no further call begins; running ones end first."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="transfer")
    try:
        for done in [pool.submit(work, item) for item in items]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
