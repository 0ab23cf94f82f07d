"""Writes a checkpoint as a model directory (docs/format.md).

    python -m ocelli_training.export --checkpoint RUNS/qat/checkpoint.pt --out ../assets/nano [--bits ...]

A layer that was trained quantized is stored with its own scales; others are quantized here, 2- and 4-bit scales by least squares.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from . import recovery
from .model import Ocelli, OcelliConfig, TextConfig
from .quant import QLinear

# The longest matching prefix decides (docs/format.md). Activations stay f32: rounded to 8 bits between the layers, they make words that are
# nearly as likely as others depend on the last bits of sums, so that no two implementations write quite the same captions.
PARTS = [
    {"prefix": "embedding", "bits": 4, "group_size": 32, "activation_bits": 32},
    {"prefix": "layers", "bits": 2, "group_size": 32, "activation_bits": 32},
    {"prefix": "vision", "bits": 8, "group_size": None, "activation_bits": 32},
    {"prefix": "adapter", "bits": 8, "group_size": None, "activation_bits": 32},
]
BLOCK_BYTES = 64
ZERO = {2: 1.5, 4: 7.5, 8: 0.0}


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes `[rows, columns]` (unsigned for 2 and 4 bits, i8 for 8) to bytes `[rows, row_bytes]`.

    Byte b of a 64-byte block holds, lowest bits first, the weights b, b + 64, b + 128, ... of a run of 64 * 8 / bits.
    """
    per_byte = 8 // bits
    run = BLOCK_BYTES * per_byte
    rows, columns = codes.shape
    padded = np.zeros((rows, -(-columns // run) * run), dtype=np.uint8)
    padded[:, :columns] = codes.astype(np.int8).view(np.uint8) if bits == 8 else codes.astype(np.uint8)
    blocks = padded.reshape(rows, -1, per_byte, BLOCK_BYTES)
    out = np.zeros((rows, blocks.shape[1], BLOCK_BYTES), dtype=np.uint8)
    for i in range(per_byte):
        out |= blocks[:, :, i] << (bits * i)
    return out.reshape(rows, -1)


def packed_tensors(layer: QLinear) -> dict[str, np.ndarray]:
    with torch.no_grad():
        levels, scales = layer.levels_and_scales()
    rows = levels.shape[0]
    codes = (levels + ZERO[layer.bits]).round().reshape(rows, -1)[:, : layer.in_features]
    return {
        "weight_codes": pack_codes(codes.numpy(), layer.bits),
        "weight_scales": scales.reshape(rows, -1).numpy().astype(np.float16),
    }


def file_name(name: str) -> str:
    """The decoder's tensors have no prefix: they keep the names of tamm."""
    return name.removeprefix("decoder.")


def part_of(name: str, parts: list[dict]) -> dict | None:
    matching = [p for p in parts if name == p["prefix"] or name.startswith(p["prefix"] + ".")]
    return max(matching, key=lambda p: len(p["prefix"])) if matching else None


def quantize_model(model: Ocelli, parts: list[dict]) -> None:
    """Gives every matrix the bits of its part; one that is quantized already keeps its scales."""
    for name, layer in model.named_modules():
        part = part_of(file_name(name), parts)
        if not isinstance(layer, QLinear) or not part:
            continue
        if layer.bits is None:
            layer.enable_quantization(part["bits"], part["group_size"])
        layer.activation_bits = part.get("activation_bits", 8)


def tensors(model: Ocelli) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    packed = {name: layer for name, layer in model.named_modules() if isinstance(layer, QLinear) and layer.bits is not None}
    for name, value in model.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        if (owner in packed and leaf in ("weight", "scale_factor")) or recovery.is_part(name):
            continue
        out[file_name(name)] = value.detach().float().contiguous().numpy()
    for name, layer in packed.items():
        for leaf, value in packed_tensors(layer).items():
            out[f"{file_name(name)}.{leaf}"] = np.ascontiguousarray(value)
    return out


def config_json(config: OcelliConfig, parts: list[dict] | None) -> dict:
    vision, adapter, text = asdict(config.vision), asdict(config.adapter), asdict(config.text)
    stem = vision.pop("conv_stem")
    vision["patch_embed"] = "conv_stem" if stem else "linear"
    if stem:
        vision["conv_stem"] = [{"kernel_size": k, "channels": c, "num_blocks": n} for k, c, n in stem]
    act = "gelu_pytorch_tanh"
    out = {
        "architectures": ["OcelliForConditionalGeneration"],
        "model_type": "ocelli",
        "image_start_token_id": 4, "image_end_token_id": 5, "image_token_id": 6,
        "vision_config": {"model_type": "rw_vitdet", "hidden_act": act, **vision},
        "adapter_config": {"model_type": "conv_pool", "hidden_act": act, **adapter},
        "text_config": {
            "model_type": "afm_text_v7", **text, "max_position_embeddings": 4096, "tie_word_embeddings": True,
        },
    }
    if parts:
        out["quantization_config"] = {"quant_method": "ocelli", "format_version": 1, "parts": parts}
    return out


PREPROCESSOR = {
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3, "aspect": "pad",
    "modes": {
        "rapid": {"size": 224, "grid": [1, 1], "pooled": [3, 3]},
        "balanced": {"size": 672, "grid": [1, 1], "pooled": [12, 12]},
        "high": {"size": 672, "grid": [2, 2], "pooled": [12, 12]},
    },
}


def write_model(model: Ocelli, out: Path, parts: list[dict] | None) -> int:
    """Writes config.json, preprocessor_config.json, model.safetensors and, if the decoder has one, its low-rank adapter; returns the bytes of the weights."""
    out.mkdir(parents=True, exist_ok=True)
    if parts:
        quantize_model(model, parts)
    (out / "config.json").write_text(json.dumps(config_json(model.config, parts), indent=2) + "\n")
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    save_file(tensors(model), out / "model.safetensors", metadata={"format": "pt"})
    recovery.write(model.decoder, out)
    return (out / "model.safetensors").stat().st_size


def config_of(state: dict[str, Tensor]) -> OcelliConfig:
    """The configuration of a checkpoint whose decoder may be narrower or have fewer heads than that of today; layers and head size are today's."""
    text = TextConfig()
    width = text.hidden_size // text.num_attention_heads
    vocab_size, hidden_size = state["decoder.embedding.weight"].shape
    first = "decoder.layers.segment_0.layer_0."
    units = state[first + "feed_forward.hidden_transform.linear_0.weight"].shape[0]
    heads = hidden_size // width
    key_values = (state[first + "attention.qkv_transform.fused_linear.weight"].shape[0] // width - heads) // 2
    text = replace(
        text, vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=units, num_attention_heads=heads, num_key_value_heads=key_values
    )
    return OcelliConfig(text=text)


def load_checkpoint(path: Path) -> Ocelli:
    """The model of a checkpoint, with the quantizers it was trained with."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = Ocelli(config_of(state["model"]))
    if state.get("parts"):
        quantize_model(model, state["parts"])
    if rank := recovery.rank_of(state["model"]):
        recovery.add(model.decoder, rank)
    model.load_state_dict(state["model"])
    return model.eval()


def load_float(path: Path, decoder: Path | None = None) -> Ocelli:
    """The model of a checkpoint without its quantizers, with the decoder of another one if given: the 32-bit control of a quantized model."""
    model = load_checkpoint(path)
    if decoder:
        model.decoder = load_checkpoint(decoder).decoder
    for layer in model.modules():
        if isinstance(layer, QLinear) and layer.bits is not None:
            layer.bits, layer.activation_bits = None, 32
            del layer.scale_factor
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--float", action="store_true", help="plain f32 weights, as a control")
    parser.add_argument("--decoder", type=Path, help="with --float: checkpoint of another decoder, the teacher of the quantized one")
    parser.add_argument("--merge", action="store_true", help="add the low-rank adapter to the weights, which are rounded as before, instead of writing it beside them")
    args = parser.parse_args()
    model = load_float(args.checkpoint, args.decoder) if args.float else load_checkpoint(args.checkpoint)
    if args.merge:
        recovery.merge(model.decoder)
    size = write_model(model, args.out, None if args.float else PARTS)
    print(f"{args.out / 'model.safetensors'}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
