"""Drawings drawn anew with lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocelli_training.artwork import LINED, render_svg, write_cache
from ocelli_training.library import Library
from ocelli_training.redrawing import LINE_WIDTHS, _shaded, redraw
from ocelli_training.scenes import sample_scene

from conftest import shape

DISC = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100"><circle cx="50" cy="50" r="50" fill="#f80"/></svg>'


def drawn(svg: str, side: int = 200) -> np.ndarray:
    return render_svg(svg, side)


def unpaled(svg: str) -> str:
    """`svg` redrawn by the first seed that keeps colours and lines all shapes."""
    return next(new for new in (redraw(svg, np.random.default_rng(seed)) for seed in range(100)) if "#f80" in new and "none" not in new)


def test_a_line_runs_along_the_edge_and_the_fill_stays_inside():
    picture = drawn(unpaled(DISC))
    middle = picture[100]
    opaque = np.flatnonzero(middle[:, 3] > 200)
    assert tuple(middle[opaque[2], :3]) == (0, 0, 0), "the edge is a black line"
    assert tuple(middle[100, :3]) == (255, 136, 0), "the middle keeps its colour"


def test_nothing_of_a_line_that_grows_outwards_is_cut_off():
    picture = drawn(unpaled(DISC))
    line = 200 * LINE_WIDTHS[0] / 2 / (1 + 2 * LINE_WIDTHS[1])
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert not (edge[:, 3] > 200).any(), "the line of a shape that fills the view box lies inside the new one"
    black = (picture[100, :100, 3] > 200) & (picture[100, :100, :3].max(-1) < 40)
    assert black.sum() >= line


def test_widths_and_fills_differ_between_redrawings():
    redrawn = {redraw(DISC, np.random.default_rng(seed)) for seed in range(30)}
    assert len(redrawn) == 30
    kept = sum("#f80" in svg for svg in redrawn)
    assert 5 < kept < 25, "some keep their colours and some do not"


def test_some_redrawings_have_fewer_details_and_all_have_the_first_two_shapes():
    details = "".join(f'<circle cx="{x}" cy="50" r="4" fill="#0f0"/>' for x in range(10, 100, 10))
    redrawn = [redraw(DISC.replace("</svg>", f"{details}</svg>"), np.random.default_rng(seed)) for seed in range(60)]
    left_out = [svg.count('display="none"') for svg in redrawn]
    assert 15 < sum(count > 0 for count in left_out) < 45, "about half are simpler"
    assert not any('display="none"' in svg.split("<circle")[1] + svg.split("<circle")[2] for svg in redrawn)


def test_colours_change_shade_or_hue_and_black_stays_black():
    rng = np.random.default_rng(1)
    orange = np.array((255.0, 136.0, 0.0))
    near, far = ([_shaded(orange, rng, turn) for _ in range(40)] for turn in (0.06, 0.5))
    assert all(colour[0] > colour[2] for colour in near), "another shade of orange is no blue"
    assert any(colour[2] > colour[0] for colour in far), "another hue may be"
    assert (_shaded(np.array((20.0, 20.0, 20.0)), rng, 0.5) == 20.0).all()


def test_a_shape_that_has_a_line_keeps_it():
    svg = DISC.replace("<circle", '<circle stroke="#00f"')
    assert all(redraw(svg, np.random.default_rng(seed)).count('stroke="none"') == 0 for seed in range(40))


def test_what_is_no_drawing_is_refused():
    with pytest.raises(ValueError, match="view box"):
        redraw("<svg></svg>", np.random.default_rng(0))


@pytest.fixture(scope="module")
def with_lines(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Two nouns with a drawing each, and the first with the same drawing twice with lines."""
    red, black = (220, 30, 40), (0, 0, 0)
    entries = [(noun, "noto", f"shape_{noun}", shape(96, red, noun)) for noun in range(2)]
    entries += [(0, "noto" + LINED, "shape_0", shape(96, black, 0))] * 2
    out: Path = tmp_path_factory.mktemp("lined")
    write_cache(iter(entries), out, size=64)
    return Library.load(out, nouns=2)


def test_drawings_with_lines_are_met_in_training_and_never_in_measuring(with_lines: Library):
    def lined(augment: bool) -> list[bool]:
        scenes = (sample_scene(np.random.default_rng(seed), with_lines, augment=augment) for seed in range(60))
        return [with_lines.sprites[thing.sprite].lined for scene in scenes for thing in scene.objects if thing.noun == 0]

    assert not any(lined(augment=False))
    assert 0.2 < np.mean(lined(augment=True)) < 0.7


def test_drawings_with_lines_do_not_get_lines_again(with_lines: Library):
    scenes = (sample_scene(np.random.default_rng(seed), with_lines, augment=True) for seed in range(80))
    styles = {thing.style for scene in scenes for thing in scene.objects if with_lines.sprites[thing.sprite].lined}
    assert styles <= {None, "flat", "grayscale", "hue"}
    assert len(styles) > 1
