"""A run's generator as a file that other programs load, as an MLflow model, and its model card. Imports torch."""

from pipelines.evaluate.export.command import Exported, export

__all__ = ["Exported", "export"]
