"""Measures and draws: checkpoints, folders of images, the reference statistics of a dataset.

Other packages use `command`, `pictures`, `real_data`, `reference` and `sample`. Each imports torch."""

__all__ = ["command", "pictures", "real_data", "reference", "sample"]
