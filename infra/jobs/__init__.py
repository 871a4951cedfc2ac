"""Adapters to batch systems: Slurm, KubeRay, Ray Jobs."""
