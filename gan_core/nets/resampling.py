"""Resampling of images by 2 with the filter [1, 3, 3, 1], which is nearest-neighbour resampling followed by [1, 2, 1];
beyond the edge is 0. Karras et al. 2020, arXiv:1912.04958; Huang et al. 2024, arXiv:2501.05441."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _filter(like: Tensor, gain: float) -> Tensor:
    """[1, 3, 3, 1] along both sides, with the sum `gain`, for each channel of images (N, C, H, W): (C, 1, 4, 4)."""
    place = torch.arange(4, device=like.device, dtype=like.dtype)  # on the device: a list would be copied to it
    taps = (place * (3 - place) + 1) / 8
    return (gain * taps[:, None] * taps).expand(like.shape[1], 1, 4, 4)


def smoothed(x: Tensor, padding: int, *, gain: float = 1.0, stride: int = 1) -> Tensor:
    """The images (N, C, H, W), padded with zeros, filtered by [1, 3, 3, 1]; of each `stride` rows and columns one."""
    return F.conv2d(x, _filter(x, gain), padding=padding, stride=stride, groups=x.shape[1])


def upsampled(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W): zeros between the pixels, then the filter [1, 3, 3, 1]."""
    return F.conv_transpose2d(x, _filter(x, 4.0), stride=2, padding=1, groups=x.shape[1])


def downsampled(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H/2, W/2): the filter [1, 3, 3, 1], then every second pixel."""
    return smoothed(x, 1, stride=2)
