"""Where the decoder's attention should look: at a noun, the image tokens of what it names; before a noun of an answer, those of what is named next,
and what was named already; and where an answer compares two nouns or says one again, these.

A direction depends on two places, so each noun has to fetch the place of what it names before the answer can compare them. From the words alone
(one in twenty tells of it) that is not learned in hours: places at nouns were 0.15 of the side off in balanced mode, although the image tokens
told them to 0.04. So some heads are told where to look, as those of the adapter are (`guidance.py`): what they fetch, they learn. Nor is the
comparison: with places that told 0.93 of directions, 0.63 were said right. So the offset from one to the other is asked of the state as well.

In high mode a thing is seen twice, in the overview and larger in a tile. The tile's tokens know better what it is; the overview's alone know which of
all things it is. So a noun looks at both, and in between the tile's tokens look at those of the overview. What is named next is looked for in the
tile above all: of the smallest, the overview often takes one for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .guidance import bump
from .model import Decoder
from .scenes import Scene
from .truth import groups

NOTHING = -1  # where no noun is named
MAX_THINGS = 4  # groups of equal nouns in a scene of which one speaks
ABSENT = MAX_THINGS  # the row of nouns that the picture does not show
# Which rows of `Things` which heads of which layer look at. What the first layer fetches, the second can use; a word that comes next goes
# through the heads of the second: 64 numbers would be few for 264 nouns.
# Where things stand close, the first look at what comes next falls on more than one, and its 128 numbers say something in between: a second one,
# by the first layer that reuses keys, knows from the first what it is looking for.
NAMED_LAYER, NEXT_LAYER, SECOND_LOOK_LAYER = 1, 3, 5
NAMED_HEADS = range(2)
GUIDED = (("named", NAMED_LAYER, NAMED_HEADS), ("next_named", NEXT_LAYER, range(4)), ("next_named", SECOND_LOOK_LAYER, range(3, 8)))
# Between the two: before a noun, all that the turn has named. Of two things that stand above each other, the image tokens hardly tell which comes
# first, and one was named twice in a row instead of each once ("an apple and an apple").
SAID_LAYER, SAID_HEADS = 2, range(2)
# The last layer with keys of its own: of earlier tokens, it and all above know what it reads. Its first heads look at the nouns that are compared, and
# at one that is said again: second sentences named what the first did not, and nothing else showed.
COMPARING_LAYER, POINTED = 4, ("first_compared", "second_compared", "repeated")
PLACE_SCALE = 4.0
NEXT_OVERVIEW = 0.2  # of its part among equals: before a noun, how much to look at the overview, where tiles show the thing as well
CLEARLY = 0.4  # of the strongest look at a thing: there a token is one of the thing's own


@dataclass(frozen=True)
class Things:
    """What a scene shows, noun by noun."""

    rows: dict[int, int]  # noun -> row
    looks: np.ndarray  # [MAX_THINGS + 1, 1 + V * P * P]: how much to look at the first token of all, and at the V views'; an absent noun: at the first
    places: np.ndarray  # [MAX_THINGS + 1, 2]: x to the right and y down, 0 to 1, of what stands there once; NaN elsewhere
    shown: np.ndarray  # [V * P * P]: the row of the thing that a tile shows there; NOTHING elsewhere and in the overview

    @classmethod
    def of(cls, scene: Scene, grid: int, tiles: Sequence[Scene] = ()) -> Things:
        """`scene` is the first view, `tiles` are those after it; each has `grid * grid` tokens."""
        cells = grid * grid
        looks = np.zeros((MAX_THINGS + 1, 1 + (1 + len(tiles)) * cells), np.float32)
        places = np.full((MAX_THINGS + 1, 2), np.nan, np.float32)
        shown = np.full((1 + len(tiles)) * cells, NOTHING)
        rows = {}
        for row, group in enumerate(groups(scene)[:MAX_THINGS]):
            rows[group.noun.index] = row
            looks[row, 1 : 1 + cells] = sum(bump(thing, grid, 0.5, 0.12) for thing in group.members)
            for start, tile in zip(range(cells, len(shown), cells), tiles, strict=True):
                for thing in tile.objects:
                    if thing.noun == group.noun.index:
                        look = bump(thing, grid, 0.5, 0.12)
                        looks[row, 1 + start : 1 + start + cells] += look
                        shown[start : start + cells][look > CLEARLY * look.max()] = row
            looks[row] /= looks[row].sum()
            if group.single:
                places[row] = group.single.cx, group.single.cy
        looks[ABSENT, 0] = 1.0
        return cls(rows, looks, places, shown)

    def row(self, noun: int) -> int:
        return self.rows.get(noun, ABSENT)


def mostly_at_tiles(looks: Tensor, overview: int) -> Tensor:
    """`looks` `[nouns, N]` with less at the first `overview` tokens, where there is something else to look at."""
    looks = torch.cat([NEXT_OVERVIEW * looks[:, :overview], looks[:, overview:]], dim=-1)
    return looks / looks.sum(-1, keepdim=True)


def look_loss(decoder: Decoder, inputs: list[Tensor], batch: dict, image_tokens: Tensor) -> Tensor:
    """Kullback-Leibler divergence of some heads of five layers from where they should look, averaged over nouns; `inputs`: `Decoder.states`,
    `image_tokens` `[V * P * P]`: where they stand in each sequence."""
    columns = F.pad(image_tokens, (1, 0))
    attentions = [layer.attention for segment in decoder.layers.values() for layer in segment.values()]
    rope, losses = decoder.rope(batch["positions"]), []

    def add(looks: Tensor, log_looked: Tensor) -> None:
        """`looks` `[nouns, N]`: how much to look at each of N tokens; `log_looked` `[nouns, heads, N]`: how much the heads do."""
        losses.append(-((looks.unsqueeze(1) * log_looked).sum(-1).mean(-1) + torch.special.entr(looks).sum(-1)).mean())

    @cache
    def project(index: int) -> tuple[Tensor, ...]:
        return attentions[index].project(inputs[index], rope)

    @cache  # two losses ask for the same heads
    def log_weights(index: int, heads: range) -> Tensor:
        queries, keys = project(index)[0], project(min(index, COMPARING_LAYER))[1]
        return attentions[index].log_weights(queries, keys, batch["mask"], heads)

    gaps = (image_tokens.diff() > 1).nonzero().flatten()
    overview = 2 + int(gaps[0]) if len(gaps) else len(columns)  # the first token of all, and those up to the first gap
    for name, index, heads in GUIDED:
        wanted = batch[name]
        rows, tokens = (wanted >= 0).nonzero(as_tuple=True)
        if len(rows):
            looks = batch["looks"][rows, wanted[rows, tokens]]
            if name == "next_named":
                looks = mostly_at_tiles(looks, overview)
            add(looks, log_weights(index, heads)[rows, :, tokens][..., columns])
    rows, tokens = (batch["shown"] >= 0).nonzero(as_tuple=True)
    if len(rows):
        looks = batch["looks"][rows, batch["shown"][rows, tokens], :overview]
        add(looks / looks.sum(-1, keepdim=True), log_weights(NAMED_LAYER, NAMED_HEADS)[rows, :, tokens][..., columns[:overview]])
    rows, tokens = (batch["next_named"] >= 0).nonzero(as_tuple=True)
    if len(rows):
        said = (batch["mask"][rows, 0, tokens] & (batch["named"][rows] >= 0)).float()
        said[:, 0] = (said.sum(-1) == 0).float()  # nothing yet
        add(said / said.sum(-1, keepdim=True), log_weights(SAID_LAYER, SAID_HEADS)[rows, :, tokens])
    comparing = log_weights(COMPARING_LAYER, range(len(POINTED)))
    for head, name in enumerate(POINTED):
        rows, tokens = (batch[name] >= 0).nonzero(as_tuple=True)
        if len(rows):
            losses.append(-comparing[rows, head, tokens, batch[name][rows, tokens]].mean())
    return sum(losses) if losses else inputs[0].new_zeros(())


def known_places(inputs: list[Tensor]) -> dict[str, Tensor]:
    """Six numbers of the state at each token, as places and offsets `[B, T, 2]` in sides of the picture; `inputs`: `Decoder.states`.

    `named`, the last two of what `COMPARING_LAYER` reads: at a noun, the place of what it names. `next_named`, the two before them: in an answer, the
    place of what is named next. `offset`, the two before those, after that layer: from the second of two nouns that are compared to the first, which a
    direction needs.
    """
    # As the next layers see them.
    read, compared = (F.rms_norm(x, x.shape[-1:]).float() / PLACE_SCALE for x in inputs[COMPARING_LAYER : COMPARING_LAYER + 2])
    return {"named": read[..., -2:] + 0.5, "next_named": read[..., -4:-2] + 0.5, "offset": compared[..., -6:-4]}


def place_loss(inputs: list[Tensor], batch: dict) -> Tensor:
    """How far `known_places` are from what the tokens of a turn should know."""
    known, losses = known_places(inputs), []

    def add(name: str, rows: Tensor, tokens: Tensor, wanted: Tensor) -> None:
        single = ~wanted[:, 0].isnan()
        if single.any():
            losses.append(F.smooth_l1_loss(PLACE_SCALE * known[name][rows, tokens][single], PLACE_SCALE * wanted[single]))

    for name in ("named", "next_named"):
        rows, tokens = (batch[name] >= 0).nonzero(as_tuple=True)
        add(name, rows, tokens, batch["places"][rows, batch[name][rows, tokens]])
    first, second = batch["first_compared"], batch["second_compared"]
    led_to = torch.where(second >= 0, batch["named"].gather(1, second.clamp_min(0)), batch["next_named"])
    rows, tokens = ((first >= 0) & (led_to >= 0)).nonzero(as_tuple=True)
    start = batch["named"][rows, first[rows, tokens]]
    add("offset", rows, tokens, batch["places"][rows, start] - batch["places"][rows, led_to[rows, tokens]])
    return sum(losses) if losses else inputs[0].new_zeros(())
