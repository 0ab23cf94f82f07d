"""Drawings -> sprites: every drawing of every noun, rendered once, trimmed, and kept with its smaller copies.

The cache is one flat file of pixels (`sprites.bin`, mapped into memory, so that workers share it) and `sprites.json`, which says
where each picture lies. A pixel is premultiplied RGBA, which can be shrunk, turned and recoloured linearly without dark fringes.

    python -m ocelli_training.artwork --node-modules DIR --out CACHE
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from .colours import COLOURS, GREY_MATRIX, colour_shares, hue_matrix
from .nouns import NOUNS, Noun
from .redrawing import REDRAWN, redraw

ICONIFY_SETS = ("noto", "noto-v1", "twemoji", "fluent-emoji", "fluent-emoji-flat", "fxemoji", "openmoji")
TRAIN_SETS = ("noto", "noto-v1", "twemoji", "fluent-emoji", "fluent-emoji-flat", "fluent-3d", "fxemoji")
VALIDATION_SETS = ("openmoji",)
LINED = "-lined"  # ends the name of a set whose drawings are those of another, drawn anew with lines (`redrawing.py`)
LINED_SETS = ("noto", "noto-v1", "twemoji", "fluent-emoji-flat", "fxemoji")  # those whose fills are plain enough

LEVELS = 5  # 320, 160, 80, 40, 20 pixels on the longer side
COLOUR_LEVEL = 3  # large enough to judge colours by
HUE_STEPS = 12  # a recoloured sprite is turned by a multiple of 30 degrees
GREY_VARIANT = HUE_STEPS  # the variant after the turned ones: without colour
# The range of the colour jitter of a scene's objects: degrees of hue, brightness, saturation.
JITTER_LOW, JITTER_HIGH = (-4.0, 0.93, 0.90), (4.0, 1.06, 1.10)

# FxEmoji's own names where dropping the hyphens is not enough.
FXEMOJI_NAMES = {
    "tiger_face": "tiger", "tiger": "tigerside", "cat_face": "cat", "cat": "catside", "dog_face": "dog", "dog": "dogside",
    "mouse_face": "mouse", "mouse": "mouseside", "rabbit_face": "bunny", "rabbit": "bunnyside", "pig_face": "pig", "pig": "pigside",
    "dragon_face": "dragonhead", "dragon": "dragonside", "panda": "pandaface", "wolf": "wolfface", "hamster": "hampster",
    "gem_stone": "gem", "eggplant": "aubergine", "kitchen_knife": "hocho", "mobile_phone": "cellphone", "wrapped_gift": "present",
    "house": "housebuilding", "heart_suit": "blackheartsuit", "scissors": "blackscissors", "backpack": "schoolsatchel",
    "hourglass_done": "hourglass", "castle": "europeancastle", "ewe": "sheep", "racing_car": "racecar", "ear_of_corn": "earofmaize",
    "t_shirt": "mansshirt", "globe_showing_europe_africa": "europeafricaglobe", "globe_showing_americas": "americasglobe",
    "globe_showing_asia_australia": "asiaaustraliaglobe", "magnifying_glass_tilted_left": "leftmagnifyingglass",
    "magnifying_glass_tilted_right": "rightmagnifyingglass", "flashlight": "electrictorch", "pizza": "sliceofpizza",
    "front_facing_baby_chick": "frontfacingchick", "locked": "lock", "necktie": "tie", "two_hump_camel": "bactriancamel",
    "camel": "dromedarycamel", "dagger": "daggerknife", "spouting_whale": "spurtingwhale",
    "hot_pepper": "chilipepper", "woman_s_hat": "womanshat", "woman_s_boot": "boot", "floppy_disk": "softshellfloppy",
    "paintbrush": "lowerleftpaintbrush", "sunglasses": "darksunglasses",
}


def icon_names(set_name: str, slug: str) -> Iterator[str]:
    """The names under which an iconify pack may hold the drawing that Unicode calls `slug`."""
    if set_name == "fxemoji":
        if slug in FXEMOJI_NAMES:
            yield FXEMOJI_NAMES[slug]
        yield slug.replace("_", "")
    else:
        yield slug.replace("_s_", "s-").replace("_", "-")


class IconifyPack:
    """One `@iconify-json` package: a JSON file of SVG bodies."""

    def __init__(self, node_modules: Path, name: str) -> None:
        self.name = name
        self.data = json.loads((node_modules / "@iconify-json" / name / "icons.json").read_text(encoding="utf-8"))

    def svg(self, slug: str) -> str | None:
        """The drawing as a whole SVG document, or None where the pack has none."""
        for name in icon_names(self.name, slug):
            name = self.data.get("aliases", {}).get(name, {}).get("parent", name)
            icon = self.data["icons"].get(name)
            if icon is not None:
                left, top = icon.get("left", 0), icon.get("top", 0)
                width = icon.get("width", self.data.get("width", 16))
                height = icon.get("height", self.data.get("height", 16))
                return (
                    f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                    f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
                )
        return None


def render_svg(svg: str, size: int) -> np.ndarray:
    """`svg` drawn `size` pixels wide: straight RGBA, uint8."""
    import resvg_py
    from PIL import Image

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


class Fluent3d:
    """`@lobehub/fluent-emoji-3d`: WebP pictures named by code point."""

    def __init__(self, node_modules: Path) -> None:
        self.folder = node_modules / "@lobehub" / "fluent-emoji-3d" / "assets"
        data = json.loads((node_modules / "unicode-emoji-json" / "data-by-emoji.json").read_text(encoding="utf-8"))
        self.emoji = {entry["slug"]: emoji for emoji, entry in data.items()}

    def picture(self, slug: str) -> np.ndarray | None:
        """The picture as straight RGBA, or None."""
        from PIL import Image

        points = [f"{ord(char):04x}" for char in self.emoji.get(slug, "")]
        for name in ("-".join(points), "-".join(p for p in points if p != "fe0f"), "-".join(points) + "-fe0f"):
            path = self.folder / f"{name}.webp"
            if path.exists():
                return np.asarray(Image.open(path).convert("RGBA"))
        return None


def premultiply(rgba: np.ndarray) -> np.ndarray:
    """Straight RGBA -> premultiplied RGBA, uint8."""
    alpha = rgba[..., 3:].astype(np.uint16)
    colour = (rgba[..., :3].astype(np.uint16) * alpha + 127) // 255
    return np.concatenate([colour, alpha], axis=-1).astype(np.uint8)


def straighten(sprite: np.ndarray) -> np.ndarray:
    """The colours of premultiplied RGBA without the alpha, uint8 `[..., 3]`."""
    alpha = np.maximum(sprite[..., 3:].astype(np.float32), 1)
    return np.clip(sprite[..., :3] * (255 / alpha), 0, 255).astype(np.uint8)


def trim(sprite: np.ndarray) -> np.ndarray:
    """`sprite` without its transparent margins; nothing at all of a picture without an opaque pixel."""
    opaque = sprite[..., 3] > 24
    rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
    if rows.size == 0:
        return sprite[:0, :0]
    return sprite[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def pyramid(sprite: np.ndarray, size: int) -> list[np.ndarray]:
    """`sprite` with its longer side scaled to `size`, then halved again and again."""
    levels = []
    for level in range(LEVELS):
        scale = (size >> level) / max(sprite.shape[:2])
        width, height = (max(1, round(side * scale)) for side in (sprite.shape[1], sprite.shape[0]))
        source = levels[-1] if levels else sprite
        shrinks = width <= source.shape[1]
        levels.append(cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
        levels[-1][..., :3] = np.minimum(levels[-1][..., :3], levels[-1][..., 3:])  # cubic filters overshoot
    return levels


@functools.cache
def variant_matrices() -> tuple[np.ndarray, ...]:
    """The colour map of each variant: the hue steps, then grey."""
    return (*(hue_matrix(360 / HUE_STEPS * step) for step in range(HUE_STEPS)), GREY_MATRIX)


def jitter_matrix(hue: float, gain: float, saturation: float) -> np.ndarray:
    """The colour map of a scene's colour jitter: degrees of hue, brightness, saturation."""
    towards_grey = saturation * np.eye(3, dtype=np.float32) + np.full((3, 3), (1 - saturation) / 3, dtype=np.float32)
    return (gain * (towards_grey @ hue_matrix(hue))).astype(np.float32)


@functools.cache
def jitter_extremes() -> tuple[np.ndarray, ...]:
    """No jitter, then the largest: a colour word has to hold for all of them."""
    (hue, gain, saturation), (low_gain, low_saturation) = JITTER_HIGH, JITTER_LOW[1:]
    extremes = ((0, 1, 1), (hue, 1, 1), (-hue, 1, 1), (0, low_gain, low_saturation), (0, gain, saturation))
    return tuple(jitter_matrix(*extreme) for extreme in extremes)


def describe_colours(sprite: np.ndarray) -> dict[str, list]:
    """For each variant: the colour with the largest share (None for an unnamed one), its least share under jitter, and that without."""
    straight, alpha = straighten(sprite).astype(np.float32), sprite[..., 3]
    words, least, plain = [], [], []
    for number, matrix in enumerate(variant_matrices()):
        best, share = 0, []
        for jitter in jitter_extremes()[: 1 if number == GREY_VARIANT else None]:
            turned = np.clip(straight @ (jitter @ matrix).T, 0, 255).astype(np.uint8)
            counted = colour_shares(turned, alpha)
            best = best if share else int(counted.argmax())
            share.append(float(counted[best]))
        words.append(COLOURS[best] if best < len(COLOURS) else None)
        least.append(round(min(share), 3))
        plain.append(round(share[0], 3))
    return {"colours": words, "shares": least, "plain_shares": plain}


def drawings(node_modules: Path, nouns: list[Noun], size: int) -> Iterator[tuple[Noun, str, str, np.ndarray]]:
    """(noun, set, short name, straight RGBA) of everything the sets hold for `nouns`."""
    packs = [IconifyPack(node_modules, name) for name in ICONIFY_SETS]
    fluent = Fluent3d(node_modules)
    for noun in nouns:
        for slug in noun.artwork:
            for pack in packs:
                svg = pack.svg(slug)
                if svg is not None:
                    yield noun, pack.name, slug, render_svg(svg, size + size // 5)
            picture = fluent.picture(slug)
            if picture is not None:
                yield noun, "fluent-3d", slug, picture
    # After all others, whose places in the index, and so whose scenes, stay as they are.
    for noun in nouns:
        for slug in noun.artwork:
            for pack in packs:
                svg = pack.svg(slug) if pack.name in LINED_SETS else None
                for number in range(REDRAWN if svg is not None else 0):
                    rng = np.random.default_rng([noun.index, LINED_SETS.index(pack.name), number])
                    yield noun, pack.name + LINED, slug, render_svg(redraw(svg, rng), size + size // 5)


def write_cache(entries: Iterator[tuple[int, str, str, np.ndarray]], out: Path, size: int) -> list[dict]:
    """Write `sprites.bin` and `sprites.json` from (noun index, set, short name, straight RGBA); returns the index."""
    out.mkdir(parents=True, exist_ok=True)
    index, offset = [], 0
    partial = out / f"sprites.bin.{os.getpid()}"
    with partial.open("wb") as file:
        for noun, set_name, slug, rgba in entries:
            sprite = trim(premultiply(rgba))
            if sprite.size == 0:
                continue
            levels = pyramid(sprite, size)
            described = describe_colours(levels[COLOUR_LEVEL])
            places = []
            for level in levels:
                places.append([level.shape[0], level.shape[1], offset])
                file.write(level.tobytes())
                offset += level.size
            index.append({"noun": noun, "set": set_name, "name": slug, **described, "levels": places})
    partial.replace(out / "sprites.bin")
    _write_index(out, size, index)
    return index


def _write_index(out: Path, size: int, index: list[dict]) -> None:
    partial = out / f"sprites.json.{os.getpid()}"
    partial.write_text(json.dumps({"size": size, "sprites": index}), encoding="utf-8")
    partial.replace(out / "sprites.json")


def describe_again(out: Path) -> list[dict]:
    """Name the colours of an existing cache anew, after a change of what the words mean."""
    cache = json.loads((out / "sprites.json").read_text(encoding="utf-8"))
    pixels = np.memmap(out / "sprites.bin", dtype=np.uint8, mode="r")
    for entry in cache["sprites"]:
        height, width, offset = entry["levels"][COLOUR_LEVEL]
        entry.update(describe_colours(pixels[offset : offset + height * width * 4].reshape(height, width, 4)))
    _write_index(out, cache["size"], cache["sprites"])
    return cache["sprites"]


def coverage(index: list[dict]) -> str:
    """A table of how much of the nouns each set draws."""
    lines = [f"{'set':20} sprites  nouns  with a colour"]
    sprites, nouns, coloured = Counter(), {}, Counter()
    for entry in index:
        sprites[entry["set"]] += 1
        nouns.setdefault(entry["set"], set()).add(entry["noun"])
        coloured[entry["set"]] += entry["colours"][0] is not None and entry["shares"][0] > 0.55
    for name in sorted(sprites):
        lines.append(f"{name:20} {sprites[name]:7}  {len(nouns[name]):5}  {coloured[name]:7}")
    trained = set().union(*(nouns.get(name, set()) for name in TRAIN_SETS))
    lines.append(f"nouns with artwork to train on: {len(trained)} of {len(NOUNS)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--node-modules", type=Path, help="folder with the artwork packages")
    source.add_argument("--colours-only", action="store_true", help="only name the colours of an existing cache anew")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sprite cache")
    parser.add_argument("--size", type=int, default=320, help="longer side of a sprite, in pixels")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.colours_only:
        print(coverage(describe_again(options.out)))
        return
    entries = ((noun.index, *rest) for noun, *rest in drawings(options.node_modules, NOUNS, options.size))
    print(coverage(write_cache(entries, options.out, options.size)))


if __name__ == "__main__":
    main()
