"""The commands besides `train` and `search`: each module adds its own to the command line by `register`.

`data` is a group of commands."""

__all__ = ["data", "export", "jobs", "measure", "new", "runs", "ui"]
