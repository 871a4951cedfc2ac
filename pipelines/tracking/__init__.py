"""A run's record in MLflow: where it lies, how it is opened and closed, and what is owed to a server that was away.

Others use `retry`, `runs` and `target`; each imports MLflow."""

__all__ = ["retry", "runs", "target"]
