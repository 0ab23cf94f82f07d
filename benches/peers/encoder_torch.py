"""The encoders of the report in PyTorch, with random weights: prints the seconds of each pass as JSON.

encoder_torch.py MODEL SIDE DTYPE THREADS PASSES        MODEL vitdet-l (windows of 16, three global layers), vit-l (all global) or vit-g
encoder_torch.py adapter 672 DTYPE THREADS PASSES       projection, 3 x 3 convolution of all patches, then average pooling to 12 x 12
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

# Width, width of the MLP, layers, heads, layers that attend over the whole grid (None: all).
SIZES = {
    "vitdet-l": (1024, 4096, 24, 16, {7, 15, 23}),
    "vit-l": (1024, 4096, 24, 16, None),
    "vit-g": (1408, 6144, 40, 16, None),
}
WINDOW = 16


class Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, is_global: bool):
        super().__init__()
        self.heads, self.is_global = heads, is_global
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens, width = x.shape
        side = int(tokens**0.5)
        qkv = self.qkv(self.norm1(x))
        windows = 1 if self.is_global else side // WINDOW
        inside = side // windows
        # [3, windows, heads, tokens of a window, head_dim]
        qkv = qkv.view(windows, inside, windows, inside, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, windows**2, self.heads, inside**2, -1)
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.view(windows, windows, self.heads, inside, inside, -1).permute(0, 3, 1, 4, 2, 5).reshape(tokens, width)
        x = x + self.out(y)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        width, inner, layers, heads, global_layers = SIZES[name]
        self.patches = nn.Linear(3 * 14 * 14, width)
        is_global = [global_layers is None or layer in global_layers for layer in range(layers)]
        self.layers = nn.Sequential(*(Layer(width, inner, heads, value) for value in is_global))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layers(self.patches(x)))


class DirectAdapter(nn.Module):
    """What follows the adapter's transformer layer, in the order of its description."""

    def __init__(self):
        super().__init__()
        self.proj, self.conv = nn.Linear(1024, 2048), nn.Conv2d(2048, 2048, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = int(x.shape[0] ** 0.5)
        grid = self.proj(x).T.reshape(1, 2048, side, side)
        return F.adaptive_avg_pool2d(self.conv(grid), 12)


def build(name: str, side: int) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    num_patches = (side // 14) ** 2
    if name == "adapter":
        return DirectAdapter().eval(), torch.randn(num_patches, 1024)
    return Encoder(name).eval(), torch.randn(num_patches, 3 * 14 * 14)


def main() -> None:
    name, side, dtype, threads, passes = sys.argv[1:6]
    torch.set_num_threads(int(threads))
    model, x = build(name, int(side))
    if dtype == "bf16":
        model, x = model.bfloat16(), x.bfloat16()
    seconds = []
    with torch.inference_mode():
        model(x)
        for _ in range(int(passes)):
            start = time.perf_counter()
            model(x)
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "version": f"torch {torch.__version__}"}))


if __name__ == "__main__":
    main()
