"""Adapters to MLflow: its store, runs, rows and model registry."""
