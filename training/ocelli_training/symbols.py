"""Symbolic image tokens: what an image token should say, as a vector that the decoder can be taught to read without any picture.

Each cell of a grid over the view gets features (nouns, colours, place, size, background, and where in the order of a caption its object is
named and how many there are of it), peaked at the centre of each object, and a fixed code book turns them into `[hidden_size]`. The language stage learns to describe such tokens, at hundreds of scenes a second; the
vision stage learns to make them from pixels; the joint stage then lets both move.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .scenes import COLOURS, PATTERNS, Scene
from .truth import groups

NUM_GEOMETRY = 4  # offset of the centre from the cell in x and y, log width, log height
NUM_RANKS = 4  # first to fourth noun that a caption names
NUM_COUNTS = 3  # two, three or four of that noun
FIRST_NOUNS, FIRST_SIZE = 60, 128  # nouns and hidden size of the first model
COLOUR_WEIGHT, GEOMETRY_WEIGHT, BACKGROUND_WEIGHT, ORDER_WEIGHT = 0.7, 0.5, 0.4, 0.7


def num_words(num_nouns: int) -> int:
    """Features that are words of a caption or geometry."""
    return num_nouns + len(COLOURS) + NUM_GEOMETRY + len(COLOURS) + len(PATTERNS)


def num_features(num_nouns: int) -> int:
    return num_words(num_nouns) + NUM_RANKS + NUM_COUNTS


def codebook(num_nouns: int, hidden_size: int) -> Tensor:
    """`[features, hidden_size]`: unit rows, orthogonal while they fit. Always the same.

    More features than dimensions: colours, places and ranks and the first nouns keep the codes of the first model, which had fewer nouns and
    was narrower, so that a model grown from it (`grow.py`) knows them; the other nouns are at right angles to all that is no noun and far
    from each other.
    """
    generator = torch.Generator().manual_seed(2025)
    if num_features(num_nouns) <= hidden_size:
        rows = torch.randn(hidden_size, hidden_size, generator=generator)
        return F.normalize(torch.linalg.qr(rows.T)[0].T.contiguous()[: num_features(num_nouns)], dim=-1)
    first = F.pad(codebook(FIRST_NOUNS, FIRST_SIZE), (0, hidden_size - FIRST_SIZE))
    nouns, others = first[:FIRST_NOUNS], first[FIRST_NOUNS:]
    generator.manual_seed(2026)
    added = torch.randn(num_nouns - FIRST_NOUNS, hidden_size, generator=generator)
    return torch.cat([nouns, spread(added - added @ others.T @ others, nouns), others])


def spread(rows: Tensor, fixed: Tensor, steps: int = 200) -> Tensor:
    """Unit rows in the directions of `rows`, moved apart from each other and from the `fixed` ones, in the space that all of them span."""
    rows = F.normalize(rows, dim=-1)
    for _ in range(steps):
        everything = torch.cat([rows, fixed])
        cosines = (rows @ everything.T).fill_diagonal_(0.0)
        rows = F.normalize(rows - 2.0 * cosines.pow(3) @ everything, dim=-1)  # downhill on the sum of cosines to the fourth
    return rows


class Noise:
    """How far from the truth the symbols that the decoder learns on may be: a vision encoder is not perfect."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.place = 0.02 * rng.random()
        self.strength = (0.5 + 0.3 * rng.random(), 1.1)
        self.token = 0.05 * rng.random()
        self.confusion = 0.15
        self.rng = rng


def ranks_and_counts(scene: Scene, noise: Noise | None = None) -> dict[int, tuple[int, int]]:
    """Of each noun: its place in the order in which captions name nouns, from zero, and how many there are."""
    found = groups(scene)
    if noise:  # who stands side by side may change places
        place = {id(group): group.members[0].cx + noise.rng.normal() * 0.03 for group in found}
        found = sorted(found, key=lambda group: place[id(group)])
    return {group.members[0].noun: (rank, len(group.members)) for rank, group in enumerate(found)}


def features(scene: Scene, grid: int, num_nouns: int, noise: Noise | None = None) -> np.ndarray:
    """`[grid * grid, features]` in reading order. An object's strength falls off with the distance from its centre."""
    out = np.zeros((grid, grid, num_features(num_nouns)), dtype=np.float32)
    rng = noise.rng if noise else None
    centres = (np.arange(grid, dtype=np.float32) + 0.5) / grid
    colour0 = num_nouns
    geometry0 = colour0 + len(COLOURS)
    background0 = geometry0 + NUM_GEOMETRY
    rank0 = num_words(num_nouns)
    order = ranks_and_counts(scene, noise)
    for thing in scene.objects:
        cx, cy, w, h = thing.cx, thing.cy, thing.w, thing.h
        strength = colour_strength = 1.0
        if noise:
            cx, cy = cx + rng.normal() * noise.place, cy + rng.normal() * noise.place
            w, h = w * np.exp(rng.normal() * 0.1), h * np.exp(rng.normal() * 0.1)
            strength = rng.uniform(*noise.strength)
            colour_strength = rng.uniform(0.5, 1.1)
        sigma_x, sigma_y = max(0.5 / grid, 0.12 * w), max(0.5 / grid, 0.12 * h)
        dx, dy = centres - cx, centres - cy
        heat = np.exp(-0.5 * ((dy / sigma_y) ** 2)[:, None] - 0.5 * ((dx / sigma_x) ** 2)[None, :])
        heat = heat * (strength / max(heat.max(), 1e-6))
        heat[heat < 0.02] = 0.0
        out[..., thing.noun] += heat
        if noise and rng.random() < noise.confusion:
            out[..., int(rng.integers(num_nouns))] += heat * rng.uniform(0.0, 0.5)
        if thing.colour is not None:
            out[..., colour0 + COLOURS.index(thing.colour)] += COLOUR_WEIGHT * colour_strength * heat
        rank, count = order[thing.noun]
        if rank < NUM_RANKS:
            out[..., rank0 + rank] += ORDER_WEIGHT * colour_strength * heat
        if 2 <= count <= NUM_COUNTS + 1:
            out[..., rank0 + NUM_RANKS + count - 2] += ORDER_WEIGHT * colour_strength * heat
        scaled = GEOMETRY_WEIGHT * heat
        out[..., geometry0] -= scaled * (dx * grid)[None, :]
        out[..., geometry0 + 1] -= scaled * (dy * grid)[:, None]
        out[..., geometry0 + 2] += scaled * (np.log(max(w, 0.02)) + 1.2)
        out[..., geometry0 + 3] += scaled * (np.log(max(h, 0.02)) + 1.2)
    for colour in scene.background.colours:
        out[..., background0 + COLOURS.index(colour)] += BACKGROUND_WEIGHT
    out[..., background0 + len(COLOURS) + PATTERNS.index(scene.background.pattern)] += BACKGROUND_WEIGHT
    return out.reshape(grid * grid, -1)


def noisy_tokens(scene: Scene, grid: int, num_nouns: int, book: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Symbolic image tokens `[grid * grid, hidden_size]` as an imperfect encoder might make them."""
    noise = Noise(rng)
    tokens = features(scene, grid, num_nouns, noise) @ book
    return tokens + rng.normal(size=tokens.shape).astype(np.float32) * noise.token
