"""What turns images into features, of which FID and its kin are computed: pixels, classifier, Inception, your own.

A `FeatureNet` of your own is a subclass that an import finds: `metrics.extractor=package.module:Class`."""

from gan_core.metrics.extractors.extractor import FeatureNet

__all__ = ["FeatureNet"]
