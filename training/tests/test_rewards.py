"""What a caption and an answer are worth: the truth all of it, each kind of error less."""

from __future__ import annotations

import numpy as np
import pytest
from ocelli_training.backgrounds import Background
from ocelli_training.blank import blank_library
from ocelli_training.language import caption, questions
from ocelli_training.nouns import NOUN_INDEX
from ocelli_training.parsing import parse_caption
from ocelli_training.rewards import CAPTION, KINDS, readable, reward
from ocelli_training.scenes import KINDS as SCENE_KINDS
from ocelli_training.scenes import Placement, Scene, SceneObject, sample_scene


def thing(noun: str, cx: float, cy: float, colour: str | None = None) -> SceneObject:
    placement = Placement(cx, cy, 0.2, 1.0, 0.0, False)
    return SceneObject(NOUN_INDEX[noun], colour, False, cx, cy, 0.2, 0.2, 0, placement)


def scene_of(*things: SceneObject, clear: bool = True) -> Scene:
    background = Background("striped", ("green", "white"), ((0, 128, 0), (255, 255, 255)), 0, clear=clear)
    return Scene(background, things, things, "ordinary", 0, blank_library())


# A red rocket at the left, two watermelons at the right, one above the other.
SCENE = scene_of(thing("rocket", 0.15, 0.5, "red"), thing("watermelon", 0.8, 0.2, "green"), thing("watermelon", 0.8, 0.8, "green"))
TRUTH = "A red rocket and two green watermelons on a striped green and white background. The rocket is on the left."
BRIEF = TRUTH.removesuffix(" The rocket is on the left.")


def worth(text: str, scene: Scene = SCENE) -> float:
    return reward(scene, CAPTION, "", text)


@pytest.mark.parametrize(
    "text",
    [
        TRUTH,
        "Two green watermelons and a red rocket on a striped white and green background. The rocket is on the left.",
        "A striped green and white background with a red rocket and two green watermelons. The rocket is on the left.",
    ],
)
def test_a_true_caption_is_worth_all(text):
    assert worth(text) == pytest.approx(1)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("an object is missing", TRUTH.replace("two green watermelons", "a green watermelon")),
        ("a noun is missing", TRUTH.replace(" and two green watermelons", "")),
        ("an object is too many", TRUTH.replace(" and two", ", a balloon and two")),
        ("the number is wrong", TRUTH.replace("two", "three")),
        ("another noun", TRUTH.replace("rocket", "balloon")),
        ("a wrong colour", TRUTH.replace("red", "blue")),
        ("no colour", TRUTH.replace("red ", "")),
        ("a false place", TRUTH.replace("left", "right")),
        ("no place", BRIEF),
        ("a false direction", f"{TRUTH} The rocket is to the right of the watermelon."),
        ("a place of what is not there", f"{TRUTH} The balloon is on the left."),
        ("no background", TRUTH.replace(" on a striped green and white background", "")),
        ("no pattern", TRUTH.replace("striped ", "")),
        ("a wrong pattern", TRUTH.replace("striped", "dotted")),
        ("a wrong background colour", TRUTH.replace("and white", "and black")),
        ("a noun counted twice", TRUTH.replace("two green watermelons", "a green watermelon and a green watermelon")),
        ("the background twice", TRUTH.replace("background.", "background on a striped green and white background.")),
        ("a place said twice", f"{TRUTH} The rocket is on the left."),
        ("a stammer", f"A {TRUTH.lower()}"),
        ("a colour that stammers", TRUTH.replace("green and white", "green and green and white")),
        ("a word of no caption", f"{TRUTH} Blorp."),
        ("no end", TRUTH[:-1]),
    ],
)
def test_an_error_in_a_caption_costs_something(error, text):
    assert text != TRUTH
    assert 0 <= worth(text) < 0.99, error


def test_a_false_claim_is_worth_less_than_none():
    assert worth(TRUTH) > worth(BRIEF) > worth(TRUTH.replace("left", "right"))
    assert worth(TRUTH) > worth(TRUTH.replace("red ", "")) > worth(TRUTH.replace("red", "blue"))


def test_repetition_is_worth_less_than_saying_it_once():
    single = scene_of(thing("watermelon", 0.34, 0.2))  # between two places
    once = worth("A watermelon on a striped green and white background.", single)
    twice = worth("A watermelon and a watermelon on a striped green and white background.", single)
    again = worth("A watermelon, a watermelon and a watermelon on a striped green and white background.", single)
    assert once == pytest.approx(1)
    assert once > twice > again


def test_a_claim_and_its_opposite_are_one_claim():
    scene = scene_of(thing("rocket", 0.2, 0.5), thing("watermelon", 0.8, 0.5))
    said = "A rocket to the left of a watermelon on a striped green and white background."
    assert worth(said, scene) == pytest.approx(1)
    assert worth(f"{said} The watermelon is to the right of the rocket.", scene) < 0.95


def test_a_background_that_cannot_be_told_need_not_be_named():
    unclear = scene_of(thing("rocket", 0.15, 0.5, "red"), clear=False)
    assert worth("A red rocket on the left.", unclear) == pytest.approx(1)
    assert worth("A red rocket on the left of a dotted blue background.", unclear) < 0.95


@pytest.mark.parametrize(
    ("kind", "expected", "wrong", "senseless"),
    [
        ("count", "Two.", "Three.", "Red."),
        ("count", "There are no balloons.", "One.", "There are balloons."),
        ("total", "Three.", "Four.", "Yes."),
        ("exists", "Yes.", "No.", "Yes. Yes."),
        ("relation", "To the left.", "Above.", "To the."),
        ("place", "On the left.", "At the top left.", "On the red."),
        ("place", "There is no balloon.", "There is no rocket.", "There is."),
        ("colour", "Red.", "Blue.", "Rocket."),
        ("background colour", "Green and white.", "Green.", "Green and"),
        ("background colour", "Green.", "Green and green.", "Green green."),
        ("background pattern", "Striped.", "Dotted.", "Striped striped."),
        ("beside", "Nothing.", "A red rocket.", "Red."),
        ("list", "A red rocket.", "Nothing.", "Red."),
    ],
)
def test_a_short_answer_is_right_or_wrong_and_another_kind_of_answer_is_not_readable(kind, expected, wrong, senseless):
    assert reward(SCENE, kind, expected, expected) == 1
    assert reward(SCENE, kind, expected, wrong) == 0
    assert readable(kind, wrong)
    assert reward(SCENE, kind, expected, senseless) == 0
    assert not readable(kind, senseless)


@pytest.mark.parametrize("kind", ["list", "beside"])
def test_a_list_is_right_in_parts(kind):
    expected = "A red rocket and two green watermelons."

    def of(text: str) -> float:
        return reward(SCENE, kind, expected, text)

    assert of("Two green watermelons and a red rocket.") == 1
    for text in (
        "A red rocket.", "A red rocket and a green watermelon.", "A blue rocket and two green watermelons.",
        "A red rocket, a green watermelon and a green watermelon.",
    ):
        assert 0 < of(text) < 1, text
    assert of("A balloon.") == of("Nothing.") == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", ".", "the the the", "A A A A.", "\n", "background.", "and of a."])
def test_no_sense_is_worth_nothing(kind, text):
    assert reward(SCENE, kind, "Two.", text) == 0


def test_what_is_said_of_sampled_scenes_is_worth_all_but_what_it_leaves_out():
    rng, library = np.random.default_rng(4), blank_library()
    for scene in (sample_scene(rng, library, kind) for kind in SCENE_KINDS for _ in range(150)):
        text = caption(scene, rng)
        claims = parse_caption(text)
        left_out = [not claims.background_colours, not claims.pattern, not claims.colours, not (claims.relations or claims.places)]
        assert worth(text, scene) > 0.999 - 0.1 * sum(left_out), text
        for _, answer, kind in questions(scene, rng, 4):
            assert reward(scene, kind, answer, answer) == 1, (kind, answer)
