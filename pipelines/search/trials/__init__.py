"""The trials of a search: what Ray Tune draws, plays and stops."""
