"""Scenes in symbols and pixels."""

from __future__ import annotations

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from ocelli_training.artwork import VALIDATION_SETS
from ocelli_training.backgrounds import FAINT, PATTERNS, paint_background, sample_background
from ocelli_training.blank import blank_library
from ocelli_training.colours import COLOUR_INDEX, COLOURS, name_pixels, paint
from ocelli_training.library import Library
from ocelli_training.nouns import NOUNS
from ocelli_training.scenes import KINDS, MAX_OVERLAP, crop, overlap, patch_labels, render, sample_scene
from ocelli_training.truth import groups


def scenes(library, kind, count, augment=False, seed=0):
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, library, kind, augment) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_scene_and_the_same_pixels(library, kind):
    for first, second in zip(scenes(library, kind, 20, True), scenes(library, kind, 20, True), strict=True):
        assert first == second
        assert np.array_equal(render(first, 96), render(second, 96))


def test_a_pickled_scene_draws_the_same(library):
    for scene in scenes(library, "ordinary", 5, True):
        assert np.array_equal(render(pickle.loads(pickle.dumps(scene)), 64), render(scene, 64))


@pytest.mark.parametrize(("kind", "low", "high"), [("ordinary", 0.1, 0.9), ("large", 0.3, 0.9), ("small", 0.06, 0.14)])
def test_objects_are_inside_apart_and_of_the_size_of_their_kind(library, kind, low, high):
    counts = set()
    for scene in scenes(library, kind, 300):
        counts.add(len(scene.objects))
        for i, thing in enumerate(scene.objects):
            left, top, right, bottom = thing.box
            assert min(left, top) > -1e-6 and max(right, bottom) < 1 + 1e-6
            assert low - 1e-6 <= max(thing.w, thing.h) <= high + 1e-6
            assert all(overlap(thing.box, other.box) <= 0.101 for other in scene.objects[:i])
    assert counts == {1, 2, 3, 4}


@pytest.mark.parametrize("word", COLOURS)
def test_a_painted_colour_has_the_name_it_was_painted_for(word):
    rng = np.random.default_rng(0)
    painted = np.array([paint(rng, word) for _ in range(1000)], np.uint8)
    assert (name_pixels(painted) == COLOUR_INDEX[word]).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_background_shows_its_colours(pattern):
    rng = np.random.default_rng(1)
    seen = 0
    while seen < 40:
        background = sample_background(rng)
        if background.pattern != pattern:
            continue
        seen += 1
        named = np.bincount(name_pixels(paint_background(background, 128)).ravel(), minlength=len(COLOURS) + 1) / 128**2
        for word in background.colours:
            assert named[COLOUR_INDEX[word]] > ({"dotted": 0.12, "gradient": 0.08}.get(pattern, 0.25)), (background, named)


def test_training_has_more_of_the_backgrounds_that_are_mistaken_most_often():
    def hard(share: float) -> float:
        backgrounds = [sample_background(np.random.default_rng(seed), hard=share) for seed in range(400)]
        faint = [b for b in backgrounds if b.pattern in FAINT and b.colours in (("black",), ("white",), ("grey",))]
        return np.mean([b in faint or b.pattern == "gradient" for b in backgrounds])

    assert hard(0.0) < 0.3, "as in the world"
    assert hard(1.0) == 1.0
    on_black = [sample_background(np.random.default_rng(seed), {"black"}, hard=1.0) for seed in range(400)]
    assert not [b for b in on_black if b.colours == ("black",)], "a black thing would not be seen on it"
    assert [sample_background(np.random.default_rng(7), hard=0.0)] == [sample_background(np.random.default_rng(7))]


def test_a_crop_of_a_background_is_that_part_of_it():
    rng = np.random.default_rng(2)
    for _ in range(40):
        background = sample_background(rng)
        whole = paint_background(background, 256).astype(int)
        part = paint_background(background.cropped(0.25, 0.5, 0.5), 128).astype(int)
        assert np.abs(whole[128:256, 64:192] - part).mean() < 6, background


def test_colour_words_follow_the_sprite(library):
    words = set()
    for scene in scenes(library, "ordinary", 200):
        for thing in scene.objects:
            sprite = library.sprites[thing.sprite]
            assert thing.colour == sprite.colour(thing.variant)
            assert not (thing.mixed and thing.colour)
            words.add(thing.colour)
    assert {"red", "blue", "green", "yellow", None} <= words


def test_a_colour_word_is_what_the_pixels_show(library):
    for scene in scenes(library, "large", 60):
        for thing in scene.objects:
            if thing.colour is None:
                continue
            alone = replace(scene, objects=(thing,), drawn=(thing,), background=replace(
                scene.background, pattern="plain", colours=("white",), rgb=((255, 255, 255),)
            ))
            pixels = render(alone, 160)
            names = name_pixels(pixels[(pixels != 255).any(-1)])
            share = (names == COLOUR_INDEX[thing.colour]).mean()
            assert share > 0.45, (thing.colour, share, thing)


def test_labels_name_the_nouns_that_are_drawn(library):
    for scene in scenes(library, "crowded", 60):
        labels = patch_labels(scene, 24)
        assert labels.shape == (24, 24) and labels.dtype == np.int16
        assert set(np.unique(labels)) - {-1, -2} == {thing.noun for thing in scene.objects}
        assert (labels == -1).any()


def test_labels_lie_where_the_object_is(library):
    for scene in scenes(library, "ordinary", 100):
        labels = patch_labels(scene, 24)
        for thing in scene.objects:
            rows, columns = np.nonzero(labels == thing.noun)
            same = [other for other in scene.objects if other.noun == thing.noun]
            for row, column in zip(rows, columns, strict=True):
                x, y = (column + 0.5) / 24, (row + 0.5) / 24
                assert any(abs(x - o.cx) <= o.w / 2 + 0.03 and abs(y - o.cy) <= o.h / 2 + 0.03 for o in same)


def test_a_crop_shows_that_part_of_the_picture(library):
    for scene in scenes(library, "ordinary", 40):
        part = crop(scene, 0.25, 0.25, 0.5)
        difference = np.abs(render(scene, 192)[48:144, 48:144].astype(int) - render(part, 96).astype(int))
        assert difference.mean() < 8
        assert {thing.sprite for thing in part.objects} <= {thing.sprite for thing in scene.objects}
        for thing in part.objects:
            assert min(thing.box) >= -1e-9 and max(thing.box) <= 1 + 1e-9
        again = crop(crop(scene, 0.2, 0.2, 0.8), 0.25, 0.25, 0.5)
        once = crop(scene, 0.4, 0.4, 0.4)
        assert [thing.sprite for thing in again.drawn] == [thing.sprite for thing in once.drawn]
        assert np.abs(render(again, 64).astype(int) - render(once, 64).astype(int)).mean() < 2


def test_a_warped_thing_has_other_proportions_and_the_same_box(library):
    plain = next(s for s in scenes(library, "large", 50) if len(s.objects) == 1 and s.objects[0].style is None)
    bent = replace(plain, drawn=(replace(plain.objects[0], warp=0.06),))
    nothing = replace(plain, drawn=())
    first, second, empty = (render(scene, 224).astype(int) for scene in (plain, bent, nothing))
    assert np.abs(first - second).max() > 60
    boxes = []
    for picture in (first, second):
        rows, columns = np.nonzero(np.abs(picture - empty).max(-1) > 30)
        boxes.append((rows.min(), rows.max(), columns.min(), columns.max()))
    assert np.allclose(*boxes, atol=6)
    part = crop(bent, 0.1, 0.1, 0.8)
    assert np.abs(cv2.resize(render(bent, 280)[28:252, 28:252], (224, 224)).astype(int) - render(part, 224)).mean() < 4, "every view shows the same"


def test_things_in_foreign_colours_have_no_colour_word(library):
    things = [thing for scene in scenes(library, "ordinary", 300, augment=True) for thing in scene.objects]
    foreign = [thing for thing in things if thing.style and thing.variant and thing.colour is None]
    assert {thing.style for thing in foreign} >= {"ink", "outline", "flat", "hue", "grayscale"}
    living = [thing for thing in things if thing.variant and not NOUNS[thing.noun].man_made]
    assert living and all(thing.colour is None and not thing.mixed for thing in living)


def test_scenes_of_training_have_more_things_that_stand_right_above_each_other():
    def closest(augment: bool) -> np.ndarray:
        rng, library, gaps = np.random.default_rng(0), blank_library(), []
        for _ in range(1000):
            scene = sample_scene(rng, library, "ordinary", augment)
            for i, thing in enumerate(scene.objects):
                assert 0 <= thing.box[0] + 1e-6 and thing.box[2] <= 1 + 1e-6
                assert all(overlap(thing.box, other.box) <= MAX_OVERLAP for other in scene.objects[:i])
            at = sorted(group.members[0].cx for group in groups(scene))
            gaps += [min(np.diff(at))] if len(at) == 2 else []  # of more nouns two are close by chance
        return np.array(gaps)

    assert np.mean(closest(True) < 0.05) > 2 * np.mean(closest(False) < 0.05)


def test_only_augmented_scenes_are_turned_far(library):
    def most(augment: bool) -> float:
        return max(abs(thing.placement.angle) for scene in scenes(library, "ordinary", 200, augment) for thing in scene.objects)

    assert most(False) <= 22 < 45 < most(True)


def test_only_augmented_scenes_are_warped(library):
    assert any(thing.warp for scene in scenes(library, "ordinary", 20, True) for thing in scene.objects)
    assert not any(thing.warp or thing.style for scene in scenes(library, "ordinary", 20) for thing in scene.objects)


def test_a_crop_does_not_list_what_it_cuts_off(library):
    scene = next(s for s in scenes(library, "large", 50) if len(s.objects) == 1)
    thing = scene.objects[0]
    left, _, right, _ = thing.box
    size = 0.9 * (1 - (left + 0.8 * (right - left)))
    part = crop(scene, left + 0.8 * (right - left), max(0.0, thing.cy - size / 2), size)
    assert part.objects == () and len(part.drawn) == 1


def test_a_library_holds_the_nouns_and_sets_that_were_asked_for(cache):
    small = Library.load(cache, nouns=3, sets=VALIDATION_SETS)
    assert len(small.nouns) == len(small.plurals) == 3
    assert {sprite.set for sprite in small.sprites.values()} == set(VALIDATION_SETS)
    assert sorted(small.of_noun) == [0, 1, 2]
    with pytest.raises(ValueError, match="no sprite"):
        Library.load(cache, sets=("unheard-of",))
