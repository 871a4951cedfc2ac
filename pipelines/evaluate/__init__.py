"""Measuring and drawing: checkpoints, folders of images, the reference statistics of a data set.

Others use `command`, `pictures`, `reference` and `sample`; each imports torch."""

__all__ = ["command", "pictures", "reference", "sample"]
