"""Backgrounds: six patterns in one or two named colours, drawn at any size and in any crop.

Every pattern is a field of bytes that a table of 256 colours turns into pixels; the field is cheap because positions are added in
16-bit fixed point, whose overflow is the repetition of the pattern.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .colours import COLOUR_INDEX, COLOURS, paint

PATTERNS = ("plain", "gradient", "textured", "striped", "checkered", "dotted")
_TWO_COLOURS = {"plain": 0.0, "gradient": 0.6, "textured": 0.0, "striped": 1.0, "checkered": 1.0, "dotted": 1.0}
FAINT = ("plain", "gradient", "textured")  # of black and of white these look alike
_HARD_COLOURS = ("black", "black", "white", "white", "grey")  # of the faint ones, as often as each of them is drawn
# Pairs that are hard to tell apart even when nothing else is there.
_TOO_CLOSE = {
    frozenset(pair)
    for pair in (("red", "orange"), ("orange", "yellow"), ("red", "pink"), ("purple", "pink"), ("orange", "brown"), ("brown", "red"),
                 ("black", "brown"), ("blue", "purple"), ("white", "yellow"))
}


@dataclass(frozen=True)
class Background:
    """`colours`: one or two words in the order of `COLOURS`; `rgb`: what is painted for each. `view` is the part that is seen.

    `clear` says whether pattern and colours can be told from what is seen; a crop may show too little of a pattern.
    """

    pattern: str
    colours: tuple[str, ...]
    rgb: tuple[tuple[int, int, int], ...]
    seed: int
    period: float = 0.2
    angle: float = 0.0
    share: float = 0.5  # of the period in the second colour; the radius for dots
    view: tuple[float, float, float] = (0.0, 0.0, 1.0)  # x0, y0, size
    clear: bool = True

    def cropped(self, x0: float, y0: float, size: float) -> Background:
        """This background as seen in a square of what is seen now."""
        left, top, scale = self.view
        view = (left + x0 * scale, top + y0 * scale, size * scale)
        shows_all = {
            "plain": True,
            "gradient": len(self.colours) == 1 and view[2] > 0.3 or view[2] > 0.9,
            "textured": True,
        }.get(self.pattern, view[2] > 1.5 * self.period)
        return replace(self, view=view, clear=shows_all)


def sample_background(rng: np.random.Generator, taken: Collection[str] = (), hard: float = 0.0) -> Background:
    """A random background, mostly in other colours than those `taken` by objects; a share `hard` is one of those that are mistaken most often."""
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    count = 2 if rng.random() < _TWO_COLOURS[pattern] else 1
    free = [word for word in COLOURS if word not in taken] if rng.random() < 0.85 else list(COLOURS)
    if hard and rng.random() < hard:
        faint = rng.random() < 0.65  # otherwise a gradient, which is hard to tell to have one colour or two
        pattern, count = (FAINT[int(rng.integers(len(FAINT)))], 1) if faint else ("gradient", 1 + int(rng.random() < 0.5))
        free = [word for word in (_HARD_COLOURS if faint else COLOURS) if word not in taken]
    words = [free[int(rng.integers(len(free)))]] if free else ["grey"]
    while len(words) < count:
        word = COLOURS[int(rng.integers(len(COLOURS)))]
        if word not in words and frozenset((word, words[0])) not in _TOO_CLOSE:
            words.append(word)
    words.sort(key=COLOUR_INDEX.__getitem__)
    period, share, angle, seed = rng.random(4).tolist()
    painted = [paint(rng, word) for word in words]
    if count == 2 and rng.random() < 0.5:  # which of the two is the ground must not follow from their order
        painted_order = painted[::-1]
    else:
        painted_order = painted
    return Background(
        pattern,
        tuple(words),
        tuple(painted_order),
        seed=int(seed * (1 << 31)),
        period={"checkered": 0.10 + 0.25 * period, "dotted": 0.07 + 0.16 * period}.get(pattern, 0.07 + 0.25 * period),
        angle=_angle(angle, pattern),
        share=0.24 + 0.12 * share if pattern == "dotted" else 0.4 + 0.2 * share,
    )


def _angle(draw: float, pattern: str) -> float:
    """Degrees: often upright, level or diagonal, otherwise anything."""
    if draw < 0.55:
        steps = 4 if pattern == "striped" else 2
        return math.floor(draw / 0.55 * steps) * 45.0
    return (draw - 0.55) / 0.45 * 180


def _phase(side: int, view: tuple[float, float, float], period: float, angle: float, offset: float) -> np.ndarray:
    """The position along one direction in units of `period`, as uint16 `[side, side]` whose overflow is the next period."""
    cos, sin = math.cos(math.radians(angle)) / period, math.sin(math.radians(angle)) / period
    x0, y0, size = view
    steps = (np.arange(side) + 0.5) * (size / side)
    along_x = np.round((x0 + steps) * cos * 65536 + offset * 65536).astype(np.int64).astype(np.uint16)
    along_y = np.round((y0 + steps) * sin * 65536).astype(np.int64).astype(np.uint16)
    return np.add.outer(along_y, along_x)


def _noise(side: int, view: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise at two or three sizes, uint8 `[side, side]`; the same noise in every crop."""
    x0, y0, size = view
    total = None
    grain = float(rng.uniform(0.5, 1.0))
    across, down = 2.0 ** rng.uniform(-0.7, 0.7, 2)  # brushed one way or the other
    for cells, weight in ((6, 0.4), (24, 0.4), (80, 0.35 * grain)):
        columns, rows = max(3, round(cells * across)), max(3, round(cells * down))
        lattice = rng.random((rows + 3, columns + 3), dtype=np.float32) * (255 * weight)
        step_x, step_y = size * columns / side, size * rows / side
        matrix = np.array([[step_x, 0, x0 * columns + 0.5 * step_x + 0.5], [0, step_y, y0 * rows + 0.5 * step_y + 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        octave = cv2.warpAffine(lattice.astype(np.uint8), matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT)
        total = octave if total is None else cv2.add(total, octave)
    return total


def _ramp(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A table of 256 colours from `weights` (0 the first, 1 the second)."""
    return np.clip(first + (second - first) * weights[:, None], 0, 255).round().astype(np.uint8)


def _edges(share: float, softness: float) -> np.ndarray:
    """For each of 256 phases, how much of the second colour: a band of `share` with edges of `softness` (in periods)."""
    distance = share / 2 - np.abs((np.arange(256) + 0.5) / 256 - 0.5)
    return np.clip(distance / max(softness, 1 / 256) + 0.5, 0, 1)


def paint_background(background: Background, side: int) -> np.ndarray:
    """The background as uint8 RGB `[side, side, 3]`."""
    rng = np.random.default_rng(background.seed)
    offset, depth, second_offset = rng.random(3).tolist()
    first = np.array(background.rgb[0], dtype=np.float32)
    second = np.array(background.rgb[-1], dtype=np.float32)
    view, period, angle = background.view, background.period, background.angle
    pixel = view[2] / side / period  # in periods
    if background.pattern == "plain":
        return np.full((side, side, 3), first.astype(np.uint8))
    if background.pattern == "gradient":
        if len(background.colours) == 1:  # from a lighter to a darker shade of it
            first, second = _shades(first, 0.22 + 0.12 * depth)
        field = _phase(side, view, 3.0, angle, 0.5 - _middle(angle) / 3.0)  # the scene spans less than half a period
        reach = (abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))) / 3.0
        if len(background.colours) == 2:
            reach *= 0.65  # both ends are reached well before the corners
        weights = np.clip(((np.arange(256) + 0.5) / 256 - 0.5) / reach + 0.5, 0, 1)
        return _look_up((field >> 8).astype(np.uint8), _ramp(first, second, weights))
    if background.pattern == "textured":
        dark, light = _shades(first, 0.16 + 0.10 * depth)
        return _look_up(_noise(side, view, rng), _ramp(dark, light, (np.arange(256) - 60) / 150))
    field = _phase(side, view, period, angle, offset)
    if background.pattern == "striped":
        return _look_up((field >> 8).astype(np.uint8), _ramp(first, second, _edges(background.share, pixel)))
    other = _phase(side, view, period, angle + 90, second_offset)
    if background.pattern == "checkered":
        mask = (((field ^ other) >> 15) * 255).astype(np.uint8)
        return _look_up(mask, _ramp(first, second, np.linspace(0, 1, 256)))
    squares = ((np.arange(256) - 127.5) ** 2).astype(np.uint16)  # dots: distance from the middle of the cell
    distance = cv2.add(np.take(squares, field >> 8), np.take(squares, other >> 8))
    radius = (background.share * 256) ** 2
    weights = np.clip((radius - (np.arange(256) + 0.5) * 128) / (2 * background.share * 256 * 256 * max(pixel, 1 / 256)) + 0.5, 0, 1)
    return _look_up((distance >> 7).astype(np.uint8), _ramp(first, second, weights))


def _middle(angle: float) -> float:
    """Where the middle of the scene lies along a direction."""
    return 0.5 * (math.cos(math.radians(angle)) + math.sin(math.radians(angle)))


def _shades(colour: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """A darker and a lighter shade; near black and white the range is pushed to where there is room."""
    dark, light = colour * (1 - depth), colour + (255 - colour) * depth * 0.6
    if colour.max() < 60:
        dark, light = colour * 0.3, colour + 30 * depth
    elif colour.min() > 225:
        dark, light = colour * (1 - 0.35 * depth), np.full(3, 255, dtype=np.float32)
    return dark, light


def _look_up(field: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[field]` for uint8 `[side, side]` and `[256, 3]`."""
    return cv2.LUT(cv2.merge([field, field, field]), np.ascontiguousarray(table[None]))
