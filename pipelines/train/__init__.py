"""Training: one experiment, played by one Ray Train worker or several.

Others use `command` (the whole run), `play` (one rank), `worker_group` and `events`; each imports torch or Ray."""

__all__ = ["command", "events", "play", "worker_group"]
