"""Delivers what MLflow lacks of runs and searches that no driver plays.

Nothing here imports torch, Ray or MLflow before something is to be delivered."""

from pipelines.sync._deliver import deliver, deliver_all, typed_again

__all__ = ["deliver", "deliver_all", "typed_again"]
