"""What a caption and an answer are worth: the truth all of it, each kind of error less."""

from __future__ import annotations

import numpy as np
import pytest
from ocelli_training.backgrounds import PATTERNS, Background
from ocelli_training.blank import blank_library
from ocelli_training.language import caption, questions
from ocelli_training.nouns import NOUN_INDEX
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
TRUTH = "A red rocket and two green watermelons on a striped green and white background."


def worth(text: str, scene: Scene = SCENE) -> float:
    return reward(scene, CAPTION, "", text)


@pytest.mark.parametrize(
    "text",
    [
        TRUTH,
        "Two green watermelons and a red rocket on a striped white and green background.",
        "A rocket and two watermelons on a striped green and white background.",
        f"{TRUTH} The rocket is on the left.",
        "A striped green and white background with a red rocket and two green watermelons.",
    ],
)
def test_a_true_caption_is_worth_all(text):
    assert worth(text) == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("an object is missing", "A red rocket on a striped green and white background."),
        ("an object is too many", "A red rocket, a balloon and two green watermelons on a striped green and white background."),
        ("the number is wrong", "A red rocket and three green watermelons on a striped green and white background."),
        ("another noun", "A red balloon and two green watermelons on a striped green and white background."),
        ("a wrong colour", "A blue rocket and two green watermelons on a striped green and white background."),
        ("a false place", f"{TRUTH} The rocket is on the right."),
        ("a false direction", "A red rocket above two green watermelons on a striped green and white background."),
        ("a place of what is not there", f"{TRUTH} The balloon is on the left."),
        ("no background", "A red rocket and two green watermelons."),
        ("no pattern", "A red rocket and two green watermelons on a green and white background."),
        ("a wrong pattern", "A red rocket and two green watermelons on a dotted green and white background."),
        ("a wrong background colour", "A red rocket and two green watermelons on a striped green and black background."),
        ("a noun counted twice", "A red rocket, a green watermelon and a green watermelon on a striped green and white background."),
        ("the background twice", f"{TRUTH[:-1]} on a striped green and white background."),
        ("a place said twice", f"{TRUTH} The rocket is on the left. The rocket is on the left."),
        ("a stammer", f"A {TRUTH.lower()}"),
        ("a colour that stammers", TRUTH.replace("green and white", "green and green and white")),
        ("a word of no caption", f"{TRUTH} Blorp."),
        ("no end", TRUTH[:-1]),
    ],
)
def test_an_error_in_a_caption_costs_something(error, text):
    assert 0 <= worth(text) < 1, error


def test_repetition_is_worth_less_than_saying_it_once():
    single = scene_of(thing("watermelon", 0.8, 0.2))
    once = worth("A watermelon on a striped green and white background.", single)
    twice = worth("A watermelon and a watermelon on a striped green and white background.", single)
    again = worth("A watermelon, a watermelon and a watermelon on a striped green and white background.", single)
    assert once == 1 > twice > again


def test_a_claim_and_its_opposite_are_one_claim():
    scene = scene_of(thing("rocket", 0.2, 0.5), thing("watermelon", 0.8, 0.5))
    said = "A rocket to the left of a watermelon on a striped green and white background."
    assert worth(said, scene) == 1
    assert worth(f"{said} The watermelon is to the right of the rocket.", scene) < 1


def test_a_background_that_cannot_be_told_need_not_be_named():
    unclear = scene_of(thing("rocket", 0.15, 0.5, "red"), clear=False)
    assert worth("A red rocket.", unclear) == 1
    assert worth("A red rocket on a dotted blue background.", unclear) < 1


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


def test_whatever_is_said_of_a_sampled_scene_is_worth_all():
    rng, library = np.random.default_rng(4), blank_library()
    for scene in (sample_scene(rng, library, kind) for kind in SCENE_KINDS for _ in range(150)):
        text = caption(scene, rng)
        silent = 0.1 * ("background" not in text) + 0.1 * (not any(pattern in text for pattern in PATTERNS))
        assert worth(text, scene) == pytest.approx(1 - silent), text
        for _, answer, kind in questions(scene, rng, 4):
            assert reward(scene, kind, answer, answer) == 1, (kind, answer)
