"""Measures in three levels, each usable alone: features -> statistics -> distance."""
