"""Fake quantization with the arithmetic of docs/format.md, for QAT and as the reference of the Rust kernels.

Weights:      2 bits  s * (q - 1.5), 4 bits  s * (q - 7.5), 8 bits  s * q; s per row, or per row and group.
Activations:  8 bits, scale max|a| / 127 per token (and per group where the weights have groups).
QAT (AFM 2025 report): s = f * max|W| / qmax with learnable f, straight-through gradient for the rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QMAX = {2: 1.5, 4: 7.5, 8: 127.0}


def round_ste(x: Tensor) -> Tensor:
    """Round half to even with the gradient of the identity."""
    return x + (x.round() - x).detach()


def quantize_codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Levels of `weight` in units of `scale`: half-integers for 2 and 4 bits, integers for 8 (straight-through)."""
    qmax = QMAX[bits]
    x = weight / scale.clamp_min(1e-12)
    if bits == 8:
        return round_ste(x).clamp(-qmax, qmax)
    return (round_ste(x - 0.5) + 0.5).clamp(-qmax, qmax)


def least_squares_factor(grouped: Tensor, bits: int, iterations: int = 12) -> Tensor:
    """f such that s = f * max|W| / qmax minimises the squared error: alternate assignment and scale."""
    peak = grouped.abs().amax(-1, keepdim=True).clamp_min(1e-12)
    qmax = QMAX[bits]
    best_f = torch.ones_like(peak)
    best_error = torch.full_like(peak, float("inf"))
    for start in (0.5, 0.7, 1.0):
        scale = start * peak / qmax
        for _ in range(iterations):
            levels = quantize_codes(grouped, scale, bits)
            scale = (grouped * levels).sum(-1, keepdim=True) / (levels * levels).sum(-1, keepdim=True).clamp_min(1e-12)
            scale = scale.clamp_min(1e-12)
        error = (grouped - quantize_codes(grouped, scale, bits) * scale).square().sum(-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_f = torch.where(better, scale * qmax / peak, best_f)
    return best_f


def fake_quantize_activations(x: Tensor, group_size: int | None) -> Tensor:
    """8-bit activations per token (and group), as the integer kernels see them; no gradient through the scale."""
    shape = x.shape
    width = shape[-1]
    size = group_size or width
    pad = -width % size
    if pad:
        x = F.pad(x, (0, pad))
    grouped = x.reshape(*shape[:-1], -1, size)
    scale = grouped.detach().abs().amax(-1, keepdim=True) / 127.0
    levels = round_ste(grouped / scale.clamp_min(1e-30)).clamp(-127, 127)
    return (levels * scale).reshape(*shape[:-1], -1)[..., :width]


class LowRank(nn.Module):
    """What a low-rank adapter adds to a layer: `(x a) b`, one pair for each run of outputs (LoRA, Hu et al. 2021, arXiv 2106.09685). It adds nothing at first."""

    def __init__(self, in_features: int, outputs: list[int], rank: int) -> None:
        super().__init__()
        self.a = nn.ParameterList(torch.randn(in_features, rank) * in_features**-0.5 for _ in outputs)
        self.b = nn.ParameterList(torch.zeros(rank, count) for count in outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x @ a @ b for a, b in zip(self.a, self.b, strict=True)], dim=-1)


class QLinear(nn.Linear):
    """A linear layer that can pretend to have `bits`-bit weights, and 8-bit activations."""

    bits: int | None = None
    group_size: int | None = None
    # 8: activations are rounded as well.
    activation_bits = 32

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.low_rank: LowRank | None = None  # beside the weights, not quantized

    def enable_quantization(self, bits: int, group_size: int | None) -> None:
        """Switches to fake-quantized weights with a learnable factor, started by least squares."""
        self.bits, self.group_size = bits, group_size
        with torch.no_grad():
            grouped = self.grouped_weight()
            factor = torch.ones_like(grouped[..., :1]) if bits == 8 else least_squares_factor(grouped, bits)
        self.scale_factor = nn.Parameter(factor, requires_grad=bits != 8)

    def grouped_weight(self) -> Tensor:
        """`[out, groups, group_size]`, padded with zeros."""
        size = self.group_size or self.in_features
        pad = -self.in_features % size
        return F.pad(self.weight, (0, pad)).reshape(self.out_features, -1, size)

    def levels_and_scales(self) -> tuple[Tensor, Tensor]:
        """Levels `[out, groups, group_size]` and scales `[out, groups, 1]` rounded to f16 as they are stored."""
        assert self.bits is not None
        grouped = self.grouped_weight()
        peak = grouped.detach().abs().amax(-1, keepdim=True).clamp_min(1e-8)
        scale = self.scale_factor.abs() * peak / QMAX[self.bits]
        scale = scale + (scale.half().float() - scale).detach()
        return quantize_codes(grouped, scale, self.bits), scale

    def effective_weight(self) -> Tensor:
        if self.bits is None:
            return self.weight
        levels, scale = self.levels_and_scales()
        return (levels * scale).reshape(self.out_features, -1)[:, : self.in_features]

    def forward(self, x: Tensor) -> Tensor:
        rounded = fake_quantize_activations(x, self.group_size) if self.activation_bits == 8 else x
        y = F.linear(rounded, self.effective_weight(), self.bias)
        return y if self.low_rank is None else y + self.low_rank(x)


class QEmbedding(QLinear):
    """Token embedding `[vocab, hidden]`, tied with the output head; quantized like a linear layer."""

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, vocab_size, bias=False)

    def lookup(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.effective_weight())
