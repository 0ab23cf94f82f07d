"""Draws the example pictures of `assets/examples`: scenes of the kind that the bundled model knows, in the sizes and formats users have.

    python -m ocelli_training.examples --artwork CACHE --out ../assets/examples

Only artwork whose licence allows it is used (the training sets; see NOTICE). `truth.json` says what each one shows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from .language import caption
from .scenes import Library, Scene, render, sample_scene

# File, kind of scene, objects, pixels of the side it is drawn at, width / height of the band that is kept.
EXAMPLES = [
    ("scene.png", "ordinary", 2, 672, 1.0),
    ("three-things.jpg", "ordinary", 3, 800, 1.0),
    ("one-thing.webp", "large", 1, 512, 1.0),
    ("four-things.png", "ordinary", 4, 672, 1.0),
    ("wide.jpg", "ordinary", 2, 1200, 16 / 9),
    ("tall.png", "ordinary", 2, 720, 3 / 4),
    ("rotated-by-exif.jpg", "ordinary", 2, 900, 4 / 3),
    ("thumbnail.gif", "large", 1, 160, 1.0),
    ("small.bmp", "large", 2, 224, 1.0),
    ("scan.tiff", "large", 2, 400, 1.0),
    ("transparent.png", "large", 1, 448, 1.0),
    ("large-with-small-things.jpg", "small", 3, 3000, 1.0),
]


def fits(scene: Scene, count: int, aspect: float) -> bool:
    """Whether `scene` has `count` different things, all inside the band of this aspect."""
    if len(scene.objects) != count or len({thing.noun for thing in scene.objects}) != count:
        return False
    keep = min(aspect, 1 / aspect) / 2
    axis = 1 if aspect > 1 else 0
    return all(0.5 - keep <= thing.box[axis] and thing.box[axis + 2] <= 0.5 + keep for thing in scene.objects)


def band(image: Image.Image, aspect: float) -> Image.Image:
    width, height = image.size
    kept_width, kept_height = (width, round(height / aspect)) if aspect > 1 else (round(width * aspect), height)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return image.crop((left, top, left + kept_width, top + kept_height))


def write(image: Image.Image, path: Path) -> None:
    options: dict = {}
    if path.suffix == ".jpg":
        options = {"quality": 88}
    elif path.suffix == ".webp":
        options = {"quality": 90}
    elif path.suffix == ".tiff":
        options = {"compression": "tiff_lzw"}
    elif path.suffix == ".gif":
        image = image.quantize(128)
    if "exif" in path.stem:
        # Stored lying on its side, as a phone does: orientation 6 says "turn by 90 degrees to see it upright".
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    if path.stem == "transparent":
        # The corners are cut away; what is behind counts as white.
        pixels = np.array(image.convert("RGBA"))
        y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] / (pixels.shape[0] - 1) - 0.5
        pixels[np.hypot(x, y) > 0.69, 3] = 0
        image = Image.fromarray(pixels)
    image.save(path, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artwork", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nouns", type=int, default=60)
    parser.add_argument("--seed", type=int, default=4_000_000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    library = Library.load(args.artwork, nouns=args.nouns)
    truth = {}
    for number, (name, kind, count, side, aspect) in enumerate(EXAMPLES):
        rng = np.random.default_rng([args.seed, number])
        while not fits(scene := sample_scene(rng, library, kind), count, aspect):
            pass
        truth[name] = caption(scene, rng)
        write(band(Image.fromarray(render(scene, side)), aspect), args.out / name)
    (args.out / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
