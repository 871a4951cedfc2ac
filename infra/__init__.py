"""Adapters to the outside: trackers of runs, stores of files, clusters. Knows nothing about GANs."""
