"""Training: one experiment, played by a group of Ray Train workers.

Other packages use `command` (the whole run), `play` (one rank), `rollback`, `worker_group` and `logged_steps`. All
import torch."""

__all__ = ["command", "logged_steps", "play", "rollback", "worker_group"]
