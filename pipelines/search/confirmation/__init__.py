"""Confirmation: the best settings of a search are played again with fresh seeds."""
