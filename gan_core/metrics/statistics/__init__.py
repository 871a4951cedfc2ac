"""Statistics of features: moments, statistics files, and reference statistics of the real images."""
