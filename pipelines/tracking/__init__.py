"""A run's record in MLflow: where it is, how it is opened and ended, and what happens while the server is unavailable.

Other packages use `pages`, `retry`, `runs` and `target`. The others than `pages` import MLflow."""

__all__ = ["pages", "retry", "runs", "target"]
