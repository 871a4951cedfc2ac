"""A search's budget: hours of wall-clock time, and real images that its trials see."""

from __future__ import annotations

from pipelines.search._journal import Journal


class SearchBudget:
    """Says when the budget is spent. In this process it stays spent: ending the trials takes time and images too."""

    def __init__(self, journal: Journal, hours: float | None = None, images: int | None = None) -> None:
        self._journal, self._hours, self._images = journal, hours, images
        self._spent = False
        self.stopped: set[str] = set()
        """Trials that were stopped because it was spent."""

    def spent(self) -> bool:
        """Whether trials must stop at their next evaluation. Time and images under earlier drivers count too."""
        if not self._spent:
            late = self._hours is not None and self._journal.seconds >= 3600 * self._hours
            self._spent = late or (self._images is not None and self._journal.images >= self._images)
        return self._spent
