"""bf16 products where the CPU has instructions for them."""

from __future__ import annotations

import torch


def has_bf16() -> bool:
    """Whether the CPU multiplies in bf16 (AMX, AVX-512 BF16), several times as fast as in f32."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def mixed_precision() -> torch.autocast:
    """The context for the forward pass of a training step: weights, sums of layers and losses stay f32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bf16())
