"""Turns a model directory back into a checkpoint, so that training can go on from the weights that are shipped.

    python -m ocelli_training.restore --model ../assets/nano --out RUNS/shipped

What was packed comes back as its de-quantized values: nearly what it was at 8 bits, coarse at 2, which training soon mends.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from . import recovery
from .checkpoint import save
from .export import BLOCK_BYTES, PARTS, ZERO, file_name, part_of
from .model import Ocelli, OcelliConfig, TextConfig


def unpack_codes(packed: np.ndarray, columns: int, bits: int) -> np.ndarray:
    """The inverse of `export.pack_codes`: bytes `[rows, row_bytes]` to levels `[rows, columns]` in units of the scale."""
    blocks = packed.reshape(packed.shape[0], -1, BLOCK_BYTES)
    if bits == 8:
        levels = blocks.view(np.int8)
    else:
        levels = np.stack([blocks >> (bits * i) & (2**bits - 1) for i in range(8 // bits)], axis=2)
    return levels.reshape(packed.shape[0], -1)[:, :columns].astype(np.float32) - ZERO[bits]


def restore(folder: Path) -> Ocelli:
    stored = load_file(folder / "model.safetensors")
    text = json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_config"]
    model = Ocelli(OcelliConfig(text=TextConfig(**{field.name: text[field.name] for field in fields(TextConfig)})))
    state = model.state_dict()
    for name, value in state.items():
        stem = file_name(name)
        if stem in stored:
            state[name] = torch.from_numpy(stored[stem].astype(np.float32))
            continue
        scales = stored[stem + "_scales"].astype(np.float32)
        bits = part_of(stem, PARTS)["bits"]
        levels = unpack_codes(stored[stem + "_codes"], value.shape[1], bits)
        group = part_of(stem, PARTS)["group_size"] or value.shape[1]
        state[name] = torch.from_numpy(levels * np.repeat(scales, group, axis=1)[:, : value.shape[1]])
    model.load_state_dict(state)
    recovery.read(model.decoder, folder)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    save(args.out, restore(args.model), None, None, 0, 0.0)


if __name__ == "__main__":
    main()
