"""Searches: trials on Ray Tune, their journal, confirmation over fresh seeds, tables and pictures.

Others use `command`, which imports torch, Ray and MLflow, and `progress`, which imports none of them."""

__all__ = ["command", "progress"]
