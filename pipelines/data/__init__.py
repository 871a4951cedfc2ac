"""Packed data sets: written as checksummed shards, moved between folders and S3, fetched to where they are played.

Others use `transfer`, and `fetch` and `write`, which import torch."""

__all__ = ["fetch", "transfer", "write"]
