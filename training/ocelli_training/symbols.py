"""Symbolic image tokens: what an image token should say, as a vector that the decoder can be taught to read without any picture.

Each cell of a grid over the view gets features (nouns, colours, place, size, background, and where in the order of a caption its object is
named, whether that is the last and how many there are of it), peaked at the centre of each object, and a fixed code book turns them into
`[hidden_size]`. The language stage learns to describe such tokens, at hundreds of scenes a second; the vision stage learns to make them from
pixels; the joint stage then lets both move.
"""

from __future__ import annotations

import math

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
    return num_words(num_nouns) + NUM_RANKS + NUM_COUNTS + 1  # the last noun that a caption names


def codebook(num_nouns: int, hidden_size: int) -> Tensor:
    """`[features, hidden_size]`: unit rows, orthogonal while they fit. Always the same.

    More features than dimensions: colours, places and ranks and the first nouns keep the codes of the first model, which had fewer nouns and
    was narrower, so that a model grown from it (`grow.py`) knows them; the other nouns are at right angles to all that is no noun and far
    from each other, and so is the code of the last noun from all of them: it came later than the rest.
    """
    generator = torch.Generator().manual_seed(2025)
    if num_features(num_nouns) <= hidden_size:
        rows = torch.randn(hidden_size, hidden_size, generator=generator)
        return F.normalize(torch.linalg.qr(rows.T)[0].T.contiguous()[: num_features(num_nouns)], dim=-1)
    first = F.pad(codebook(FIRST_NOUNS, FIRST_SIZE), (0, hidden_size - FIRST_SIZE))
    nouns, others = first[:FIRST_NOUNS], first[FIRST_NOUNS:-1]
    generator.manual_seed(2026)
    added = torch.randn(num_nouns - FIRST_NOUNS, hidden_size, generator=generator)
    nouns = torch.cat([nouns, spread(added - added @ others.T @ others, nouns)])
    last = torch.randn(1, hidden_size, generator=generator)
    return torch.cat([nouns, others, spread(last - last @ others.T @ others, nouns)])


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
        self.spread = 1.0 + rng.random()  # an encoder says what an object is wherever it shows
        self.phantom = 0.3  # and takes parts of it for something else
        self.rng = rng


def order_codes(place: float, others: list[float], count: int, noise: Noise | None = None) -> np.ndarray:
    """`[NUM_RANKS + NUM_COUNTS + 1]`: how likely each rank and number is, and that the noun is the last to be named.

    `place`: where the leftmost object of this noun stands; `others`: those of the other nouns. With noise each object is unsure by itself, as the
    objects of a picture are: two of them may think that they are the first.
    """
    codes = np.zeros(NUM_RANKS + NUM_COUNTS + 1, np.float32)
    if noise:
        place, vagueness = place + noise.rng.normal() * 0.02, noise.rng.uniform(0.005, 0.05)
        before = [1.0 / (1.0 + math.exp(min((other - place) / vagueness, 50.0))) for other in others]
    else:
        before = [float(other < place) for other in others]
    ranks = np.ones(1)
    for share in before:
        ranks = np.convolve(ranks, (1 - share, share))
    last = float(np.prod(before))
    if noise and noise.rng.random() < 0.15 and others:  # miscounted
        step, share = noise.rng.choice((-1, 1)), noise.rng.random()
        shifted = np.zeros_like(ranks)
        np.add.at(shifted, np.clip(np.arange(len(ranks)) + step, 0, len(others)), ranks)
        ranks = (1 - share) * ranks + share * shifted
        if noise.rng.random() < 0.5:  # an encoder often says "third" of four and knows all the same that nothing comes after
            last = (1 - share) * last + share * noise.rng.random()
    codes[: min(NUM_RANKS, len(ranks))] = ranks[:NUM_RANKS]
    numbers = [(count, 1.0)]
    if noise and noise.rng.random() < 0.2:
        share = noise.rng.random()
        numbers = [(count, 1 - share), (count + noise.rng.choice((-1, 1)), share)]
    for number, share in numbers:
        if 2 <= number <= NUM_COUNTS + 1:
            codes[NUM_RANKS + number - 2] = share
    codes[-1] = last
    return codes


def features(scene: Scene, grid: int, num_nouns: int, noise: Noise | None = None) -> np.ndarray:
    """`[grid * grid, features]` in reading order. An object's strength falls off with the distance from its centre."""
    out = np.zeros((grid, grid, num_features(num_nouns)), dtype=np.float32)
    rng = noise.rng if noise else None
    centres = (np.arange(grid, dtype=np.float32) + 0.5) / grid
    colour0 = num_nouns
    geometry0 = colour0 + len(COLOURS)
    background0 = geometry0 + NUM_GEOMETRY
    order0 = num_words(num_nouns)
    named = {group.members[0].noun: group.members for group in groups(scene)}
    for thing in scene.objects:
        cx, cy, w, h = thing.cx, thing.cy, thing.w, thing.h
        strength = colour_strength = 1.0
        if noise:
            cx, cy = cx + rng.normal() * noise.place, cy + rng.normal() * noise.place
            w, h = w * np.exp(rng.normal() * 0.1), h * np.exp(rng.normal() * 0.1)
            strength = rng.uniform(*noise.strength)
            colour_strength = rng.uniform(0.5, 1.1)
        broad = noise.spread if noise else 1.0
        sigma_x, sigma_y = max(0.5 / grid, 0.12 * broad * w), max(0.5 / grid, 0.12 * broad * h)
        dx, dy = centres - cx, centres - cy
        heat = np.exp(-0.5 * ((dy / sigma_y) ** 2)[:, None] - 0.5 * ((dx / sigma_x) ** 2)[None, :])
        heat = heat * (strength / max(heat.max(), 1e-6))
        heat[heat < 0.02] = 0.0
        out[..., thing.noun] += heat
        if noise and rng.random() < noise.confusion:
            out[..., int(rng.integers(num_nouns))] += heat * rng.uniform(0.0, 0.5)
        if noise and rng.random() < noise.phantom:
            row, column = ((np.clip(at + (rng.random() - 0.5) * size, 0, 0.999) * grid).astype(int) for at, size in ((cy, h), (cx, w)))
            out[row, column, int(rng.integers(num_nouns))] += rng.uniform(0.0, 0.5)
        if thing.colour is not None:
            out[..., colour0 + COLOURS.index(thing.colour)] += COLOUR_WEIGHT * colour_strength * heat
        others = [members[0].cx for noun, members in named.items() if noun != thing.noun]
        order = order_codes(named[thing.noun][0].cx, others, len(named[thing.noun]), noise)
        out[..., order0:] += (ORDER_WEIGHT * colour_strength * heat)[..., None] * order
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
