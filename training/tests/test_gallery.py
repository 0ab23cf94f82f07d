"""Which parts of a caption are marked as wrong, which nouns are confused, and the page of pictures."""

from __future__ import annotations

import json
import stat
import sys
from xml.etree import ElementTree

import pytest
from ocelli_training import gallery
from ocelli_training.confusions import Confusions
from ocelli_training.marking import left_out, wrong_spans
from ocelli_training.nouns import NOUNS


def scene_of(*things):
    background = {"pattern": "striped", "colours": ["red", "blue"]}
    return {"objects": [{"noun": noun, "colour": colour, "cx": cx, "cy": cy} for noun, colour, cx, cy in things], "background": background}


SCENE = scene_of(("cat", "red", 0.2, 0.5), ("cat", "red", 0.4, 0.5), ("dog", None, 0.8, 0.1))


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("Two red cats and a dog on a striped red and blue background. The dog is at the top right.", []),
        ("A cat, a brown dog and a cat.", []),
        ("Two blue cats and a fox.", ["blue", "a fox"]),
        ("A cat and a dog.", ["A cat"]),
        ("Two cats, a dog and a dog.", ["a dog"]),
        ("A dotted red and green background with two cats.", ["dotted", "green"]),
        ("A dog to the left of two cats. The dog is above the cat. The fox is at the top.", ["to the left of", "above", "The fox", "is at the top"]),
        ("", []),
    ],
)
def test_wrong_parts_are_marked_and_nothing_else(caption, wrong):
    spans = wrong_spans(SCENE, caption)
    assert sorted(caption[start:end] for start, end in spans) == sorted(wrong)


def test_what_a_caption_leaves_out_is_listed():
    assert left_out(SCENE, "A cat on a red background.") == ["dog", "blue", "striped"]
    assert left_out(SCENE, "Two cats and a dog on a striped blue and red background.") == []


def test_lines_are_wrapped_and_escaped_with_the_marks_across_them():
    text = "A cat & a very " + "very " * 8 + "long fox."
    lines = gallery.wrapped(text, [(text.index("very"), len(text) - 1)])
    assert lines[0].startswith("A cat &amp; a <tspan") and len(lines) == 2
    assert lines[1].startswith("<tspan") and lines[1].endswith("</tspan>.")


def test_a_wrong_noun_is_taken_for_the_missing_one_at_its_place_in_the_row():
    found = Confusions()
    scene = scene_of(("fox", None, 0.9, 0.5), ("cat", None, 0.1, 0.5), ("dog", None, 0.5, 0.5))
    for caption in ("A tiger, a dog and a bear.", "A tiger, a dog and a fox.", "A cat, a dog and a dog.", "A cat, a dog, a fox and a bus."):
        found.add(scene, caption)
    assert found.pairs == {("tiger", "cat"): 2, ("bear", "fox"): 1} and found.repeated == 1
    report = found.markdown()
    assert "| tiger | cat | 2 | 4 |" in report and "| bear | fox" not in report and "happened once: 1. A noun said once more in place of another: 1." in report
    assert report.index("| cat | 0.50 | 4 |") < report.index("| dog | 1.00 | 4 |")


def test_the_page_holds_every_scene_and_says_whose_artwork_it_is(cache, tmp_path, monkeypatch):
    binary = tmp_path / "ocelli"
    line = json.dumps({"path": "00000.png", "caption": f"A {NOUNS[0].word}."})
    binary.write_text(f"#!/bin/sh\necho '{line}'\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    out = tmp_path / "page.svg"
    arguments = ["--artwork", str(cache), "--ocelli", str(binary), "--nouns", "12", "--count", "6", "--styles", "training", "openmoji"]
    monkeypatch.setattr(sys, "argv", ["gallery", *arguments, "--out", str(out)])
    gallery.main()
    page = ElementTree.parse(out).getroot()
    assert len(page.findall("{*}image")) == 6
    text = " ".join(" ".join(part.itertext()) for part in page.findall("{*}text"))
    assert text.count("(no caption)") == 4 and f"{NOUNS[0].word}" in text
    assert "CC-BY-SA-4.0" in text and "Twemoji (CC-BY-4.0)" in text
