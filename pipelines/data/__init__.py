"""Packed datasets: written as checksummed shards, moved between folders and S3, fetched to the machines that train.

Other packages use `transfer`, and `fetch`, `given` and `write`, which import torch."""

__all__ = ["fetch", "given", "transfer", "write"]
