"""Making scenes for measurement, and judging captions of them."""

from __future__ import annotations

import json
import stat
import sys

import cv2
import numpy as np
import pytest
from ocelli_training.answers import Binary
from ocelli_training.evaluate import MODES, main, make, read_lines, scene_truth, score, table
from ocelli_training.library import Library
from ocelli_training.metrics import answer_is_right, place_is_true, relation_is_true
from ocelli_training.nouns import NOUNS
from ocelli_training.scenes import sample_scene

NUM_NOUNS = 12


@pytest.mark.parametrize("style", ["training", "openmoji"])
@pytest.mark.parametrize("mode", MODES)
def test_the_truth_itself_scores_full_marks(cache, tmp_path, mode, style):
    truth = make(cache, tmp_path, mode, style, count=8, seed=1, nouns=NUM_NOUNS, asked=4)
    assert truth == read_lines(tmp_path / "truth.jsonl")
    assert cv2.imread(str(tmp_path / truth[0]["path"])).shape == (MODES[mode][0], MODES[mode][0], 3)
    answers = [{"path": f"/elsewhere/{record['path']}", "caption": record["caption"]} for record in truth]
    answers += [{"path": record["path"], **question} for record in truth for question in record["questions"]]
    scores = score(truth, answers)
    values = {name: share for name, share, _ in scores.values()}
    for name in ("object F1", "exact objects", "noun recall", "? all"):
        assert values[name] == 1, values
    for name in ("relations", "places", "object colours"):
        assert values.get(name, 1) == 1, values
    assert "| object F1 | 1.000 |" in table({"here": scores})


def test_the_same_seed_makes_the_same_scenes(cache, tmp_path):
    first, second, other = (
        make(cache, tmp_path / str(i), "rapid", "training", count=3, seed=seed, nouns=NUM_NOUNS, asked=2)
        for i, seed in enumerate((5, 5, 6))
    )
    assert first == second != other
    assert (tmp_path / "0" / "00001.png").read_bytes() == (tmp_path / "1" / "00001.png").read_bytes()


def scene_of(*things):
    background = {"pattern": "striped", "colours": ["red", "blue"]}
    objects = [{"noun": noun, "colour": colour, "cx": cx, "cy": cy, "w": 0.2, "h": 0.2} for noun, colour, cx, cy in things]
    return {"path": "0.png", "objects": objects, "background": background, "caption": "", "questions": []}


def values_of(truth, caption):
    return {name: share for name, share, _ in score([truth], [{"path": "0.png", "caption": caption}]).values()}


def test_mistakes_are_counted_as_what_they_are():
    truth = scene_of(("cat", "red", 0.2, 0.5), ("cat", None, 0.8, 0.5), ("dog", None, 0.5, 0.1))
    values = values_of(truth, "A blue cat and a dog on a striped blue and red background. The dog is at the bottom.")
    assert values["object F1"] == pytest.approx(2 * 2 / 5)
    assert values["exact objects"] == 0 and values["noun recall"] == 1
    assert values["background colour"] == 1 and values["background pattern"] == 1
    assert values["places"] == 0 and values["object colours"] == 0
    assert values_of(truth, "")["object F1"] == 0


def test_nouns_are_counted_by_their_place_in_the_order_of_a_caption():
    truth = scene_of(("fox", None, 0.9, 0.5), ("cat", None, 0.1, 0.5), ("dog", None, 0.5, 0.1), ("cat", None, 0.95, 0.8))
    values = values_of(truth, "Two cats and a fox on a plain red background.")
    assert {name: share for name, share in values.items() if name.startswith("noun ") and name[5].isdigit()} == {
        "noun 1 of 3": 1, "noun 2 of 3": 0, "noun 3 of 3": 1
    }


def test_claims_about_positions_are_judged_by_the_boxes():
    truth = scene_of(("cat", None, 0.2, 0.5), ("dog", None, 0.7, 0.6))
    assert relation_is_true(truth, ("cat", "to the left of", "dog"))
    assert not relation_is_true(truth, ("cat", "above", "dog"))
    assert not relation_is_true(truth, ("cat", "to the left of", "fox"))
    assert place_is_true(truth, ("cat", "left")) and not place_is_true(truth, ("cat", "top left"))
    assert place_is_true(truth, ("dog", "right"))


@pytest.mark.parametrize(
    ("answer", "truth", "kind", "right"),
    [
        ("two", "Two.", "count", True), ("Three.", "Two.", "count", False), ("Blue and white.", "White and blue.", "background colour", True),
        ("A dog and a cat.", "A red cat and a dog.", "list", True), ("A dog.", "A cat and a dog.", "list", False),
        ("Nothing.", "Nothing.", "beside", True), ("A cat.", "Nothing.", "beside", False), ("Nothing.", "A cat.", "beside", False),
        ("There is no cat.", "There is no cat.", "beside", True), ("A cat.", "There is no cat.", "beside", False),
        ("There is no cat.", "A cat.", "beside", False), ("", "Yes.", "exists", False),
    ],
)  # fmt: skip
def test_answers_are_judged_by_what_they_say(answer, truth, kind, right):
    assert answer_is_right(answer, truth, kind) is right


def test_the_binary_is_called_once_for_captions_and_once_a_question(cache, tmp_path):
    truth = make(cache, tmp_path / "scenes", "rapid", "training", count=3, seed=1, nouns=NUM_NOUNS, asked=2)
    binary = tmp_path / "ocelli"
    line = json.dumps({"path": "scenes/00000.png", "caption": f"A {NOUNS[0].word}."})
    binary.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/calls\nif [ $1 = ask ]; then echo Yes.; else echo '{line}'; fi\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    told = Binary(binary, tmp_path / "model", tmp_path / "kept")
    answers = told.captions(tmp_path / "scenes", "rapid") + told.answers(tmp_path / "scenes", "rapid", truth[:2])
    assert all(f"--model {tmp_path}/model --cache {tmp_path}/kept" in call for call in (tmp_path / "calls").read_text().splitlines())
    assert len((tmp_path / "calls").read_text().splitlines()) == 1 + 2 * 2
    assert score(truth, answers).scenes == 3


def test_a_run_makes_scenes_asks_and_prints_goals_details_and_confusions(cache, tmp_path, monkeypatch, capsys):
    binary = tmp_path / "ocelli"
    line = json.dumps({"path": "00000.png", "caption": f"A {NOUNS[0].word}."})
    binary.write_text(f"#!/bin/sh\nif [ $1 = ask ]; then echo Yes.; else echo '{line}'; fi\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    arguments = ["--artwork", str(cache), "--ocelli", str(binary), "--nouns", str(NUM_NOUNS), "--count", "3", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["evaluate", "run", *arguments, "--details", "--against", str(tmp_path / "other")])
    main()
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "table.md").read_text()
    assert "3 fresh scenes a row, 12 nouns, seed 9000" in printed and "| high openmoji, seen in rapid, 32 bits |" in printed
    assert printed.splitlines()[-1].startswith("|") and "Nouns, OpenMoji (never trained on): rapid, balanced, high" in printed
    assert "| loss by 2-bit QAT against the same model at 32 bits | as above | 0.000 (0.000 to 0.000), in" in printed
    monkeypatch.setattr(sys, "argv", ["evaluate", "confusions", "--out", str(tmp_path / "out"), "--modes", "high"])
    main()
    assert capsys.readouterr().out.startswith("Nouns, training styles: high")


def test_no_seed_of_training_draws_the_scenes_of_the_table(cache, tmp_path):
    """Training draws from [seed, worker], and numbers that are left out count as zero."""
    library = Library.load(cache, nouns=NUM_NOUNS)
    trained_on = scene_truth(sample_scene(np.random.default_rng([5000, 0]), library, "large"))
    assert trained_on == scene_truth(sample_scene(np.random.default_rng([5000, 0, 0]), library, "large"))
    measured = make(cache, tmp_path, "rapid", "training", count=1, seed=5000, nouns=NUM_NOUNS, asked=0)[0]
    assert measured["objects"] != trained_on["objects"]
