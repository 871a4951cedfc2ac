"""Measures and draws: checkpoints, folders of images, the reference statistics of a dataset.

Other packages use the modules named below. Each imports torch."""

__all__ = [
    "command",
    "drawing",
    "export",
    "export_output",
    "pictures",
    "real_data",
    "reference",
    "sample",
    "sample_files",
]
