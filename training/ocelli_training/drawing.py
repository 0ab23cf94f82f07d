"""A scene's pixels, and what lies under each patch of them.

A sprite is warped straight from the nearest of its stored sizes into the rectangle it covers, recoloured there by a 3 x 3 matrix and
blended; nothing is done to the rest of the canvas.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .artwork import LEVELS, jitter_matrix, variant_matrices
from .backgrounds import paint_background

if TYPE_CHECKING:
    from .scenes import Placement, Scene, SceneObject

BACKGROUND_LABEL, AMBIGUOUS_LABEL = -1, -2
_SAMPLES = 4  # of the alpha mask across a patch


def _affine(placement: Placement, height: int, width: int, side: int) -> np.ndarray:
    """The map from sprite pixels `[height, width]` to canvas pixels, `[2, 3]`."""
    scale = placement.scale * side / max(height, width)
    across = scale * placement.stretch * (-1 if placement.mirrored else 1)
    cos, sin = math.cos(math.radians(placement.angle)), math.sin(math.radians(placement.angle))
    a, b, c, d = across * cos, -scale * sin, across * sin, scale * cos
    x, y = (width - 1) / 2, (height - 1) / 2  # of the centre, in OpenCV's pixel coordinates
    return np.array([[a, b, placement.cx * side - 0.5 - a * x - b * y], [c, d, placement.cy * side - 0.5 - c * x - d * y]])


def _colour_matrix(thing: SceneObject) -> np.ndarray | None:
    """Recolouring and jitter as one map of RGB, or None where it would change nothing."""
    if thing.variant == 0 and thing.jitter == (0.0, 1.0, 1.0):
        return None
    return jitter_matrix(*thing.jitter) @ variant_matrices()[thing.variant]


def _warped(pixels: np.ndarray, distance: float, seed: int) -> np.ndarray:
    """A sprite with its parts moved by about `distance` pixels, smoothly: the same thing in other proportions. Its edge stays, so its box does."""
    height, width = pixels.shape[:2]
    moves = np.zeros((6, 6, 2), np.float32)
    moves[1:-1, 1:-1] = np.random.default_rng(seed).normal(0.0, distance, (4, 4, 2))
    moves = cv2.resize(moves, (width, height), interpolation=cv2.INTER_CUBIC)
    moves[..., 0] += np.arange(width, dtype=np.float32)
    moves[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(pixels, moves, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _sprite_patch(scene: Scene, thing: SceneObject, seed: int, side: int) -> tuple[np.ndarray, int, int] | None:
    """The sprite as it lies on the canvas: premultiplied RGBA with its left and top, or None outside the canvas."""
    placement, sprite = thing.placement, scene.library.sprites[thing.sprite]
    target = placement.scale * side
    level = 0
    while level + 1 < LEVELS and (scene.library.size >> (level + 1)) * 1.15 >= target:
        level += 1
    pixels = scene.library.pixels(thing.sprite, level)
    if thing.warp:
        pixels = _warped(pixels, thing.warp * max(pixels.shape[:2]), seed)
    margin = 1 + math.ceil(0.03 * target) if thing.style else 1  # an outline grows outwards
    width, height = (extent * side for extent in placement.extent(sprite.aspect))
    left = max(0, math.floor(placement.cx * side - width / 2) - margin)
    top = max(0, math.floor(placement.cy * side - height / 2) - margin)
    right = min(side, math.ceil(placement.cx * side + width / 2) + margin)
    bottom = min(side, math.ceil(placement.cy * side + height / 2) + margin)
    if right <= left or bottom <= top:
        return None
    matrix = _affine(placement, *pixels.shape[:2], side)
    matrix[:, 2] -= (left, top)
    patch = cv2.warpAffine(pixels, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return patch, left, top


def _lines(colour: np.ndarray, alpha: np.ndarray, width: int) -> np.ndarray:
    """Where the drawing changes colour, uint8: the lines an ink drawing would have."""
    kernel = np.ones((width, width), np.uint8)
    steps = cv2.morphologyEx(colour, cv2.MORPH_GRADIENT, kernel)
    strength = cv2.max(cv2.max(steps[..., 0], steps[..., 1]), steps[..., 2])
    strength = cv2.subtract(strength, 45)
    return cv2.min(cv2.add(cv2.add(strength, strength), strength), alpha)


def _stylize(patch: np.ndarray, style: str, target: float, seed: int) -> np.ndarray:
    """`patch` redrawn in `style`; `target` is the size of the object in pixels."""
    rng = np.random.default_rng(seed)
    width = max(1, round(target * float(rng.uniform(0.008, 0.03))))
    colour, alpha = np.ascontiguousarray(patch[..., :3]), np.ascontiguousarray(patch[..., 3])
    if style == "flat":
        step = int(rng.choice([48, 64, 85]))
        table = np.minimum((np.arange(256) + step // 2) // step * step, 255).astype(np.uint8)
        colour = cv2.min(cv2.LUT(cv2.medianBlur(colour, 3), table), cv2.merge([alpha] * 3))
    elif style == "outline":
        grown = cv2.dilate(alpha, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1)))
        ink = int(rng.choice([0, 20, 40, 255]))
        rim = cv2.subtract(grown, alpha)
        colour = cv2.add(colour, cv2.merge([cv2.convertScaleAbs(rim, alpha=ink / 255)] * 3))
        alpha = grown
    elif style in ("ink", "line-art"):
        lines = _lines(colour, alpha, max(2, width))
        rim = cv2.dilate(alpha, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
        inner = cv2.erode(alpha, np.ones((width + 1, width + 1), np.uint8))
        lines = cv2.max(lines, cv2.subtract(rim, inner))
        if style == "line-art":
            paper = int(rng.integers(215, 256))
            colour = cv2.merge([cv2.convertScaleAbs(alpha, alpha=paper / 255)] * 3)
        else:  # paler, flatter colours under the lines
            pale = float(rng.uniform(0.0, 0.35))
            colour = cv2.addWeighted(cv2.medianBlur(colour, 3), 1 - pale, cv2.merge([alpha] * 3), pale, 0)
        colour = cv2.multiply(colour, cv2.merge([cv2.bitwise_not(lines)] * 3), scale=1 / 255)
        alpha = rim
    return cv2.merge([*cv2.split(colour), alpha])


def render(scene: Scene, side: int) -> np.ndarray:
    """The scene as uint8 RGB `[side, side, 3]`; the same scene gives the same pixels."""
    canvas = paint_background(scene.background, side)
    for thing in scene.drawn:
        seed = scene.seed + thing.sprite  # the same in every view of the scene
        found = _sprite_patch(scene, thing, seed, side)
        if found is None:
            continue
        patch, left, top = found
        matrix = _colour_matrix(thing)
        if matrix is not None:
            alpha = cv2.extractChannel(patch, 3)
            colour = cv2.min(cv2.transform(patch[..., :3], matrix), cv2.merge([alpha] * 3))
            patch = cv2.merge([*cv2.split(colour), alpha])
        if thing.style in ("outline", "ink", "flat", "line-art"):
            patch = _stylize(patch, thing.style, thing.placement.scale * side, seed)
        under = canvas[top : top + patch.shape[0], left : left + patch.shape[1]]
        hidden = cv2.bitwise_not(cv2.extractChannel(patch, 3))
        kept = cv2.multiply(under, cv2.merge([hidden] * 3), scale=1 / 255)
        under[:] = cv2.add(kept, patch[..., :3])
    return canvas


def patch_labels(scene: Scene, grid: int) -> np.ndarray:
    """The noun under each of `grid` x `grid` patches, int16: -1 background, -2 not clear.

    A patch belongs to an object that covers at least 30% of it, or that has half of itself in it; it is background when less than
    6% of it is covered.
    """
    side = grid * _SAMPLES
    labels = np.full((grid, grid), BACKGROUND_LABEL, dtype=np.int16)
    best = np.zeros((grid, grid), dtype=np.float32)
    covered = np.zeros((grid, grid), dtype=np.float32)
    for thing in scene.drawn:
        mask = scene.library.alphas[thing.sprite]
        matrix = _affine(thing.placement, *mask.shape, side)
        shrinks = thing.placement.scale * side < 0.7 * max(mask.shape)
        if shrinks:  # sample from a smaller copy, so that thin parts count by their area
            factor = max(thing.placement.scale * side / max(mask.shape), 0.1)
            mask = cv2.resize(mask, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            matrix = _affine(thing.placement, *mask.shape, side)
        warped = cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_LINEAR)
        share = cv2.resize(warped, (grid, grid), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        best *= 1 - share  # what lies below is covered
        clear = (share >= 0.30) | ((share >= 0.5 * share.sum()) & (share >= 0.06))
        wins = clear & (share > 1.5 * best)
        tied = (clear & ~wins & (share > 0.67 * best)) | (~clear & (share >= 0.06) & (best < 0.30))
        labels[wins] = thing.noun
        labels[tied] = AMBIGUOUS_LABEL
        best = np.maximum(best, share)
        covered += share
    labels[(labels == BACKGROUND_LABEL) & (covered >= 0.06)] = AMBIGUOUS_LABEL
    return labels
