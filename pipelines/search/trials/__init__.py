"""The trials of a search on Ray Tune."""
