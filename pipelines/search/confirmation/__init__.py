"""Confirmation: the best settings of a search, played again over fresh seeds."""
