"""A low-rank adapter that gives back some of what 2 bits took (AFM 2025 report): trained on the packed weights, which stay as they are.

It is kept beside them, as adapter.safetensors in the form of tamm. Merged into them it would be rounded to 2 bits again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from .model import Decoder
from .quant import LowRank, QLinear

FILE = "adapter.safetensors"
ADAPTER_ID = "recovery"
_MARK = ".low_rank."


def layers_of(decoder: Decoder) -> dict[str, QLinear]:
    """The layers that an adapter adds to, by their names in the decoder."""
    return {name: layer for name, layer in decoder.named_modules() if isinstance(layer, QLinear) and name.startswith("layers.")}


def add(decoder: Decoder, rank: int) -> None:
    """Gives every layer of the decoder an adapter that adds nothing yet."""
    config = decoder.config
    width = config.hidden_size // config.num_attention_heads
    for name, layer in layers_of(decoder).items():
        outputs = [layer.out_features]
        if name.endswith(".fused_linear"):
            outputs = [heads * width for heads in (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)]
        layer.low_rank = LowRank(layer.in_features, outputs, rank)


def is_part(name: str) -> bool:
    """Whether a parameter of a checkpoint belongs to an adapter."""
    return _MARK in name


def rank_of(state: dict[str, Tensor]) -> int | None:
    """The rank of the adapter in a checkpoint, if there is one."""
    return next((value.shape[1] for name, value in state.items() if is_part(name) and ".a." in name), None)


def by_tamms_names(decoder: Decoder) -> dict[str, nn.Parameter]:
    """The matrices of the adapter as tamm calls them; empty without one."""
    out = {}
    for name, layer in layers_of(decoder).items():
        if layer.low_rank is None:
            continue
        pairs = list(zip(layer.low_rank.a, layer.low_rank.b, strict=True))
        for part, (a, b) in enumerate(pairs):
            inner = f"lora_{part}." if len(pairs) > 1 else ""
            prefix = f"{name.removesuffix('.fused_linear')}.adapters.{ADAPTER_ID}.{inner}"
            out |= {f"{prefix}a_transpose": a, f"{prefix}b_transpose": b}
    return out


def write(decoder: Decoder, folder: Path) -> None:
    """Writes adapter.safetensors into a model directory, in f16, or removes it where the decoder has no adapter."""
    matrices = {name: np.ascontiguousarray(matrix.detach().numpy().astype(np.float16)) for name, matrix in by_tamms_names(decoder).items()}
    (folder / FILE).unlink(missing_ok=True)
    if matrices:
        save_file(matrices, folder / FILE, metadata={"format": "pt"})


@torch.no_grad()
def read(decoder: Decoder, folder: Path) -> None:
    """Gives a decoder the adapter of a model directory, if there is one."""
    if not (folder / FILE).exists():
        return
    stored = load_file(folder / FILE)
    add(decoder, next(matrix.shape[1] for name, matrix in stored.items() if name.endswith("a_transpose")))
    for name, matrix in by_tamms_names(decoder).items():
        matrix.copy_(torch.from_numpy(stored[name]))


@torch.no_grad()
def merge(decoder: Decoder) -> None:
    """Adds the adapter to the weights, which are rounded as before."""
    for layer in layers_of(decoder).values():
        if layer.low_rank is not None:
            layer.weight += layer.low_rank(torch.eye(layer.in_features)).T
            layer.low_rank = None
