"""Where the adapter's attention should look so that an image token can say the rank of its object among the nouns of a caption, and how many there are.

Counting what stands to the left is a relation between objects; from the ranks alone the encoder does not find it in reasonable time. So two heads
of the adapter's layer are told: for a patch of an object, the first looks at the objects whose nouns are named before, the second at its equals,
`1 / SHARE` of the weight for each, and the rest stays on the object itself. How much went elsewhere is the number.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .model import EncoderLayer
from .scenes import Scene
from .truth import groups

MAX_OBJECTS = 9  # crowded scenes
SHARE = 4  # the most that a caption names


def object_maps(scene: Scene, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """`heat` `[MAX_OBJECTS, grid * grid]`: each object as a distribution over patches (rows of zeros for none); and
    `mixture` `[2, MAX_OBJECTS, MAX_OBJECTS]`: how much an object (row) looks at each (column), for both heads."""
    heat = np.zeros((MAX_OBJECTS, grid * grid), np.float32)
    mixture = np.zeros((2, MAX_OBJECTS, MAX_OBJECTS), np.float32)
    centres = (np.arange(grid) + 0.5) / grid
    things, members = [], []
    for group in groups(scene):
        members.append(range(len(things), min(len(things) + len(group.members), MAX_OBJECTS)))
        things += group.members
    for i, thing in enumerate(things[:MAX_OBJECTS]):
        x = np.exp(-0.5 * ((centres - thing.cx) / max(0.4 / grid, 0.15 * thing.w)) ** 2)
        y = np.exp(-0.5 * ((centres - thing.cy) / max(0.4 / grid, 0.15 * thing.h)) ** 2)
        spread = np.outer(y, x).ravel()
        heat[i] = spread / max(spread.sum(), 1e-9)
    for rank, own in enumerate(members):
        for i in own:
            for before in members[max(0, rank - SHARE + 1) : rank]:
                for j in before:
                    mixture[0, i, j] = 1.0 / (SHARE * len(before))
            for j in own[:SHARE]:
                mixture[1, i, j] = 1.0 / SHARE
            for head in mixture:
                head[i, i] += max(0.0, 1.0 - head[i].sum())
    return heat, mixture


def guidance_loss(layer: EncoderLayer, features: Tensor, heat: Tensor, mixture: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the first two heads of `layer` from their targets, averaged over objects.

    `features` `[V, gh, gw, C]`; `heat` `[V, O, gh * gw]` and `mixture` `[V, 2, O, O]` of `object_maps`.
    """
    x = layer.layer_norm1(features.flatten(1, 2))
    attention = layer.self_attn
    width = x.shape[-1] // attention.num_heads
    q, k = (p(x)[..., : 2 * width].unflatten(-1, (2, width)).transpose(1, 2) for p in (attention.q_proj, attention.k_proj))
    log_weights = torch.log_softmax(q @ k.mT / width**0.5, dim=-1)  # [V, 2, N, N]
    wanted = mixture @ heat.unsqueeze(1)  # [V, 2, O, N]
    seen = heat.unsqueeze(1) @ log_weights  # [V, 2, O, N]: the mean over the patches of each object
    entropy = torch.special.entr(wanted).sum(-1)
    divergence = -(wanted * seen).sum(-1) - entropy
    present = (heat.sum(-1) > 0).unsqueeze(1).expand_as(divergence)
    return divergence[present].mean() if present.any() else features.new_zeros(())
