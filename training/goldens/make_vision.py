"""Makes the goldens of pictures, encoders and adapter: tests/golden/{rw_vitdet*, vit_*, adapter*, pictures, processors}.

    pip install torch 'transformers==5.23.0' 'pillow>=13' safetensors numpy
    PYTHONPATH=training python training/goldens/make_vision.py --out tests/golden

 - rw_vitdet*, adapter: the modules of training/ocelli_training/model.py with random weights; the adapter's image tokens are computed here
   in the direct form (convolution, then pooling), which the module's own form has to equal.
 - adapter_pixel_shuffle, adapter_mlp: the connector of Idefics3 and the projector of LLaVA in Hugging Face transformers.
 - vit_*: encoders of Hugging Face transformers with random weights, under the names of docs/format.md. Most have
   `{i}.hidden_states` too, `[num_hidden_layers + 1, tokens, hidden_size]`.
 - pictures: Pillow's BICUBIC, and files of kinds that Pillow writes.
 - processors: small pictures, and the views that image processors of transformers make of them (those that need Pillow alone), one below
   the other as 8-bit levels; `{processor}.json` is the same as a preprocessor_config.json, `{processor}_{mode}_{picture}.png` the views.

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
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    Idefics3Config,
    LlavaConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
    SmolVLMConfig,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector, SmolVLMVisionTransformer


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
        features, pooled, *hidden_states = encode(pixels)
        expected |= {f"{i}.pixel_values": pixels, f"{i}.features": features.flatten(0, -2), f"{i}.pooled": pooled}
        if hidden_states:
            expected[f"{i}.hidden_states"] = torch.cat(hidden_states)
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


def adapters_of_transformers(out):
    """The connectors of Idefics3 and SmolVLM, which have to be equal, and the projector of LLaVA with and without biases."""
    generator = torch.Generator().manual_seed(20260102)
    sizes = {"vision_config": {"hidden_size": 12}, "text_config": {"hidden_size": 8, "num_attention_heads": 2}}
    connectors = [
        Idefics3Connector(Idefics3Config(**sizes, scale_factor=2)), SmolVLMConnector(SmolVLMConfig(**sizes, scale_factor=2)),
    ]
    randomize(connectors[0], generator)
    connectors[1].load_state_dict(connectors[0].state_dict())
    expected = {}
    for i, side in enumerate((2, 6)):
        features = torch.randn(1, side * side, 12, generator=generator)
        tokens = [connector(features) for connector in connectors]
        assert torch.equal(*tokens)
        expected |= {
            f"{i}.features": features[0], f"{i}.grid": torch.tensor([side, side]),
            f"{i}.pooled": torch.tensor([side // 2, side // 2]), f"{i}.image_tokens": tokens[0][0],
        }
    weights = {"adapter.proj.weight": connectors[0].modality_projection.proj.weight}
    save(out / "adapter_pixel_shuffle", weights, {"adapter_config": {"model_type": "pixel_shuffle", "scale_factor": 2}}, expected)

    with_bias, without = (LlavaMultiModalProjector(LlavaConfig(**sizes, multimodal_projector_bias=bias)) for bias in (True, False))
    randomize(with_bias, generator)
    without.load_state_dict({name: value for name, value in with_bias.state_dict().items() if name.endswith("weight")})
    features = torch.randn(12, 12, generator=generator)
    expected = {"features": features, "image_tokens": with_bias(features), "image_tokens_without_bias": without(features)}
    weights = {f"adapter.{name}": value for name, value in with_bias.state_dict().items()}
    save(out / "adapter_mlp", weights, {"adapter_config": {"model_type": "mlp", "hidden_act": "gelu"}}, expected)


def transformers_layer(weights, i, source, names, prefix):
    for ours, theirs in names.items():
        for part in ("weight", "bias"):
            weights[f"vision.layers.{i}.{ours}.{part}"] = source[f"{prefix}{theirs}.{part}"]


def vit_dinov2(out, name, sizes, generator):
    """Class token, registers, layer_scale, exact GELU, antialiased positions."""
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
    if sizes != [(20, 20)]:
        description["position_resampling"] = "bicubic_antialiased"

    def encode(pixels):
        tokens = model(pixels).last_hidden_state
        return tokens[:, 4:], tokens[:, 0]

    save(out / name, weights, {"vision_config": description}, cases(encode, sizes, generator))


def hidden_states(layers, run):
    """What comes into the first of `layers` and out of each while `run` runs: `hidden_states` before any norm."""
    seen = []
    first = lambda output: output[0] if isinstance(output, tuple) else output
    handles = [layers[0].register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True)]
    handles += [layer.register_forward_hook(lambda module, args, output: seen.append(first(output))) for layer in layers]
    output = run()
    for handle in handles:
        handle.remove()
    return output, torch.cat(seen)


def vit_dinov2_giant(out, generator):
    """Class token, layer_scale, gated MLP; positions resampled without antialiasing."""
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=20, patch_size=4,
        layerscale_value=1.0, use_swiglu_ffn=True, attn_implementation="eager",
    )
    model = randomize(Dinov2Model(config), generator)
    source = model.state_dict()
    positions = source["embeddings.position_embeddings"][0]
    weights = {
        "vision.patch_embed.proj.weight": source["embeddings.patch_embeddings.projection.weight"].flatten(1),
        "vision.patch_embed.proj.bias": source["embeddings.patch_embeddings.projection.bias"],
        "vision.class_token": source["embeddings.cls_token"][0, 0] + positions[0],
        "vision.position_embedding": positions[1:].reshape(5, 5, 16),
        "vision.post_layernorm.weight": source["layernorm.weight"],
        "vision.post_layernorm.bias": source["layernorm.bias"],
    }
    table = {f"self_attn.{name}": f"attention.{name}" for name in ("q_proj", "k_proj", "v_proj")} | {
        "self_attn.out_proj": "attention.o_proj", "layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc2": "mlp.down_proj",
    }
    for i in range(2):
        prefix = f"encoder.layer.{i}."
        transformers_layer(weights, i, source, table, prefix)
        for part in ("weight", "bias"):
            halves = [source[f"{prefix}mlp.{name}.{part}"] for name in ("gate_proj", "up_proj")]
            weights[f"vision.layers.{i}.mlp.fc1.{part}"] = torch.cat(halves)
        for scale in (1, 2):
            weights[f"vision.layers.{i}.layer_scale{scale}"] = source[f"{prefix}layer_scale{scale}.lambda1"]
    description = {
        "model_type": "vit", "patch_size": 4, "image_size": 20, "hidden_size": 16,
        "intermediate_size": weights["vision.layers.0.mlp.fc2.weight"].shape[1],
        "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "silu", "layer_norm_eps": config.layer_norm_eps,
        "class_token": True, "layer_scale": True, "gated_mlp": True,
    }

    def encode(pixels):
        output, hidden = hidden_states(model.encoder.layer, lambda: model(pixels).last_hidden_state)
        return output[:, 1:], output[:, 0], hidden

    save(out / "vit_dinov2_giant", weights, {"vision_config": description}, cases(encode, [(20, 20), (12, 28)], generator))


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
    for i in range(2):
        transformers_layer(weights, i, source, CLIP_LAYER, f"encoder.layers.{i}.")
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


def vit_clip_projection(out, generator):
    """CLIP as transformers has it: raw features, the pooled vector normed and projected; positions resampled."""
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=20, patch_size=4,
        projection_dim=12, attn_implementation="eager",
    )
    model = randomize(CLIPVisionModelWithProjection(config), generator)
    source = model.state_dict()
    positions = source["vision_model.embeddings.position_embedding.weight"]
    weights = {
        "vision.patch_embed.proj.weight": source["vision_model.embeddings.patch_embedding.weight"],
        "vision.class_token": source["vision_model.embeddings.class_embedding"] + positions[0],
        "vision.position_embedding": positions[1:].reshape(5, 5, 16),
        "vision.projection.weight": source["visual_projection.weight"],
    }
    for part in ("weight", "bias"):
        weights[f"vision.pre_layernorm.{part}"] = source[f"vision_model.pre_layrnorm.{part}"]
        weights[f"vision.post_layernorm.{part}"] = source[f"vision_model.post_layernorm.{part}"]
    for i in range(2):
        transformers_layer(weights, i, source, CLIP_LAYER, f"vision_model.encoder.layers.{i}.")
    description = {
        "model_type": "vit", "patch_size": 4, "image_size": 20, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "quick_gelu", "layer_norm_eps": config.layer_norm_eps,
        "class_token": True, "pre_layernorm": True, "post_layernorm": "pooled", "projection_dim": 12,
    }

    def encode(pixels):
        run = lambda: model(pixels, interpolate_pos_encoding=True)
        output, hidden = hidden_states(model.vision_model.encoder.layers, run)
        return output.last_hidden_state[:, 1:], output.image_embeds, hidden

    save(out / "vit_clip_projection", weights, {"vision_config": description}, cases(encode, [(20, 20), (12, 28)], generator))


def vit_siglip(out, generator):
    """Attention pooling, GELU by tanh."""
    config = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=20, patch_size=4,
        attn_implementation="eager",
    )
    model = randomize(SiglipVisionModel(config), generator)
    source = model.state_dict()
    weights = siglip_embeddings(source)
    for i in range(2):
        transformers_layer(weights, i, source, CLIP_LAYER, f"encoder.layers.{i}.")
    weights["vision.pooler.probe"] = source["head.probe"][0, 0]
    for part in ("weight", "bias"):
        projections = source[f"head.attention.in_proj_{part}"].chunk(3) + (source[f"head.attention.out_proj.{part}"],)
        for name, projection in zip(("q_proj", "k_proj", "v_proj", "out_proj"), projections):
            weights[f"vision.pooler.attention.{name}.{part}"] = projection
        for name in ("layernorm", "mlp.fc1", "mlp.fc2"):
            weights[f"vision.pooler.{name}.{part}"] = source[f"head.{name}.{part}"]
    description = SIGLIP | {"layer_norm_eps": config.layer_norm_eps, "pooling": "attention"}

    def encode(pixels):
        run = lambda: model(pixels, interpolate_pos_encoding=True)
        output, hidden = hidden_states(model.encoder.layers, run)
        return output.last_hidden_state, output.pooler_output, hidden

    save(out / "vit_siglip", weights, {"vision_config": description}, cases(encode, [(20, 20), (28, 12)], generator))


def vit_smolvlm(out, generator):
    """SigLIP without its head, positions looked up by fractional coordinates; the mean of the patches is ours."""
    config = SmolVLMVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=20, patch_size=4,
        attn_implementation="eager",
    )
    model = randomize(SmolVLMVisionTransformer(config), generator)
    source = model.state_dict()
    weights = siglip_embeddings(source)
    for i in range(2):
        transformers_layer(weights, i, source, CLIP_LAYER, f"encoder.layers.{i}.")
    description = SIGLIP | {"layer_norm_eps": config.layer_norm_eps, "position_resampling": "nearest"}

    def encode(pixels):
        output, hidden = hidden_states(model.encoder.layers, lambda: model(pixels).last_hidden_state)
        return output, output.mean(1), hidden

    sizes = [(20, 20), (12, 28), (32, 4)]
    save(out / "vit_smolvlm", weights, {"vision_config": description}, cases(encode, sizes, generator))


CLIP_LAYER = {name: name for name in (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "layer_norm1", "layer_norm2",
    "mlp.fc1", "mlp.fc2",
)}
SIGLIP = {
    "model_type": "vit", "patch_size": 4, "image_size": 20, "hidden_size": 16, "intermediate_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu_pytorch_tanh",
}


def siglip_embeddings(source):
    return {
        "vision.patch_embed.proj.weight": source["embeddings.patch_embedding.weight"],
        "vision.patch_embed.proj.bias": source["embeddings.patch_embedding.bias"],
        "vision.position_embedding": source["embeddings.position_embedding.weight"].reshape(5, 5, 16),
        "vision.post_layernorm.weight": source["post_layernorm.weight"],
        "vision.post_layernorm.bias": source["post_layernorm.bias"],
    }


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


def processors(out):
    out = out / "processors"
    out.mkdir(parents=True, exist_ok=True)
    sizes = {"wide": (150, 47), "tall": (47, 150), "small": (19, 13), "square": (61, 61), "strip": (200, 3)}
    sources = {}
    for name, (width, height) in sizes.items():
        # Smooth colours, a hard-edged disc and fine lines.
        y, x = np.mgrid[0:height, 0:width]
        picture = np.stack([x * 255 / width, y * 255 / height, 128 + 127 * np.sin(x / 7) * np.cos(y / 5)], axis=-1)
        picture[(x - width / 3) ** 2 + (y - height / 2) ** 2 < min(width, height) ** 2 / 12] = (250, 20, 40)
        picture[(x % 4 < 1) & (x > width * 0.7)] = (255, 255, 255)
        sources[name] = Image.fromarray(picture.astype(np.uint8))
        sources[name].save(out / f"{name}.png", optimize=True)

    mean, std = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
    tiles = lambda edge, size: {"size": {"longest_edge": edge}, "max_image_size": {"longest_edge": size}}
    crop = lambda edge, size: {"size": {"shortest_edge": edge}, "crop_size": {"height": size, "width": size}}
    # Tiles that divide the longest edge and tiles that do not; crops of the whole, of a part, and beyond the picture.
    cases = [
        ("smolvlm", SmolVLMImageProcessorPil, tiles(64, 16), 1), ("idefics3", Idefics3ImageProcessorPil, tiles(45, 20), 1),
        ("clip", CLIPImageProcessorPil, crop(24, 24), 3), ("bit", BitImageProcessorPil, crop(31, 28), 3),
        ("clip_beyond", CLIPImageProcessorPil, crop(11, 24), 2),
    ]
    for name, processor, sizes, resample in cases:
        config = {"image_mean": mean, "image_std": std, "resample": resample}
        keywords = {"resample": resample, "image_mean": mean, "image_std": std, "return_tensors": "np", **sizes}
        if "crop_size" in sizes:
            side, edge = sizes["crop_size"]["height"], sizes["size"]["shortest_edge"]
            config |= {"aspect": "crop", "modes": {"balanced": {"size": side, "pooled": [1, 1]}}}
            config |= {"resize": edge} if edge != side else {}
        else:
            mode = {
                "size": sizes["max_image_size"]["longest_edge"], "longest_edge": sizes["size"]["longest_edge"], "pooled": [1, 1],
            }
            config |= {"overview": "last", "modes": {"balanced": mode | {"do_image_splitting": False}, "high": mode}}
        (out / f"{name}.json").write_text(json.dumps(config) + "\n")
        for mode in config["modes"]:
            options = keywords | ({"do_image_splitting": mode == "high"} if "high" in config["modes"] else {})
            for source, picture in sources.items():
                views = processor()(picture, **options)["pixel_values"]
                views = views.reshape(-1, *views.shape[-3:]).transpose(0, 2, 3, 1)
                levels = np.rint((views * 0.5 + 0.5) * 255).astype(np.uint8)
                stacked = Image.fromarray(levels.reshape(-1, *levels.shape[2:]))
                stacked.save(out / f"{name}_{mode}_{source}.png", optimize=True)


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
        adapters_of_transformers(out)
        vit_dinov2(out, "vit_dinov2", [(20, 20)], generator)
        vit_clip(out, generator)
        # Generators of their own: a new case leaves the others as they are.
        seeded = lambda seed: torch.Generator().manual_seed(20260102 + seed)
        vit_dinov2(out, "vit_dinov2_resampled", [(12, 28)], seeded(0))
        vit_dinov2_giant(out, seeded(1))
        vit_clip_projection(out, seeded(2))
        vit_siglip(out, seeded(3))
        vit_smolvlm(out, seeded(4))
    pictures(out)
    processors(out)


if __name__ == "__main__":
    main()
