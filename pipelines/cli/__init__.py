"""The command line `ganfleet`: it checks all that a user types before torch or Ray are imported.

Others use `main`, the console script."""

from pipelines import interrupts

__all__ = ["main"]


def main() -> None:
    """The console script. It hears signals before it imports anything else."""
    interrupts.handle_signals()

    from pipelines.cli._main import run_command

    code = run_command()
    interrupts.ignore_signals()
    raise SystemExit(code)
