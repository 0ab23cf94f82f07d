"""Makes the goldens of pictures, encoders and adapter: tests/golden/{rw_vitdet*, vit_*, adapter, pictures}.

    pip install torch 'transformers==5.23.0' pillow safetensors numpy
    PYTHONPATH=training python training/goldens/make_vision.py --out tests/golden

 - rw_vitdet*, adapter: the modules of training/ocelli_training/model.py with random weights; the adapter's image tokens are computed here
   in the direct form (convolution, then pooling), which the module's own form has to equal.
 - vit_*: encoders of Hugging Face transformers with random weights, under the names of docs/format.md.
 - pictures: Pillow's BICUBIC, and files of kinds that Pillow writes.

Every encoder case has model.safetensors (prefix `vision`), config.json (`vision_config`) and expected.safetensors with
`{i}.pixel_values`, `{i}.features`, `{i}.pooled` for each input i.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from ocelli_training.model import Adapter, AdapterConfig, RwVitDet, VisionConfig
from PIL import Image
from safetensors.numpy import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2WithRegistersConfig, Dinov2WithRegistersModel


def randomize(module, generator):
    """Random values of a size at which every tensor matters."""
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            value = 1.0 + 0.3 * noise
        elif parameter.dim() == 1:
            value = 0.3 * noise
        elif "embedding" in name or "token" in name:
            value = 0.5 * noise
        else:
            value = noise / parameter[0].numel() ** 0.5
        parameter.data.copy_(value)
    return module.eval()


def save(directory, model, config, expected):
    directory.mkdir(parents=True, exist_ok=True)
    tensors = lambda items: {name: np.ascontiguousarray(value.detach().numpy()) for name, value in items.items()}
    save_file(tensors(model), directory / "model.safetensors")
    save_file(tensors(expected), directory / "expected.safetensors")
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def cases(encode, sizes, generator):
    expected = {}
    for i, (height, width) in enumerate(sizes):
        pixels = torch.randn(1, 3, height, width, generator=generator)
        features, pooled = encode(pixels)
        expected |= {f"{i}.pixel_values": pixels, f"{i}.features": features.flatten(0, -2), f"{i}.pooled": pooled}
    return expected


def rw_vitdet(out, name, config, sizes, generator):
    model = randomize(RwVitDet(config), generator)
    description = {
        "model_type": "rw_vitdet",
        "hidden_act": "gelu_pytorch_tanh",
        **{key: getattr(config, key) for key in (
            "num_channels", "patch_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "layer_norm_eps", "window_size", "num_register_tokens", "global_layers", "position_embedding_size",
        )},
    }
    if config.conv_stem is not None:
        description["patch_embed"] = "conv_stem"
        description["conv_stem"] = [dict(zip(("kernel_size", "channels", "num_blocks"), stage)) for stage in config.conv_stem]
    weights = {f"vision.{key}": value for key, value in model.state_dict().items()}
    save(out / name, weights, {"vision_config": description}, cases(model, sizes, generator))


def adapter(out, generator):
    config = AdapterConfig(num_attention_heads=2, intermediate_size=24)
    model = randomize(Adapter(config, 12, 8), generator)
    expected = {}
    # Windows that overlap (8 to 3), that do not divide (9 x 7 to 3), of one patch (12 to 12), and one window.
    for i, ((height, width), pooled) in enumerate([((8, 8), 3), ((9, 7), 3), ((12, 12), 12), ((5, 6), 1)]):
        features = torch.randn(1, height, width, 12, generator=generator)
        x = model.proj(model.layer(features.flatten(1, 2))).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        weight = model.conv.weight.reshape(8, 3, 3, 8).permute(0, 3, 1, 2)
        stride = (height // pooled, width // pooled)
        kernel = (height - (pooled - 1) * stride[0], width - (pooled - 1) * stride[1])
        direct = F.avg_pool2d(F.conv2d(x, weight, model.conv.bias, padding=1), kernel, stride)
        tokens = direct.flatten(2).transpose(1, 2) + model.positions(pooled)
        assert torch.allclose(tokens, model(features, pooled), atol=1e-5)
        expected |= {
            f"{i}.features": features.flatten(0, 2),
            f"{i}.grid": torch.tensor([height, width]),
            f"{i}.pooled": torch.tensor([pooled, pooled]),
            f"{i}.image_tokens": tokens[0],
        }
    description = {
        "model_type": "conv_pool", "num_attention_heads": 2, "intermediate_size": 24, "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6, "position_embedding": True,
    }
    weights = {f"adapter.{key}": value for key, value in model.state_dict().items()}
    save(out / "adapter", weights, {"adapter_config": description}, expected)


def transformers_layer(weights, i, source, names, prefix):
    for ours, theirs in names.items():
        for part in ("weight", "bias"):
            weights[f"vision.layers.{i}.{ours}.{part}"] = source[f"{prefix}{theirs}.{part}"]


def vit_dinov2(out, generator):
    """Class token, registers, layer_scale, exact GELU."""
    config = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=20, patch_size=4,
        num_register_tokens=3, layerscale_value=1.0, attn_implementation="eager",
    )
    model = randomize(Dinov2WithRegistersModel(config), generator)
    source = model.state_dict()
    positions = source["embeddings.position_embeddings"][0]
    weights = {
        "vision.patch_embed.proj.weight": source["embeddings.patch_embeddings.projection.weight"].flatten(1),
        "vision.patch_embed.proj.bias": source["embeddings.patch_embeddings.projection.bias"],
        "vision.class_token": source["embeddings.cls_token"][0, 0] + positions[0],
        "vision.register_tokens": source["embeddings.register_tokens"][0],
        "vision.position_embedding": positions[1:].reshape(5, 5, 16),
        "vision.post_layernorm.weight": source["layernorm.weight"],
        "vision.post_layernorm.bias": source["layernorm.bias"],
    }
    table = {f"self_attn.{name}": f"attention.{name}" for name in ("q_proj", "k_proj", "v_proj")} | {
        "self_attn.out_proj": "attention.o_proj", "layer_norm1": "norm1", "layer_norm2": "norm2",
        "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
    }
    for i in range(2):
        transformers_layer(weights, i, source, table, f"encoder.layer.{i}.")
        for scale in (1, 2):
            weights[f"vision.layers.{i}.layer_scale{scale}"] = source[f"encoder.layer.{i}.layer_scale{scale}.lambda1"]
    description = {
        "model_type": "vit", "patch_size": 4, "image_size": 20, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu", "layer_norm_eps": config.layer_norm_eps,
        "class_token": True, "num_register_tokens": 3, "layer_scale": True,
    }

    def encode(pixels):
        tokens = model(pixels).last_hidden_state
        return tokens[:, 4:], tokens[:, 0]

    save(out / "vit_dinov2", weights, {"vision_config": description}, cases(encode, [(20, 20)], generator))


def vit_clip(out, generator):
    """Class token, pre_layernorm, quick GELU, no bias in the patch embedding (kept 4-dimensional)."""
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=20, patch_size=4,
        attn_implementation="eager",
    )
    model = randomize(CLIPVisionModel(config), generator)
    source = model.state_dict()
    positions = source["embeddings.position_embedding.weight"]
    weights = {
        "vision.patch_embed.proj.weight": source["embeddings.patch_embedding.weight"],
        "vision.class_token": source["embeddings.class_embedding"] + positions[0],
        "vision.position_embedding": positions[1:].reshape(5, 5, 16),
    }
    for part in ("weight", "bias"):
        weights[f"vision.pre_layernorm.{part}"] = source[f"pre_layrnorm.{part}"]
        weights[f"vision.post_layernorm.{part}"] = source[f"post_layernorm.{part}"]
    table = {name: name for name in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "layer_norm1", "layer_norm2",
        "mlp.fc1", "mlp.fc2",
    )}
    for i in range(2):
        transformers_layer(weights, i, source, table, f"encoder.layers.{i}.")
    description = {
        "model_type": "vit", "patch_size": 4, "image_size": 20, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "quick_gelu", "layer_norm_eps": config.layer_norm_eps,
        "class_token": True, "pre_layernorm": True,
    }

    def encode(pixels):
        # CLIP itself applies the last norm to the class token alone.
        output = model(pixels)
        return model.post_layernorm(output.last_hidden_state[:, 1:]), output.pooler_output

    save(out / "vit_clip", weights, {"vision_config": description}, cases(encode, [(20, 20)], generator))


def pictures(out):
    out = out / "pictures"
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    # Smooth colours, a hard-edged disc and noise: what a resampler can get wrong.
    y, x = np.mgrid[0:75, 0:110]
    picture = np.stack([x * 255 / 109, y * 255 / 74, 128 + 127 * np.sin(x / 7) * np.cos(y / 5)], axis=-1)
    picture[(x - 70) ** 2 + (y - 30) ** 2 < 400] = (250, 20, 40)
    picture[50:, :30] = rng.integers(0, 256, (25, 30, 3))
    image = Image.fromarray(picture.astype(np.uint8))
    image.save(out / "source.png", optimize=True)
    for side in (28, 56, 140):
        image.resize((side, side), Image.Resampling.BICUBIC).save(out / f"bicubic_{side}.png", optimize=True)
    # Four flat blocks, so that chroma subsampling and the DCT leave the block centres alone.
    blocks = np.zeros((32, 32, 3), dtype=np.uint8)
    blocks[:16, :16], blocks[:16, 16:], blocks[16:, :16], blocks[16:, 16:] = (220, 30, 40), (20, 160, 60), (30, 60, 200), (250, 240, 90)
    flat = Image.fromarray(blocks)
    flat.convert("CMYK").save(out / "cmyk.jpg", quality=95)
    flat.quantize(4).save(out / "palette.png")
    flat.save(out / "progressive.jpg", progressive=True, quality=95)
    flat.save(out / "lossy.webp", quality=90)
    frames = [flat.quantize(4), Image.new("RGB", (32, 32), (1, 2, 3)).quantize(4)]
    frames[0].save(out / "two_frames.gif", save_all=True, append_images=frames[1:], duration=50)
    flat.convert("1", dither=Image.Dither.NONE).save(out / "bilevel.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    generator = torch.Generator().manual_seed(20260101)
    with torch.no_grad():
        plain = VisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2, patch_size=4, window_size=3,
            num_register_tokens=2, global_layers=(1, 2), position_embedding_size=(4, 4), conv_stem=None,
        )
        # One window; 3 x 3 windows; windows that do not divide the grid of 8 x 7.
        rw_vitdet(out, "rw_vitdet", plain, [(12, 12), (36, 36), (32, 28)], generator)
        stem = VisionConfig(
            hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, patch_size=6, window_size=3,
            num_register_tokens=3, global_layers=(1,), position_embedding_size=(6, 5), conv_stem=((3, 8, 1), (2, 12, 1)),
        )
        rw_vitdet(out, "rw_vitdet_conv_stem", stem, [(24, 30), (18, 18)], generator)
        adapter(out, generator)
        vit_dinov2(out, generator)
        vit_clip(out, generator)
    pictures(out)


if __name__ == "__main__":
    main()
