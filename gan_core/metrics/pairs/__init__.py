"""Measures that compare single features of samples with single features of real images."""
