"""SVG drawings drawn anew with a pen: a line of one width along every contour, as line drawings and some studios' emoji have them.

The styles of `drawing.py` find lines in pixels, where colours change; these lie where the artist put an edge, and stay whole at every size.
Other fills go with them (paler, partly white, each in a shade or a hue of its own), and fewer details, as artists differ in both.
"""

from __future__ import annotations

import colorsys
import re

import numpy as np
from PIL import ImageColor

REDRAWN = 6  # times each drawing is drawn anew
_HEAD = re.compile(r'^(<svg[^>]*viewBox=")([^"]*)("[^>]*>)(.*)</svg>$', re.DOTALL)
_COLOUR = re.compile(r'(fill|stop-color)="(#[0-9a-fA-F]{6}|#[0-9a-fA-F]{3})"')
_SHAPE = re.compile(r"<(path|circle|ellipse|rect|polygon)\b(?![^>]*\bstroke=)")
LINE_WIDTHS = (0.016, 0.038)  # of the drawing's width
UNLINED = 0.12  # share of shapes without a line
SIMPLER, LEFT_OUT = 0.5, 0.2  # share of redrawings with fewer details, and of their shapes, the first two aside, that are left out

# Ways to colour a drawing anew, and their shares: as it is, all paler, most of it paper, every colour in another shade, in another hue.
WAYS = ("kept", "pale", "paper", "shades", "hues")
_WAY_SHARES = np.cumsum([0.25, 0.2, 0.15, 0.25, 0.15])


def _shaded(rgb: np.ndarray, rng: np.random.Generator, turn: float) -> np.ndarray:
    """`rgb` (0 to 255) with its hue up to `turn` of the circle away, fuller or greyer, lighter or darker; what is nearly black stays."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(rgb / 255))
    if value < 0.25:
        return rgb
    hue = (hue + float(rng.uniform(-turn, turn))) % 1.0
    saturation = min(saturation * 1.8 ** float(rng.uniform(-1, 1)), 1.0)
    value = min(value * 1.5 ** float(rng.uniform(-1, 0.5)), 1.0)
    return 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)


def _colour_map(rng: np.random.Generator, colours: list[str]) -> dict[str, str]:
    """What becomes of each of the `colours` ("#ff8800", "#f80")."""
    way = WAYS[int(np.searchsorted(_WAY_SHARES, rng.random()))]
    pale = float(rng.uniform(0.2, 0.6))
    if way == "kept":
        return {}
    new = {}
    for colour in colours:
        rgb = np.array(ImageColor.getrgb(colour), np.float32)
        if way == "pale":
            rgb = rgb + pale * (255 - rgb)
        elif way == "shades":
            rgb = _shaded(rgb, rng, turn=0.06)
        elif way == "hues":
            rgb = _shaded(rgb, rng, turn=0.5)
        elif rng.random() < 0.6:
            rgb = np.full(3, rng.integers(205, 256) if rng.random() < 0.5 else 255, np.float32)
        new[colour] = "#" + "".join(f"{round(float(value)):02x}" for value in rgb)
    return new


def redraw(svg: str, rng: np.random.Generator) -> str:
    """`svg` (a document with a view box) with a black line along its shapes."""
    found = _HEAD.match(svg)
    if found is None:
        raise ValueError(f"not an SVG document with a view box: {svg[:60]!r}")
    before, box, after, body = found.groups()
    left, top, width, height = (float(number) for number in box.replace(",", " ").split())
    line = width * float(rng.uniform(*LINE_WIDTHS))
    new = _colour_map(rng, sorted({colour for _, colour in _COLOUR.findall(body)}))
    body = _COLOUR.sub(lambda match: f'{match[1]}="{new.get(match[2], match[2])}"', body)
    simpler, shapes = rng.random() < SIMPLER, 0

    def shape(match: re.Match) -> str:
        nonlocal shapes
        shapes += 1
        if simpler and shapes > 2 and rng.random() < LEFT_OUT:
            return match[0] + ' display="none"'
        return match[0] + (' stroke="none"' if rng.random() < UNLINED else "")

    body = _SHAPE.sub(shape, body)
    box = f"{left - line:.3f} {top - line:.3f} {width + 2 * line:.3f} {height + 2 * line:.3f}"
    return (
        f'{before}{box}{after}<g stroke="#000" stroke-width="{line:.3f}" stroke-linejoin="round" stroke-linecap="round">{body}</g></svg>'
    )
