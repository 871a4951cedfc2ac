"""Adapters to MLflow: its store, its runs and their rows, its model registry."""
