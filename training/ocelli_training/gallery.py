"""One page of held-out scenes with what the model says of them, wrong parts in red: an SVG file with its pictures inside.

    python -m ocelli_training.gallery --artwork CACHE --ocelli BIN [--model DIR] [--styles training] --out ../docs/gallery.svg

The scenes are the first ones of a seed, none is chosen. With OpenMoji among the styles the page is CC-BY-SA-4.0, and says so.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import tempfile
import textwrap
from html import escape
from pathlib import Path

import cv2

from .answers import Binary
from .evaluate import STYLES, captions_by_name, make
from .goals import STYLE_NAMES
from .marking import left_out, wrong_spans
from .nouns import NOUNS

_MODE = "balanced"
_SEED = 9100  # another one than that of the table: errors that are looked at are not the ones that are counted
_COLUMNS, _PICTURE, _GAP = 4, 240, 16
_LETTER, _LINE = 6.65, 15  # of the fixed-width font, in pixels
_LETTERS = int(_PICTURE / _LETTER)
_WRONG = 'fill="#c8102e" text-decoration="underline"'
_CHANGED = "scaled, turned, mirrored and recoloured"
_CREDITS = {
    "training": f"Artwork: Noto Emoji (Apache-2.0), Twemoji (CC-BY-4.0), Fluent Emoji (MIT), FxEmoji (Apache-2.0), {_CHANGED}. See NOTICE.",
    "openmoji": f"Artwork: OpenMoji (openmoji.org), CC-BY-SA-4.0, {_CHANGED}. This page may be shared under the same licence alone: "
    "creativecommons.org/licenses/by-sa/4.0.",
}


def wrapped(text: str, spans: list[tuple[int, int]]) -> list[str]:
    """`text` in lines of tspans, the letters of `spans` marked."""
    marked = [any(start <= at < end for start, end in spans) for at in range(len(text))]
    lines, at = [], 0
    for line in textwrap.wrap(text, _LETTERS):
        at = text.index(line, at)
        runs = itertools.groupby(range(at, at + len(line)), key=marked.__getitem__)
        pieces = ((wrong, escape("".join(text[i] for i in run))) for wrong, run in runs)
        lines.append("".join(f"<tspan {_WRONG}>{piece}</tspan>" if wrong else piece for wrong, piece in pieces))
        at += len(line)
    return lines


def said_lines(record: dict, caption: str) -> list[str]:
    """What stands under a picture: the truth, what the model says, and what it leaves out."""
    missing = left_out(record, caption)
    omission = f"not said: {', '.join(missing)}" if missing else ""
    return [
        *(f'<tspan fill="#6a737d">{line}</tspan>' for line in wrapped(record["caption"], [])),
        *wrapped(caption or "(no caption)", wrong_spans(record, caption)),
        *wrapped(omission, [(0, len(omission))]),
    ]


def jpeg(path: Path) -> str:
    """A small copy of a picture as a data URI."""
    picture = cv2.resize(cv2.imread(str(path)), (_PICTURE, _PICTURE), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def page(sections: list[tuple[str, list[tuple[str, list[str]]]]], nouns: int) -> str:
    """The SVG file. `sections`: style, and the data URI and lines of each of its scenes."""
    width = _COLUMNS * (_PICTURE + _GAP) + _GAP
    parts, y = [], 28

    def text(line: str, x: float = _GAP, weight: str = "normal") -> None:
        nonlocal y
        parts.append(f'<text x="{x}" y="{y}" font-weight="{weight}">{line}</text>')
        y += _LINE

    text("What the bundled model says of scenes that it has not seen", weight="bold")
    text(f"{_MODE.capitalize()} mode, {nouns} nouns; the first scenes of seed {_SEED}, none was chosen.")
    text(f'Grey: what is there. Black: what the model says. <tspan {_WRONG}>Red, underlined</tspan>: wrong, or not said.')
    for style, scenes in sections:
        y += _LINE
        text(STYLE_NAMES[style], weight="bold")
        for start in range(0, len(scenes), _COLUMNS):
            top, bottom = y, y
            for column, (picture, lines) in enumerate(scenes[start : start + _COLUMNS]):
                x, y = _GAP + column * (_PICTURE + _GAP), top + _PICTURE + _LINE + 3
                parts.append(f'<image x="{x}" y="{top}" width="{_PICTURE}" height="{_PICTURE}" href="{picture}"/>')
                for line in lines:
                    text(line, x)
                bottom = max(bottom, y)
            y = bottom + _LINE // 2
        for line in textwrap.wrap(_CREDITS[style], int(width / _LETTER) - 6):
            text(escape(line))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" font-family="monospace" font-size="11">'
    return "\n".join([head, f'<rect width="{width}" height="{y}" fill="white"/>', *parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    artwork = os.environ.get("OCELLI_ARTWORK")
    parser.add_argument("--artwork", type=Path, default=artwork, required=artwork is None, help="sprite cache [OCELLI_ARTWORK]")
    parser.add_argument("--ocelli", type=Path, required=True, help="the binary")
    parser.add_argument("--model", type=Path, default=None, help="model directory [the bundled model]")
    parser.add_argument("--nouns", type=int, default=len(NOUNS), help="only the first K nouns [all %(default)s]")
    parser.add_argument("--count", type=int, default=24, help="scenes, shared evenly by the styles")
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=["training"])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sections = []
    for style in args.styles:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            truth = make(args.artwork, folder, _MODE, style, args.count // len(args.styles), _SEED, args.nouns, asked=0)
            captions = captions_by_name(Binary(args.ocelli, args.model).captions(folder, _MODE))
            scenes = [(jpeg(folder / record["path"]), said_lines(record, captions.get(record["path"], ""))) for record in truth]
            sections.append((style, scenes))
    args.out.write_text(page(sections, args.nouns), encoding="utf-8")
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
