"""Statistics of features: moments, files, and those of the real images."""
