"""Measures and draws: checkpoints, folders of images, the reference statistics of a dataset.

Other packages use `command`, `pictures`, `reference` and `sample`. Each imports torch."""

__all__ = ["command", "pictures", "reference", "sample"]
