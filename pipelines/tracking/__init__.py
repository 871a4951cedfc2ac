"""A run's record in MLflow: where it is, how it is opened and ended, and what happens while the server is unavailable.

Other packages use `retry`, `runs` and `target`. All import MLflow."""

__all__ = ["retry", "runs", "target"]
