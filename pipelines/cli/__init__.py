"""The command line `ganfleet`: it checks all that a user types before torch or Ray are imported.

Others use `main`, the console script."""

from pipelines.cli._main import main

__all__ = ["main"]
