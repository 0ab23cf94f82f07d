"""A sprite cache of simple shapes, so that the tests need no artwork."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ocelli_training.artwork import VALIDATION_SETS, write_cache
from ocelli_training.library import Library

SHAPE_COLOURS = {"red": (220, 30, 40), "blue": (40, 90, 220), "green": (50, 170, 60), "yellow": (250, 210, 40)}
NUM_NOUNS = 12


def shape(side: int, rgb: tuple[int, int, int], kind: int) -> np.ndarray:
    """A disc, a bar or a ring in a picture with margins: straight RGBA."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    radius = np.hypot(x, y)
    inside = (radius < 0.4, (abs(x) < 0.42) & (abs(y) < 0.14), (radius < 0.42) & (radius > 0.22))[kind % 3]
    picture = np.zeros((side, side, 4), np.uint8)
    picture[inside] = (*rgb, 255)
    if kind % 4 == 3:  # two colours in equal parts: none dominates
        picture[(inside & (x > 0))] = (*SHAPE_COLOURS["blue" if rgb[0] > 128 else "red"], 255)
    return picture


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cache with two training drawings and one for validation of each of `NUM_NOUNS` nouns."""
    rgbs = list(SHAPE_COLOURS.values())
    entries = (
        (noun, name, f"shape_{noun}", shape(96, rgbs[(noun + number) % len(rgbs)], noun))
        for noun in range(NUM_NOUNS)
        for number, name in enumerate(("noto", "twemoji", *VALIDATION_SETS))
    )
    out = tmp_path_factory.mktemp("sprites")
    write_cache(entries, out, size=64)
    return out


@pytest.fixture(scope="session")
def library(cache: Path) -> Library:
    return Library.load(cache, nouns=NUM_NOUNS)
