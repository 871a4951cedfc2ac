"""Extractors turn images into the features that FID and other measures use: pixels, classifier, Inception, your own.

For your own, write a subclass of `FeatureNet` that Python can import: `metrics.extractor=package.module:Class`.
"""

from gan_core.metrics.extractors.extractor import FeatureNet

__all__ = ["FeatureNet"]
