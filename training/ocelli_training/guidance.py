"""Where the adapter's attention should look so that an image token can say the rank of its object among the nouns of a caption, and how many
there are.

Counting what stands to the left is a relation between objects; from the ranks alone the encoder does not find it in reasonable time. So four heads
of the adapter's layer are told: for a patch of an object, the first looks at the objects whose nouns are named before, one part of the weight for
each noun, the second at its equals and itself, one part for each, the third at what is named after, the fourth at its equals alone, and the
background has some parts as well (`SINKS`). So the share of the weight that lies on objects says how many they are. A rest that stays on the object
itself says nothing: object and equals have the same values. The fourth is for the step from one to two: there a third of the second head's weight
becomes a half, but of the fourth's, nothing becomes a half.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .model import EncoderLayer
from .scenes import Scene, SceneObject
from .truth import groups

MAX_OBJECTS = 9  # crowded scenes
HEADS = 4
SINKS = np.array([2.0, 2.0, 2.0, 1.0], np.float32)[:, None, None]  # parts of the weight for the background, where an object has one


def bump(thing: SceneObject, grid: int, cells: float, share: float) -> np.ndarray:
    """`[grid * grid]`, with sum 1: an object as a bell over cells in reading order, as wide as `share` of the object and at least `cells` cells."""
    centres = (np.arange(grid) + 0.5) / grid
    x = np.exp(-0.5 * ((centres - thing.cx) / max(cells / grid, share * thing.w)) ** 2)
    y = np.exp(-0.5 * ((centres - thing.cy) / max(cells / grid, share * thing.h)) ** 2)
    spread = np.outer(y, x).ravel()
    return spread / max(spread.sum(), 1e-9)


def object_maps(scene: Scene, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """`heat` `[MAX_OBJECTS, grid * grid]`: each object as a distribution over patches (rows of zeros for none); and
    `mixture` `[HEADS, MAX_OBJECTS, MAX_OBJECTS]`: how much an object (row) looks at each (column), for each head; the background has the rest."""
    heat = np.zeros((MAX_OBJECTS, grid * grid), np.float32)
    mixture = np.zeros((HEADS, MAX_OBJECTS, MAX_OBJECTS), np.float32)
    things, members = [], []
    for group in groups(scene):
        members.append(range(len(things), min(len(things) + len(group.members), MAX_OBJECTS)))
        things += group.members
    for i, thing in enumerate(things[:MAX_OBJECTS]):
        heat[i] = bump(thing, grid, 0.4, 0.15)
    for rank, own in enumerate(members):
        for i in own:
            for head, others in ((0, members[:rank]), (2, members[rank + 1 :])):
                for other in others:
                    for j in other:
                        mixture[head, i, j] = 1.0 / len(other)
            for j in own:
                mixture[1, i, j] = 1.0
                mixture[3, i, j] = float(j != i)
    mixture /= mixture.sum(-1, keepdims=True) + SINKS
    return heat, mixture


def log_sums(products: Tensor, background: Tensor, scale: float) -> Tensor:
    """`[V, HEADS, N, 2]`: log of the sum of exp(`products` * `scale`) over all keys, and over those of the background alone.

    `products` `[V, HEADS, N, N]`. One pass over what is large; the sums are a matrix product.
    """
    scores = products.float() * scale
    largest = scores.detach().amax(-1, keepdim=True)
    parts = torch.stack([torch.ones_like(background, dtype=products.dtype), background.to(products.dtype)], dim=-1)  # [V, N, 2]
    sums = (scores - largest).exp().to(products.dtype) @ parts.unsqueeze(1)
    return sums.float().clamp_min(1e-30).log() + largest


def guidance_loss(layer: EncoderLayer, features: Tensor, heat: Tensor, mixture: Tensor, background: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the first heads of `layer` from their targets, averaged over objects.

    `features` `[V, gh, gw, C]`; `heat` `[V, O, gh * gw]` and `mixture` `[V, HEADS, O, O]` of `object_maps`; `background` `[V, gh * gw]`: where
    nothing stands. Which of these patches has the rest of the weight is free. Views without any are left out.
    """
    x = layer.layer_norm1(features.flatten(1, 2))
    attention = layer.self_attn
    width = x.shape[-1] // attention.num_heads
    q, k = (p(x)[..., : HEADS * width].unflatten(-1, (HEADS, width)).transpose(1, 2) for p in (attention.q_proj, attention.k_proj))
    wanted = mixture @ heat.unsqueeze(1)  # [V, HEADS, O, N]
    rest = 1.0 - mixture.sum(-1)  # [V, HEADS, O]
    # The mean over an object's patches of log softmax(q k^T) is the product of its mean query less the mean of the logarithms of the sums.
    scale = width**-0.5
    log_sum, log_sink = log_sums(q @ k.mT, background, scale).unbind(-1)  # [V, HEADS, N]
    maps = heat.unsqueeze(1)
    seen = (maps @ q.float()) @ k.float().mT * scale - (maps @ log_sum.unsqueeze(-1))  # [V, HEADS, O, N]
    seen_sink = (maps @ (log_sink - log_sum).unsqueeze(-1)).squeeze(-1)
    entropy = torch.special.entr(wanted).sum(-1) + torch.special.entr(rest)
    divergence = -(wanted * seen).sum(-1) - rest * seen_sink - entropy
    present = ((heat.sum(-1) > 0) & background.any(-1, keepdim=True)).unsqueeze(1).expand_as(divergence)
    return divergence[present].mean() if present.any() else features.new_zeros(())
