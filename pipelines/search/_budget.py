"""How much a search may spend: hours of the clock and images that its trials see."""

from __future__ import annotations

from pipelines.search._journal import Journal


class SearchBudget:
    """A search's budget. Spent once, it stays so in this process: what ends its trials takes time of its own."""

    def __init__(self, journal: Journal, hours: float | None = None, images: int | None = None) -> None:
        self._journal, self._hours, self._images = journal, hours, images
        self._spent = False
        self.stopped: set[str] = set()
        """Trials that were stopped for want of it."""

    def spent(self) -> bool:
        """Whether no trial may begin, or go on past its next evaluation. Counted under all of the search's drivers."""
        if not self._spent:
            late = self._hours is not None and self._journal.seconds >= 3600 * self._hours
            self._spent = late or (self._images is not None and self._journal.images >= self._images)
        return self._spent
