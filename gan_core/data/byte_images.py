"""Images that are stored as bytes and indexed as floats: a quarter of the memory, the same numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_aten = torch.ops.aten
_INDEXING = (_aten.index.Tensor, _aten.index_select.default, _aten.select.int)
_SLICING = (_aten.slice.Tensor, _aten.split.Tensor, _aten.split_with_sizes.default, _aten.detach.default)


class ByteImages(Tensor):
    """A float tensor (M, C, H, W) in [-1, 1] that is stored as bytes 0..255.

    Indexing gives an ordinary float tensor. Slices, `split` and `to` keep bytes. Any other operation converts the whole
    tensor to floats first, which is correct but takes the memory of floats.
    """

    stored: Tensor
    """uint8 (M, C, H, W). It may be a memory-mapped file that several processes share."""

    @staticmethod
    def __new__(cls, stored: Tensor, dtype: torch.dtype = torch.float32) -> ByteImages:
        assert stored.dtype == torch.uint8, stored.dtype
        return Tensor._make_wrapper_subclass(
            cls, stored.shape, strides=stored.stride(), dtype=dtype, device=stored.device
        )

    def __init__(self, stored: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.stored = stored

    # Without this, torch would turn the results of `__torch_dispatch__` into ByteImages again.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"ByteImages({tuple(self.shape)}, dtype={self.dtype}, device='{self.device}')"

    def floats(self) -> Tensor:
        """The whole tensor as an ordinary float tensor."""
        return normalised(self.stored, self.dtype)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0]
        if isinstance(first, ByteImages) and func in _INDEXING:
            return normalised(func(first.stored, *args[1:], **kwargs), first.dtype)
        if isinstance(first, ByteImages) and func in _SLICING:
            parts = func(first.stored, *args[1:], **kwargs)
            return tree_map(lambda part: ByteImages(part, first.dtype), parts)
        if isinstance(first, ByteImages) and func is _aten._to_copy.default:
            dtype = kwargs.get("dtype") or first.dtype
            moved = ByteImages(first.stored.to(kwargs.get("device") or first.device), dtype)
            return moved if dtype.is_floating_point else ByteImages(moved.stored, first.dtype).floats().to(dtype)
        if isinstance(first, ByteImages) and func._schema.is_mutable:
            raise TypeError(f"{func} would change stored images; nearest: take them first, images[indices]")
        dense = tree_map(lambda value: value.floats() if isinstance(value, ByteImages) else value, (args, kwargs))
        return func(*dense[0], **dense[1])


def normalised(stored: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes 0..255 as floats in [-1, 1]."""
    return stored.to(dtype).div_(127.5).sub_(1)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as bytes 0..255, rounded; what lies outside is clamped. The reverse of `normalised`."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
