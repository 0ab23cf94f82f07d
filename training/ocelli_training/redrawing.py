"""SVG drawings drawn anew with a pen: a line of one width along every contour, as line drawings and some studios' emoji have them.

The styles of `drawing.py` find lines in pixels, where colours change; these lie where the artist put an edge, and stay whole at every size.
Paler and partly white fills go with them, as such drawings live by their lines.
"""

from __future__ import annotations

import re

import numpy as np
from PIL import ImageColor

REDRAWN = 3  # times each drawing is drawn anew
_HEAD = re.compile(r'^(<svg[^>]*viewBox=")([^"]*)("[^>]*>)(.*)</svg>$', re.DOTALL)
_COLOUR = re.compile(r'(fill|stop-color)="(#[0-9a-fA-F]{6}|#[0-9a-fA-F]{3})"')
_SHAPE = re.compile(r"<(path|circle|ellipse|rect|polygon)\b(?![^>]*\bstroke=)")
LINE_WIDTHS = (0.016, 0.038)  # of the drawing's width
UNLINED = 0.12  # share of shapes without a line


def _colour_map(rng: np.random.Generator, colours: list[str]) -> dict[str, str]:
    """What becomes of each of the `colours` ("#ff8800", "#f80"): all of them stay, or grow paler, or most become paper."""
    way, pale = rng.random(), float(rng.uniform(0.2, 0.6))
    if way < 0.4:
        return {}
    new = {}
    for colour in colours:
        rgb = np.array(ImageColor.getrgb(colour), np.float32)
        if way < 0.7:
            rgb = rgb + pale * (255 - rgb)
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
    body = _SHAPE.sub(lambda match: match[0] + (' stroke="none"' if rng.random() < UNLINED else ""), body)
    box = f"{left - line:.3f} {top - line:.3f} {width + 2 * line:.3f} {height + 2 * line:.3f}"
    return (
        f'{before}{box}{after}<g stroke="#000" stroke-width="{line:.3f}" stroke-linejoin="round" stroke-linecap="round">{body}</g></svg>'
    )
