"""The sprite cache, opened: which sprites a noun has, their pixels at each size, and what colour they are.

Pixels are mapped into memory, so that loading takes milliseconds and data workers share one copy.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .artwork import GREY_VARIANT, LINED, TRAIN_SETS
from .nouns import NOUNS

# Where the leading colour covers more than CLEAR of a sprite under any jitter, it has that colour word; where it covers less than
# MIXED, the sprite clearly has several colours. In between, nothing is said or asked about its colour.
CLEAR, MIXED = 0.55, 0.45


@dataclass(frozen=True)
class Sprite:
    """One drawing. Per variant (hue steps, then grey): the leading colour word, its least share under jitter, and that without."""

    id: int
    noun: int
    set: str
    name: str
    aspect: float  # width / height
    colours: tuple[str | None, ...]
    shares: tuple[float, ...]
    plain_shares: tuple[float, ...]
    levels: tuple[tuple[int, int, int], ...]  # (height, width, offset in the pixel file), largest first

    @property
    def lined(self) -> bool:
        """Whether it is a drawing drawn anew with lines."""
        return self.set.endswith(LINED)

    def colour(self, variant: int = 0) -> str | None:
        """The colour word, where one colour clearly dominates."""
        return self.colours[variant] if self.shares[variant] > CLEAR else None

    def mixed(self, variant: int = 0) -> bool:
        """Whether no colour comes near to dominating."""
        return self.plain_shares[variant] < MIXED

    @functools.cached_property
    def bright_variants(self) -> tuple[int, ...]:
        """The variants with a clear colour that is not the one it was drawn in: what a recoloured one may become."""
        turned = range(1, GREY_VARIANT)
        return tuple(v for v in turned if self.colour(v) is not None and self.colour(v) != self.colour(0))


class Library:
    """The sprites of the first `nouns` nouns in some sets of a cache."""

    def __init__(self, cache_dir: str | Path, nouns: int | None = None, sets: tuple[str, ...] = TRAIN_SETS) -> None:
        self.cache_dir, self.sets = Path(cache_dir), tuple(sets)
        index = json.loads((self.cache_dir / "sprites.json").read_text(encoding="utf-8"))
        self.size: int = index["size"]
        limit = len(NOUNS) if nouns is None else nouns
        self.sprites: dict[int, Sprite] = {}
        self.of_noun: dict[int, list[Sprite]] = {}
        self.lined_of: dict[int, list[Sprite]] = {}  # the same drawing with lines, of some sprites
        ids = {}
        for id, entry in enumerate(index["sprites"]):
            set_name = entry["set"].removesuffix(LINED)
            if entry["noun"] >= limit or set_name not in self.sets:
                continue
            height, width, _ = entry["levels"][0]
            levels = tuple(tuple(level) for level in entry["levels"])
            sprite = Sprite(
                id, entry["noun"], entry["set"], entry["name"], width / height, tuple(entry["colours"]), tuple(entry["shares"]),
                tuple(entry.get("plain_shares", entry["shares"])), levels,
            )
            self.sprites[id] = sprite
            drawing = (sprite.noun, set_name, sprite.name)
            if sprite.lined:
                self.lined_of.setdefault(ids[drawing], []).append(sprite)
            else:
                ids[drawing] = id
                self.of_noun.setdefault(sprite.noun, []).append(sprite)
        if not self.sprites:
            raise ValueError(f"{self.cache_dir} holds no sprite of the first {limit} nouns in the sets {', '.join(self.sets)}")
        self.nouns: list[str] = [noun.word for noun in NOUNS[:limit]]
        self.plurals: list[str] = [noun.plural for noun in NOUNS[:limit]]
        self.noun_ids: list[int] = sorted(self.of_noun)
        self._pixels: np.ndarray | None = None

    @classmethod
    @functools.cache
    def load(cls, cache_dir: str | Path, nouns: int | None = None, sets: tuple[str, ...] = TRAIN_SETS) -> Library:
        """The library for these arguments, opened once a process."""
        return cls(cache_dir, nouns, sets)

    def __reduce__(self) -> tuple:
        """Pickled by name: scenes can be sent between processes without their pixels."""
        return Library.load, (self.cache_dir, len(self.nouns), self.sets)

    def pixels(self, sprite_id: int, level: int) -> np.ndarray:
        """Premultiplied RGBA `[height, width, 4]`, read-only; level 0 is the largest."""
        if self._pixels is None:
            self._pixels = np.memmap(self.cache_dir / "sprites.bin", dtype=np.uint8, mode="r").view(np.ndarray)
        levels = self.sprites[sprite_id].levels
        height, width, offset = levels[min(level, len(levels) - 1)]
        return self._pixels[offset : offset + height * width * 4].reshape(height, width, 4)

    @functools.cached_property
    def alphas(self) -> dict[int, np.ndarray]:
        """A small alpha mask of each sprite (40 pixels on the longer side), for labels and coverage."""
        return {id: cv2.extractChannel(self.pixels(id, 3), 3) for id in self.sprites}
