"""Measures of samples, in three stages that can be used alone: features -> statistics -> distance."""
