"""Where the decoder's attention should look: at a noun, the image tokens of what it names; before a noun of an answer, those of what is named next.

A direction depends on two places, so each noun has to fetch the place of what it names before the answer can compare them. From the words alone
(one in twenty tells of it) that is not learned in hours: places at nouns were 0.15 of the side off in balanced mode, although the image tokens
told them to 0.04. So some heads are told where to look, as those of the adapter are (`guidance.py`): what they fetch, they learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .guidance import bump
from .model import Decoder
from .scenes import Scene
from .truth import groups

MAX_THINGS = 4  # groups of equal nouns in a scene of which one speaks
ABSENT = MAX_THINGS  # the row of nouns that the picture does not show
# Which rows of `Things` the first heads of which layer look at. What the first layer fetches, the second can use; a word that comes next goes
# through the heads of the second: 64 numbers would be few for 264 nouns.
NAMED_LAYER, NEXT_LAYER = 1, 3
GUIDED = (("named", NAMED_LAYER, 2), ("next_named", NEXT_LAYER, 4))
PLACE_SCALE = 4.0


@dataclass(frozen=True)
class Things:
    """What a scene shows, noun by noun."""

    rows: dict[int, int]  # noun -> row
    looks: np.ndarray  # [MAX_THINGS + 1, 1 + P * P]: how much to look at the first token of all, and at those of the first view; an absent noun: at the first
    places: np.ndarray  # [MAX_THINGS + 1, 2]: x to the right and y down, 0 to 1, of what stands there once; NaN elsewhere

    @classmethod
    def of(cls, scene: Scene, grid: int) -> Things:
        looks = np.zeros((MAX_THINGS + 1, 1 + grid * grid), np.float32)
        places = np.full((MAX_THINGS + 1, 2), np.nan, np.float32)
        rows = {}
        for row, group in enumerate(groups(scene)[:MAX_THINGS]):
            rows[group.noun.index] = row
            looks[row, 1:] = np.mean([bump(thing, grid, 0.5, 0.12) for thing in group.members], axis=0)
            if group.single:
                places[row] = group.single.cx, group.single.cy
        looks[ABSENT, 0] = 1.0
        return cls(rows, looks, places)

    def row(self, noun: int) -> int:
        return self.rows.get(noun, ABSENT)


def look_loss(decoder: Decoder, inputs: list[Tensor], batch: dict, first_image_token: int) -> Tensor:
    """Kullback-Leibler divergence of the first heads of two layers from where they should look, averaged over nouns; `inputs`: `Decoder.states`."""
    columns = torch.cat([torch.zeros(1, dtype=torch.long), first_image_token + torch.arange(batch["looks"].shape[-1] - 1)])
    layers, losses = list(decoder.layers["segment_0"].values()), []
    for name, index, heads in GUIDED:
        wanted = batch[name]
        rows, tokens = (wanted >= 0).nonzero(as_tuple=True)
        if len(rows):
            log_weights = layers[index].attention.log_weights(inputs[index], decoder.rope(batch["positions"]), batch["mask"], heads)
            said = log_weights[rows, :, tokens][..., columns]  # [nouns, heads, 1 + P * P]
            looks = batch["looks"][rows, wanted[rows, tokens]]
            losses.append(-((looks.unsqueeze(1) * said).sum(-1).mean(-1) + torch.special.entr(looks).sum(-1)).mean())
    return sum(losses) if losses else inputs[0].new_zeros(())


def place_loss(middle: Tensor, batch: dict) -> Tensor:
    """How far four numbers of the state at each token of a turn are from what it should know; `middle` `[B, T, H]`: what the last layer with keys
    of its own reads, so that all layers above can know it of earlier tokens.

    The last two, at a noun: the place of what it names. The two before them, in an answer: the place of what is named next, which a direction
    that is said before it needs.
    """
    states = F.rms_norm(middle, middle.shape[-1:])  # as the next layer sees them
    losses = []
    for wanted, end in ((batch["named"], states.shape[-1]), (batch["next_named"], states.shape[-1] - 2)):
        rows, tokens = (wanted >= 0).nonzero(as_tuple=True)
        places = batch["places"][rows, wanted[rows, tokens]]
        known = ~places[:, 0].isnan()
        if known.any():
            losses.append(F.smooth_l1_loss(states[rows, tokens][known, end - 2 : end].float(), PLACE_SCALE * (places[known] - 0.5)))
    return sum(losses) if losses else middle.new_zeros(())
