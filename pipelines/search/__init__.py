"""Searches: trials on Ray Tune, their journal, confirmation over fresh seeds, tables and pictures.

Others use `command`, which imports torch, Ray and MLflow."""

__all__ = ["command"]
