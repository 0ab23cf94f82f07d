"""The model in PyTorch: the reference that the Rust code is checked against (docs/architecture.md, docs/format.md).

    pixels [V, 3, S, S] -> RwVitDet -> features [V, gh, gw, Cv] -> Adapter -> image tokens [V, P * P, H] -> Decoder

Module names are the tensor names of docs/format.md, so `state_dict()` is the model file.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .quant import QEmbedding, QLinear, round_ste


@dataclass
class VisionConfig:
    hidden_size: int = 192
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    patch_size: int = 28
    num_channels: int = 3
    window_size: int = 8
    num_register_tokens: int = 4
    global_layers: tuple[int, ...] = (2, 4, 5)
    position_embedding_size: tuple[int, int] = (8, 8)
    layer_norm_eps: float = 1e-6
    # (kernel_size, channels, num_blocks) of each stage; None is the plain patch embedding.
    conv_stem: tuple[tuple[int, int, int], ...] | None = ((7, 64, 1), (2, 128, 1), (2, 192, 0))


@dataclass
class TextConfig:
    vocab_size: int = 1024
    hidden_size: int = 256
    intermediate_size: int = 832
    num_hidden_layers: int = 8
    num_kv_reuse_layers: int = 3
    num_attention_heads: int = 8
    num_key_value_heads: int = 8
    rope_theta: float = 500000.0
    rms_norm_eps: float = 1e-5


@dataclass
class AdapterConfig:
    num_attention_heads: int = 6
    intermediate_size: int = 768
    layer_norm_eps: float = 1e-6
    position_embedding: bool = True


@dataclass
class OcelliConfig:
    vision: VisionConfig = field(default_factory=VisionConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    text: TextConfig = field(default_factory=TextConfig)


# ---- vision ---------------------------------------------------------------------------------------------------------


class Conv(QLinear):
    """A convolution kept as a matrix `[out, k * k * in]` in the order y, x, channel; input and output are NCHW."""

    def __init__(self, channels_in: int, channels: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__(kernel_size * kernel_size * channels_in, channels)
        self.geometry = (channels_in, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        channels_in, k, stride, padding = self.geometry
        if self.activation_bits == 8:
            # The integer kernels quantize each unfolded row by itself.
            height = (x.shape[2] + 2 * padding - k) // stride + 1
            rows = F.unfold(x, k, padding=padding, stride=stride).transpose(1, 2)
            rows = rows.reshape(*rows.shape[:2], channels_in, k * k).transpose(2, 3).flatten(2)
            return super().forward(rows).transpose(1, 2).unflatten(2, (height, -1))
        weight = self.effective_weight().reshape(-1, k, k, channels_in).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, self.bias, stride=stride, padding=padding)


def gelu(x: Tensor) -> Tensor:
    """GELU by its tanh formula; 0.5 (1 + tanh(u)) is sigmoid(2 u), which a compiled step has in half the time."""
    return x * torch.sigmoid(x * (2.0 * math.sqrt(2.0 / math.pi)) * (1.0 + 0.044715 * x * x))


class ConvBlock(nn.Module):
    """x + conv2(gelu(conv1(layer_norm(x)))), 3 x 3, zero padding 1."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=eps)
        self.conv1 = Conv(channels, channels, 3, 1, 1)
        self.conv2 = Conv(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.conv2(gelu(self.conv1(n)))


class ConvStage(nn.Module):
    def __init__(self, channels_in: int, kernel_size: int, channels: int, num_blocks: int, eps: float) -> None:
        super().__init__()
        self.proj = Conv(channels_in, channels, kernel_size, kernel_size, 0)
        self.blocks = nn.ModuleList(ConvBlock(channels, eps) for _ in range(num_blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        for block in self.blocks:
            x = block(x)
        return x


class PatchEmbed(nn.Module):
    """pixels [V, 3, S, S] -> [V, S / patch_size, S / patch_size, hidden_size]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        if config.conv_stem is None:
            self.proj = QLinear(config.num_channels * config.patch_size**2, config.hidden_size)
        else:
            inputs = [config.num_channels] + [channels for _, channels, _ in config.conv_stem]
            self.stages = nn.ModuleList(
                ConvStage(inputs[i], kernel, channels, blocks, config.layer_norm_eps)
                for i, (kernel, channels, blocks) in enumerate(config.conv_stem)
            )

    def forward(self, pixels: Tensor) -> Tensor:
        if hasattr(self, "stages"):
            x = pixels.contiguous(memory_format=torch.channels_last)
            for stage in self.stages:
                x = stage(x)
            return x.permute(0, 2, 3, 1)
        p = self.patch_size
        views, channels, height, width = pixels.shape
        x = pixels.reshape(views, channels, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        return self.proj(x.flatten(3))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over `[..., tokens, d]`; a query looks where `mask` is true.

    Written out: on a CPU the gradient of PyTorch's fused attention takes half of the time of a training step.
    """
    return attention_weights(q @ k.mT, mask, q.shape[-1] ** -0.5) @ v


def attention_weights(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    weights = scores.float() * scale
    if mask is not None:
        weights = weights.masked_fill(~mask, -1e9)
    return weights.softmax(-1).to(scores.dtype)


class SelfAttention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = QLinear(hidden_size, hidden_size)
        self.k_proj = QLinear(hidden_size, hidden_size)
        self.v_proj = QLinear(hidden_size, hidden_size)
        self.out_proj = QLinear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.fc1 = QLinear(hidden_size, intermediate_size)
        self.fc2 = QLinear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer over `[sequences, tokens, hidden_size]`, attention inside each sequence."""

    def __init__(self, hidden_size: int, intermediate_size: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(hidden_size, eps=eps)
        self.self_attn = SelfAttention(hidden_size, num_heads)
        self.layer_norm2 = nn.LayerNorm(hidden_size, eps=eps)
        self.mlp = Mlp(hidden_size, intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


def smooth_positions(height: int, width: int, hidden_size: int, amplitude: float = 4.0) -> Tensor:
    """`[height, width, hidden_size]` to start from: slow cosines of x and y along directions at right angles to each other.

    A table of small random numbers drowns in what the convolutional stem says of the pixels and does not grow; the layers then cannot tell
    left from right. `amplitude` is that of each wave.
    """
    waves = min(4, hidden_size // 2)
    directions = torch.linalg.qr(torch.randn(hidden_size, 2 * waves))[0].T
    frequency = math.pi * torch.arange(1, waves + 1)[:, None]
    y, x = (torch.cos(frequency * (torch.arange(size) + 0.5) / size) for size in (height, width))
    rows, columns = y.T @ directions[:waves], x.T @ directions[waves:]
    return amplitude * (rows[:, None] + columns[None])


class RwVitDet(nn.Module):
    """ViTDet with register windows.

    windowed layer, each window w:  [r_w ; x_w] <- layer([r_w ; x_w])
    global layer:                   r <- mean over w of r_w;  [r ; x] <- layer([r ; x]);  r_w <- r
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.position_embedding = nn.Parameter(smooth_positions(*config.position_embedding_size, config.hidden_size))
        self.register_tokens = nn.Parameter(torch.randn(config.num_register_tokens, config.hidden_size) * 0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(config.hidden_size, config.intermediate_size, config.num_attention_heads, config.layer_norm_eps)
            for _ in range(config.num_hidden_layers)
        )
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def positions(self, height: int, width: int) -> Tensor:
        table = self.position_embedding
        if table.shape[:2] == (height, width):
            return table
        table = F.interpolate(table.permute(2, 0, 1)[None], (height, width), mode="bicubic", align_corners=False)
        return table[0].permute(1, 2, 0)

    def forward(self, pixels: Tensor, frozen_layers: int = 0) -> tuple[Tensor, Tensor]:
        """features `[V, gh, gw, hidden_size]` and the mean of the registers `[V, hidden_size]`.

        `frozen_layers` > 0: no gradient for the patch embedding and that many layers; large views cost half as much then.
        """
        recording = torch.is_grad_enabled()
        torch.set_grad_enabled(recording and frozen_layers == 0)
        x = self.patch_embed(pixels)
        views, height, width, hidden = x.shape
        x = x + self.positions(height, width)
        size, registers = self.config.window_size, self.config.num_register_tokens
        rows = [(y, min(y + size, height)) for y in range(0, height, size)]
        columns = [(c, min(c + size, width)) for c in range(0, width, size)]
        windows = [(y0, y1, x0, x1) for y0, y1 in rows for x0, x1 in columns]
        # [V, windows, R, hidden]: every window has its own copy of the registers.
        r = self.register_tokens.expand(views, len(windows), -1, -1)
        for index, layer in enumerate(self.layers):
            if index == frozen_layers:
                torch.set_grad_enabled(recording)
            if index in self.config.global_layers:
                tokens = layer(torch.cat([r.mean(1), x.flatten(1, 2)], dim=1))
                r = tokens[:, :registers].unsqueeze(1).expand(-1, len(windows), -1, -1)
                x = tokens[:, registers:].unflatten(1, (height, width))
            elif height % size == 0 and width % size == 0:
                nh, nw = height // size, width // size
                w = x.reshape(views, nh, size, nw, size, hidden).transpose(2, 3).reshape(views * nh * nw, size * size, hidden)
                tokens = layer(torch.cat([r.flatten(0, 1), w], dim=1))
                r = tokens[:, :registers].unflatten(0, (views, -1))
                x = tokens[:, registers:].reshape(views, nh, nw, size, size, hidden).transpose(2, 3)
                x = x.reshape(views, height, width, hidden)
            else:
                x, r = self.uneven_windows(layer, x, r, windows)
        torch.set_grad_enabled(recording)
        x = self.post_layernorm(x)
        return x, self.post_layernorm(r.mean(1)).mean(1)

    def uneven_windows(self, layer: nn.Module, x: Tensor, r: Tensor, windows: list) -> tuple[Tensor, Tensor]:
        """A grid that the window does not divide has smaller windows at its right and bottom edges."""
        count = self.config.num_register_tokens
        out, out_r = torch.empty_like(x), []
        for i, (y0, y1, x0, x1) in enumerate(windows):
            tokens = layer(torch.cat([r[:, i], x[:, y0:y1, x0:x1].flatten(1, 2)], dim=1))
            out_r.append(tokens[:, :count])
            out[:, y0:y1, x0:x1] = tokens[:, count:].unflatten(1, (y1 - y0, x1 - x0))
        return out, torch.stack(out_r, dim=1)


# ---- adapter --------------------------------------------------------------------------------------------------------


class Adapter(nn.Module):
    """features [V, gh, gw, Cv] -> image tokens [V, P * P, H]: layer, linear, 3 x 3 convolution, average pooling."""

    def __init__(self, config: AdapterConfig, vision_size: int, hidden_size: int) -> None:
        super().__init__()
        self.layer = EncoderLayer(vision_size, config.intermediate_size, config.num_attention_heads, config.layer_norm_eps)
        self.proj = QLinear(vision_size, hidden_size)
        self.conv = QLinear(9 * hidden_size, hidden_size)
        if config.position_embedding:
            self.position_embedding = nn.Parameter(smooth_positions(12, 12, hidden_size, 0.4))

    def positions(self, pooled: int) -> Tensor | float:
        """`[pooled * pooled, H]`: a smaller grid takes the mean of each block of the 12 x 12 table."""
        if not hasattr(self, "position_embedding"):
            return 0.0
        table = self.position_embedding
        block = table.shape[0] // pooled
        return table.reshape(pooled, block, pooled, block, -1).mean((1, 3)).flatten(0, 1)

    def forward(self, features: Tensor, pooled: int) -> Tensor:
        return self.pool(features, pooled) + self.positions(pooled)

    def project(self, features: Tensor) -> Tensor:
        """The layer and the linear map: `[V, H, gh, gw]`."""
        return self.proj(self.layer(features.flatten(1, 2))).unflatten(1, features.shape[1:3]).permute(0, 3, 1, 2)

    def pool(self, features: Tensor, pooled: int) -> Tensor:
        """The image tokens before their position embedding."""
        return self.pool_projected(self.project(features), pooled)

    def pool_projected(self, x: Tensor, pooled: int) -> Tensor:
        """The convolution and the average pooling of what `project` gives."""
        height, width = x.shape[2:]
        # No non-linearity stands between convolution and pooling: pool the nine shifted grids, then one product.
        x = F.pad(x, (1, 1, 1, 1))
        stride = (height // pooled, width // pooled)
        kernel = (height - (pooled - 1) * stride[0], width - (pooled - 1) * stride[1])
        shifted = [F.avg_pool2d(x[:, :, dy : dy + height, dx : dx + width], kernel, stride) for dy in range(3) for dx in range(3)]
        tokens = torch.stack(shifted, dim=1).permute(0, 3, 4, 1, 2).flatten(3).flatten(1, 2)
        return self.conv(tokens)


# ---- decoder: AFMTextV7 ---------------------------------------------------------------------------------------------


class RmsNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin `[..., head_dim / 2]`; the frequency is rounded to f32 and the angle is an f32 product."""
    exponents = torch.arange(head_dim // 2, dtype=torch.float64) * (-2.0 / head_dim)
    angle = positions.float().unsqueeze(-1) * (theta**exponents).float()
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Interleaved pairs (2i, 2i + 1); x `[B, heads, T, head_dim]`, tables `[B, 1, T, head_dim / 2]`."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def rotate_and_norm(x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The rotation comes first, then the norm of each head (SEMANTICS 1.2)."""
    return rms_norm(rotate(x, cos, sin), weight, eps)


def fake_quantize_kv(x: Tensor) -> Tensor:
    """8-bit cache: one scale for each token and KV head (last dimension). The gradient is that of the identity: keys and values learn in QAT."""
    scale = x.detach().abs().amax(-1, keepdim=True) / 127.0
    return round_ste(x / scale.clamp_min(1e-30)).clamp(-127, 127) * scale


class DecoderAttention(nn.Module):
    def __init__(self, config: TextConfig, reuse: bool) -> None:
        super().__init__()
        h, g = config.num_attention_heads, config.num_key_value_heads
        self.heads, self.kv_heads, self.head_dim = h, g, config.hidden_size // h
        d = self.head_dim
        self.reuse = reuse
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        if reuse:
            self.q_transform = QLinear(config.hidden_size, h * d, bias=False)
            self.q_norm = nn.ModuleDict({"query_norm": RmsNorm(d, config.rms_norm_eps)})
        else:
            self.qkv_transform = nn.ModuleDict({"fused_linear": QLinear(config.hidden_size, (h + 2 * g) * d, bias=False)})
            self.qk_norm = nn.ModuleDict(
                {"query_norm": RmsNorm(d, config.rms_norm_eps), "key_norm": RmsNorm(d, config.rms_norm_eps)}
            )
        self.output_transform = QLinear(h * d, config.hidden_size, bias=False)

    def split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def positioned(self, x: Tensor, heads: int, norm: RmsNorm, rope: tuple[Tensor, Tensor]) -> Tensor:
        return rotate_and_norm(self.split(x, heads), *rope, norm.weight, norm.eps)

    def project(self, x: Tensor, rope) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Queries `[B, heads, T, head_dim]`, and keys and values `[B, KV heads, T, head_dim]`, None where those of another layer are reused."""
        n = self.norm(x)
        if self.reuse:
            return self.positioned(self.q_transform(n), self.heads, self.q_norm["query_norm"], rope), None, None
        h, g, d = self.heads, self.kv_heads, self.head_dim
        q, k, v = self.qkv_transform["fused_linear"](n).split([h * d, g * d, g * d], dim=-1)
        q = self.positioned(q, h, self.qk_norm["query_norm"], rope)
        return q, self.positioned(k, g, self.qk_norm["key_norm"], rope), self.split(v, g)

    def log_weights(self, queries: Tensor, keys: Tensor, mask: Tensor, heads: range) -> Tensor:
        """Where some heads look: logarithms `[B, heads, T, T]`, for training that tells them where to."""
        chosen = torch.tensor(heads)
        products = queries[:, chosen] @ keys[:, chosen // (self.heads // self.kv_heads)].mT
        return (products.float() * self.head_dim**-0.5).masked_fill(~mask, -1e9).log_softmax(-1)

    def forward(self, x: Tensor, kv: tuple[Tensor, Tensor] | None, rope, mask: Tensor | None, quantize_kv: bool):
        q, k, v = self.project(x, rope)
        if self.reuse:
            k, v = kv
        else:
            if quantize_kv:
                k, v = fake_quantize_kv(k), fake_quantize_kv(v)
            if kv is not None:
                k, v = torch.cat([kv[0], k], dim=2), torch.cat([kv[1], v], dim=2)
        groups = self.heads // self.kv_heads
        if mask is None:
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])
        keys, values = (k, v) if groups == 1 else (k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1))
        out = attend(q, keys, values, mask)
        return x + self.output_transform(out.transpose(1, 2).flatten(2)), (k, v)


class FeedForward(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.hidden_transform = nn.ModuleDict(
            {
                "linear_0": QLinear(config.hidden_size, config.intermediate_size, bias=False),
                "linear_1": QLinear(config.hidden_size, config.intermediate_size, bias=False),
            }
        )
        self.output_transform = QLinear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        return x + self.output_transform(F.silu(self.hidden_transform["linear_0"](n)) * self.hidden_transform["linear_1"](n))


class DecoderLayer(nn.Module):
    def __init__(self, config: TextConfig, reuse: bool) -> None:
        super().__init__()
        self.attention = DecoderAttention(config, reuse)
        self.feed_forward = FeedForward(config)

    def forward(self, x, kv, rope, mask, quantize_kv):
        x, kv = self.attention(x, kv, rope, mask, quantize_kv)
        return self.feed_forward(x), kv


# Layer of segment 0 -> its keys and values `[B, KV heads, cached, head_dim]`.
Cache = dict[str, tuple[Tensor, Tensor]]


class Decoder(nn.Module):
    """AFMTextV7: the layers of segment 1 attend to the keys and values of the last layer of segment 0."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = QEmbedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embedding.weight, std=0.05)
        regular = config.num_hidden_layers - config.num_kv_reuse_layers
        self.layers = nn.ModuleDict(
            {
                "segment_0": nn.ModuleDict({f"layer_{i}": DecoderLayer(config, False) for i in range(regular)}),
                "segment_1": nn.ModuleDict(
                    {f"layer_{j}": DecoderLayer(config, True) for j in range(config.num_kv_reuse_layers)}
                ),
            }
        )
        self.output_norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.quantize_kv = False

    def forward(self, embeddings: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache | None = None) -> Tensor:
        """Hidden states after the output norm; `mask` `[B, 1, T, cached + T]` is true where a query may look.

        `cache` holds the keys and values of earlier calls and is extended by those of this one.
        """
        return self.states(embeddings, positions, mask, cache)[0]

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin `[B, 1, T, head_dim / 2]`."""
        cos, sin = rotary_tables(positions, self.config.hidden_size // self.config.num_attention_heads, self.config.rope_theta)
        return cos.unsqueeze(1), sin.unsqueeze(1)

    def states(self, embeddings: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache | None = None) -> tuple[Tensor, list[Tensor]]:
        """The same, and what each layer reads."""
        rope = self.rope(positions)
        x, kv, inputs = embeddings, None, []
        for segment in self.layers.values():
            for name, layer in segment.items():
                inputs.append(x)
                if layer.attention.reuse:
                    x, kv = layer(x, kv, rope, mask, self.quantize_kv)
                    continue
                x, kv = layer(x, cache.get(name) if cache else None, rope, mask, self.quantize_kv)
                if cache is not None:
                    cache[name] = kv
        return self.output_norm(x), inputs

    def logits(self, hidden: Tensor) -> Tensor:
        return self.embedding(hidden)


class Ocelli(nn.Module):
    """The whole. `state_dict()` keys: `vision.*`, `adapter.*`, and the decoder's own without prefix (see `export`)."""

    def __init__(self, config: OcelliConfig | None = None) -> None:
        super().__init__()
        self.config = config or OcelliConfig()
        self.vision = RwVitDet(self.config.vision)
        self.adapter = Adapter(self.config.adapter, self.config.vision.hidden_size, self.config.text.hidden_size)
        self.decoder = Decoder(self.config.text)
        init_weights(self)

    def image_tokens(self, pixels: Tensor, pooled: int) -> Tensor:
        features, _ = self.vision(pixels)
        return self.adapter(features, pooled)


def compile_parts(model: Ocelli) -> None:
    """Fuses what lies between the products, for training on a CPU; needs a C++ compiler. Parameters keep their names.

    Attention layers are not compiled as a whole: PyTorch 2.15 compiles the gradient of the norm of their keys to NaN.
    """
    from . import guidance  # which knows the layers of this module

    torch._dynamo.config.recompile_limit = 64  # one for each shape and kind of layer
    for module, names in ((sys.modules[__name__], ("rms_norm", "rotate_and_norm", "attention_weights")), (guidance, ("log_sums",))):
        for name in names:
            setattr(module, name, torch.compile(getattr(module, name), dynamic=False))
    layers = [model.vision.patch_embed, *model.vision.layers, model.adapter.layer]
    layers += [layer.feed_forward for segment in model.decoder.layers.values() for layer in segment.values()]
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=False)


def init_weights(module: nn.Module) -> None:
    """Fan-in normal for matrices, zero biases; residual outputs start small."""
    for name, child in module.named_modules():
        if isinstance(child, QEmbedding) or not isinstance(child, QLinear):
            continue
        std = 1.0 / math.sqrt(child.in_features)
        if name.endswith(("out_proj", "fc2", "conv2", "output_transform")):
            std *= 0.3
        elif name == "adapter.conv":
            std *= 0.1
        nn.init.normal_(child.weight, std=std)
        if child.bias is not None:
            nn.init.zeros_(child.bias)
