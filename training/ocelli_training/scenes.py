"""A scene in symbols: what stands where, on what background. Sampling draws no pixel and makes thousands a second.

All positions and sizes are fractions of the side of the (square) scene, x to the right and y down. `drawing.render` makes the
picture, `language` the words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from .artwork import GREY_VARIANT, JITTER_HIGH, JITTER_LOW, TRAIN_SETS
from .backgrounds import PATTERNS, Background, sample_background
from .colours import COLOURS
from .drawing import patch_labels, render
from .library import Library, Sprite
from .nouns import NOUNS

__all__ = [
    "COLOURS", "KINDS", "PATTERNS", "TRAIN_SETS", "Background", "Library", "Scene", "SceneObject", "crop", "patch_labels", "render",
    "sample_scene",
]

KINDS = ("ordinary", "large", "small", "crowded")
# Smallest and largest size of an object (the longer side of its box) by how many there are.
_SIZES = {
    "ordinary": {1: (0.10, 0.90), 2: (0.10, 0.62), 3: (0.10, 0.50), 4: (0.10, 0.46)},
    "large": {1: (0.30, 0.90), 2: (0.30, 0.60), 3: (0.30, 0.50), 4: (0.30, 0.45)},
    "small": {n: (0.06, 0.14) for n in (1, 2, 3, 4)},
}
# To count is harder than to name, and is practised more than it is asked for.
EQUALS, EQUALS_TRAINED = 0.30, 0.42
_COUNTS = np.cumsum([0.22, 0.30, 0.26, 0.22])
_COUNTS_TRAINED = np.cumsum([0.14, 0.18, 0.26, 0.42])  # the third of four nouns is left out or mistaken most often
# So are things of which neither stands further left: a caption names one of them twice, or goes on behind both.
ABREAST, MAX_APART = 0.4, 0.05
MAX_OVERLAP = 0.10  # of the smaller of two boxes
MIN_VISIBLE = 0.40  # of an object's box: with less, a crop does not list it

# Drawing styles that the artwork does not have, so that the encoder cannot lean on one studio's shading.
STYLES = ("outline", "ink", "flat", "line-art", "grayscale", "hue")
LINED_SHARE = 0.5  # of the objects whose drawing there is with lines as well
STYLED, FOREIGN_COLOURS = 0.45, 0.3  # shares of objects drawn in one, and of these in colours that are not theirs
HARD_BACKGROUNDS = 0.2  # share of scenes with one of those that are mistaken most often
MAX_WARP = 0.06  # studios differ in proportions
TURNED, MAX_TURN, MAX_STRETCH = 0.3, 55.0, 1.3  # and in which way up and how slender a thing is drawn
_STYLE_SHARES = np.cumsum([0.16, 0.28, 0.20, 0.12, 0.10, 0.14])
_OF_LINES = ("outline", "ink", "line-art")  # what a drawing with lines is not drawn in


@dataclass(frozen=True)
class Placement:
    """How a sprite is put on the canvas: the centre, its longer side before turning, and a slight stretch of its width."""

    cx: float
    cy: float
    scale: float
    stretch: float
    angle: float  # degrees
    mirrored: bool

    def extent(self, aspect: float) -> tuple[float, float]:
        """Width and height of the box that holds a turned sprite of this aspect."""
        width, height = (self.scale, self.scale / aspect) if aspect >= 1 else (self.scale * aspect, self.scale)
        width *= self.stretch
        cos, sin = abs(math.cos(math.radians(self.angle))), abs(math.sin(math.radians(self.angle)))
        return width * cos + height * sin, width * sin + height * cos


@dataclass(frozen=True)
class SceneObject:
    """A thing in a scene. `cx, cy, w, h` are the box of its visible part; `placement` is where the whole of it is drawn."""

    noun: int
    colour: str | None  # only where one colour clearly dominates
    mixed: bool  # whether it clearly has several colours
    cx: float
    cy: float
    w: float
    h: float
    sprite: int
    placement: Placement
    variant: int = 0  # hue step of a recoloured one, see `artwork`
    jitter: tuple[float, float, float] = (0.0, 1.0, 1.0)  # degrees of hue, brightness, saturation
    style: str | None = None
    warp: float = 0.0  # how far its parts are moved, as a share of its size
    # See `train_language`: how much further right it seems to stand when nouns are put in order.
    named_later: float = 0.0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.cx - self.w / 2, self.cy - self.h / 2, self.cx + self.w / 2, self.cy + self.h / 2


@dataclass(frozen=True)
class Scene:
    """`objects` are those that count; `drawn` also has those that a crop has nearly cut off. Later ones cover earlier ones."""

    background: Background
    objects: tuple[SceneObject, ...]
    drawn: tuple[SceneObject, ...]
    kind: str
    seed: int  # of the noise that drawing needs
    library: Library = field(repr=False, compare=False)


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """The share of the smaller of two boxes that the other covers."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width * height / max(smaller, 1e-9)


def _choose_sprites(rng: np.random.Generator, library: Library, count: int, equals: float) -> list[Sprite]:
    """Sprites for `count` objects; in a share `equals` of scenes with room for it, several show the same noun."""
    together = 1
    if count >= 2 and rng.random() < equals:
        together = int(rng.integers(2, min(count, 4) + 1))
    sprites: list[Sprite] = []
    draws = rng.random((count, 2)).tolist()
    for i, (noun_draw, sprite_draw) in enumerate(draws):
        if 0 < i < together:
            choices = library.of_noun[sprites[0].noun]
            same = draws[0][0] * 97 % 1 < 0.6  # often the same drawing again
            sprites.append(sprites[0] if same else choices[int(sprite_draw * len(choices))])
            continue
        # By turns every noun equally often; a noun that is already there is drawn again rather than counted by accident.
        for _ in range(8):
            noun = library.noun_ids[int(noun_draw * len(library.noun_ids))]
            if all(sprite.noun != noun for sprite in sprites):
                break
            noun_draw = rng.random()
        choices = library.of_noun[noun]
        sprites.append(choices[int(sprite_draw * len(choices))])
    return sprites


def _dress(rng: np.random.Generator, sprite: Sprite, augment: bool) -> dict:
    """Colour word, variant, jitter and style of a new object."""
    recolour, pick, styled, which, hue, gain, saturation = rng.random(7).tolist()
    variant, style = 0, None
    if recolour < 0.35 and NOUNS[sprite.noun].man_made and sprite.bright_variants:
        variant = sprite.bright_variants[int(pick * len(sprite.bright_variants))]
    jitter = tuple(low + (high - low) * u for low, high, u in zip(JITTER_LOW, JITTER_HIGH, (hue, gain, saturation), strict=True))
    if augment and styled < STYLED:
        style = STYLES[int(np.searchsorted(_STYLE_SHARES, which))]
        style = None if sprite.lined and style in _OF_LINES else style
    foreign = style in ("grayscale", "hue") or (style is not None and rng.random() < FOREIGN_COLOURS)
    if foreign:
        grey = style == "grayscale" or (style != "hue" and pick < 0.4)
        variant = GREY_VARIANT if grey else 1 + int(pick * 97 % 1 * (GREY_VARIANT - 1))
    # Line-art has no colours of its own. Living things in foreign hues are there to be recognised, not to be called blue.
    silent = foreign or style == "line-art"
    warp = max(0.0, float(rng.uniform(-0.5, 1.0))) * MAX_WARP if augment else 0.0
    return {
        "colour": None if silent else sprite.colour(variant),
        "mixed": not silent and sprite.mixed(variant),
        "variant": variant,
        "jitter": jitter,
        "style": style,
        "warp": warp,
    }


def _object(rng: np.random.Generator, library: Library, sprite: Sprite, size: float, augment: bool) -> SceneObject:
    """An object of this size (longer side of its box), not placed yet."""
    if augment and rng.random() < LINED_SHARE:
        lined = library.lined_of.get(sprite.id, [sprite])
        sprite = lined[int(rng.integers(len(lined)))]
    angle, mirrored, stretch = rng.random(3).tolist()
    stretch, angle = 0.92 + 0.16 * stretch, (angle * 2 - 1) ** 3 * 22
    if augment:
        if rng.random() < TURNED:
            angle = float(rng.uniform(-MAX_TURN, MAX_TURN))
        stretch *= MAX_STRETCH ** float(rng.uniform(-1, 1))
    placement = Placement(0.5, 0.5, size, stretch, angle, mirrored < 0.5)
    width, height = placement.extent(sprite.aspect)
    factor = size / max(width, height)
    placement = replace(placement, scale=size * factor)
    return SceneObject(
        sprite.noun, cx=0.5, cy=0.5, w=width * factor, h=height * factor, sprite=sprite.id, placement=placement,
        **_dress(rng, sprite, augment),
    )


def _moved(thing: SceneObject, cx: float, cy: float, factor: float = 1.0) -> SceneObject:
    """`thing` at another place, scaled by `factor`."""
    placement = replace(thing.placement, cx=cx, cy=cy, scale=thing.placement.scale * factor)
    return replace(thing, cx=cx, cy=cy, w=thing.w * factor, h=thing.h * factor, placement=placement)


def _place(rng: np.random.Generator, things: list[SceneObject], smallest: float) -> list[SceneObject]:
    """Put `things` on the canvas, the largest first, shrinking those that find no room; one that finds none at all is left out."""
    placed: list[SceneObject] = []
    for thing in sorted(things, key=lambda thing: -thing.w * thing.h):
        factor = 1.0
        for _ in range(6):
            width, height = thing.w * factor, thing.h * factor
            for u, v in rng.random((12, 2)).tolist():
                cx, cy = width / 2 + u * (1 - width), height / 2 + v * (1 - height)
                box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
                if all(overlap(box, other.box) <= MAX_OVERLAP for other in placed):
                    placed.append(_moved(thing, cx, cy, factor))
                    break
            else:
                factor = max(factor * 0.85, smallest / max(thing.w, thing.h))
                continue
            break
    return placed


def _abreast(rng: np.random.Generator, things: list[SceneObject]) -> list[SceneObject]:
    """`things` with one moved right above or below one of another noun, where there is room for it."""
    which, other = rng.permutation(len(things))[:2].tolist() if len(things) > 1 else (0, 0)
    thing, beside = things[which], things[other]
    if thing.noun == beside.noun:
        return things
    for u, v in rng.random((8, 2)).tolist():
        cx, cy = beside.cx + (2 * u - 1) * MAX_APART, thing.h / 2 + v * (1 - thing.h)
        moved = _moved(thing, min(max(cx, thing.w / 2), 1 - thing.w / 2), cy)
        if all(overlap(moved.box, rest.box) <= MAX_OVERLAP for rest in things if rest is not thing):
            return [moved if rest is thing else rest for rest in things]
    return things


def _sample_grid(rng: np.random.Generator, library: Library, augment: bool) -> list[SceneObject]:
    """A jittered 2 x 2 or 3 x 3 grid with a few gaps, for labels of patches."""
    side = 2 if rng.random() < 0.5 else 3
    cell = 1 / side
    things = []
    for row in range(side):
        for column in range(side):
            gap, noun, which, size, u, v = rng.random(6).tolist()
            if gap < 0.08:
                continue
            choices = library.of_noun[library.noun_ids[int(noun * len(library.noun_ids))]]
            thing = _object(rng, library, choices[int(which * len(choices))], cell * (0.65 + 0.4 * size), augment)
            free_x, free_y = cell - thing.w, cell - thing.h
            cx, cy = (column + 0.5) * cell + (u - 0.5) * free_x, (row + 0.5) * cell + (v - 0.5) * free_y
            cx, cy = min(max(cx, thing.w / 2), 1 - thing.w / 2), min(max(cy, thing.h / 2), 1 - thing.h / 2)
            things.append(_moved(thing, cx, cy))
    return things


def sample_scene(rng: np.random.Generator, library: Library, kind: str = "ordinary", augment: bool = False) -> Scene:
    """A random scene of `kind` (one of `KINDS`); `augment` draws half the objects in styles the artwork does not have."""
    if kind == "crowded":
        things = _sample_grid(rng, library, augment)
    else:
        count = 1 + int(np.searchsorted(_COUNTS_TRAINED if augment else _COUNTS, rng.random()))
        low, high = _SIZES[kind][count]
        sprites = _choose_sprites(rng, library, count, EQUALS_TRAINED if augment else EQUALS)
        things = [
            _object(rng, library, sprite, low * (high / low) ** size, augment)
            for sprite, size in zip(sprites, rng.random(count).tolist(), strict=True)
        ]
        things = _place(rng, things, low)
        if augment and things and rng.random() < ABREAST:
            things = _abreast(rng, things)
    objects = tuple(things)
    background = sample_background(rng, {thing.colour for thing in objects if thing.colour}, HARD_BACKGROUNDS if augment else 0.0)
    return Scene(background, objects, objects, kind, int(rng.integers(1 << 31)), library)


def crop(scene: Scene, x0: float, y0: float, size: float) -> Scene:
    """The square of `scene` from (`x0`, `y0`), `size` wide, as a scene of its own.

    Boxes are cut at its edge. What shows less than `MIN_VISIBLE` of its box is drawn, but is no longer one of `objects`.
    """

    def seen(thing: SceneObject) -> tuple[SceneObject, float]:
        left, top, right, bottom = (
            min(max((edge - start) / size, 0.0), 1.0) for edge, start in zip(thing.box, (x0, y0, x0, y0), strict=True)
        )
        whole = thing.placement.extent(scene.library.sprites[thing.sprite].aspect)
        share = (right - left) * (bottom - top) * size * size / max(whole[0] * whole[1], 1e-9)
        place = thing.placement
        place = replace(place, cx=(place.cx - x0) / size, cy=(place.cy - y0) / size, scale=place.scale / size)
        moved = replace(thing, cx=(left + right) / 2, cy=(top + bottom) / 2, w=right - left, h=bottom - top, placement=place)
        return moved, share

    listed = {id(thing) for thing in scene.objects}
    drawn, objects = [], []
    for thing in scene.drawn:
        moved, share = seen(thing)
        if share > 0:
            drawn.append(moved)
            if share >= MIN_VISIBLE and id(thing) in listed:
                objects.append(moved)
    return Scene(scene.background.cropped(x0, y0, size), tuple(objects), tuple(drawn), scene.kind, scene.seed, scene.library)
