"""What a colour word means: pixels -> word, and word -> a colour to paint with.

Both directions use one table of hue, chroma and lightness, so that a background painted "brown" is also called brown by the
function that names the sprites.
"""

from __future__ import annotations

import colorsys

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "grey", "black")
COLOUR_INDEX = {name: i for i, name in enumerate(COLOURS)}
UNNAMED = len(COLOURS)  # beige, olive and other colours the eleven words do not cover

# Word -> ranges of (hue in degrees, saturation, value) well inside what `name_pixels` calls by that word.
_PAINT = {
    "red": ((-8, 6), (0.72, 0.95), (0.70, 0.95)),
    "orange": ((22, 34), (0.78, 1.0), (0.92, 1.0)),
    "yellow": ((48, 58), (0.55, 0.95), (0.92, 1.0)),
    "green": ((85, 150), (0.40, 0.85), (0.42, 0.85)),
    "blue": ((195, 235), (0.40, 0.90), (0.50, 0.95)),
    "purple": ((264, 288), (0.40, 0.75), (0.45, 0.85)),
    "pink": ((322, 345), (0.28, 0.55), (0.92, 1.0)),
    "brown": ((18, 32), (0.50, 0.75), (0.33, 0.58)),
    "white": ((0, 360), (0.0, 0.03), (0.95, 1.0)),
    "grey": ((0, 360), (0.0, 0.06), (0.45, 0.72)),
    "black": ((0, 360), (0.0, 0.30), (0.03, 0.13)),
}


def name_pixels(rgb: np.ndarray) -> np.ndarray:
    """The colour index of each pixel, `UNNAMED` where none fits. `rgb`: uint8 `[..., 3]`."""
    values = rgb.astype(np.float32) / 255
    high, low = values.max(-1), values.min(-1)
    chroma = high - low
    saturation = chroma / np.maximum(high, 1e-6)
    r, g, b = values[..., 0], values[..., 1], values[..., 2]
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(high == r, ((g - b) / safe) % 6, np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60

    def between(start: float, end: float) -> np.ndarray:
        return (hue >= start) & (hue < end)

    reddish = (hue >= 345) | (hue < 14)
    rules = (  # the first that holds decides
        ("black", (high < 0.18) | ((high < 0.30) & (chroma < 0.10))),
        ("white", (high > 0.88) & (chroma < 0.09)),
        ("grey", (chroma < 0.10) | ((saturation < 0.20) & (high < 0.85)) | (between(180, 250) & (saturation < 0.27) & (high < 0.75))),
        ("brown", (between(8, 50) & (high < 0.72)) | (between(8, 24) & (high < 0.78) & (saturation < 0.75))),
        ("pink", reddish & (saturation < 0.58) & (high > 0.78)),
        ("red", reddish & (saturation >= 0.5)),
        ("pink", between(295, 345) & (high > 0.60)),
        ("red", between(338, 345)),
        ("purple", between(252, 345) & (saturation > 0.2)),
        ("orange", between(14, 41) & (saturation > 0.55)),
        ("yellow", between(41, 68) & (saturation > 0.35) & (high > 0.72)),
        ("green", between(68, 168) & (saturation > 0.2)),
        ("blue", between(168, 252) & (saturation > 0.2)),
    )
    names = np.full(hue.shape, UNNAMED, dtype=np.uint8)
    for word, where in reversed(rules):
        names[where] = COLOUR_INDEX[word]
    return names


def colour_shares(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The share of each colour among the opaque pixels, float `[len(COLOURS) + 1]`, the last being `UNNAMED`."""
    opaque = alpha > 127
    counts = np.bincount(name_pixels(rgb[opaque]), minlength=len(COLOURS) + 1)
    return counts / max(1, int(opaque.sum()))


def hue_matrix(degrees: float) -> np.ndarray:
    """A linear map of RGB that turns the hue about the grey axis, float32 `[3, 3]`; it works on premultiplied colours too."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    third, root = (1 - cos) / 3, sin / np.sqrt(3)
    return np.array(
        [[cos + third, third - root, third + root], [third + root, cos + third, third - root], [third - root, third + root, cos + third]],
        dtype=np.float32,
    )


GREY_MATRIX = np.tile(np.array([0.299, 0.587, 0.114], dtype=np.float32), (3, 1))


def paint(rng: np.random.Generator, word: str) -> tuple[int, int, int]:
    """A random colour that `word` names, as 8-bit RGB."""
    hue, saturation, value = (low + (high - low) * u for (low, high), u in zip(_PAINT[word], rng.random(3).tolist(), strict=True))
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
