"""The table of goals: what each row is the mean of, its interval, and when a goal is reached."""

from __future__ import annotations

import pytest
from ocelli_training.goals import ROWS, Column, estimate, goals_table
from ocelli_training.metrics import KIND_MEASURES, Scores, Tally

ROW = {row.name: row for row in ROWS}
F1, QUESTIONS = ROW["all nouns, balanced: object F1"], ROW["questions, mean over kinds"]
HIGH = "high: object F1 on 1344 scenes of small objects"


def scores_of(*scenes):
    """Of scenes that are given as measure -> (right, all)."""
    return Scores({f"{i}.png": {name: Tally(*pair) for name, pair in scene.items()} for i, scene in enumerate(scenes)})


def all_alike(share, measure="object F1", count=50):
    return scores_of(*[{measure: (share, 1)}] * count)


def line_of(table, name):
    return next(line for line in table.splitlines() if line.startswith(f"| {name} |"))


def test_a_measure_is_the_quotient_of_sums_over_scenes():
    found = estimate(F1, scores_of({"object F1": (2, 2)}, {"object F1": (2, 6)}))
    assert found.value == pytest.approx(4 / 8)
    assert found.low == pytest.approx(1 / 3) and found.high == 1


def test_questions_count_by_kind_however_often_each_is_asked():
    often, seldom = KIND_MEASURES[0], KIND_MEASURES[1]
    assert estimate(QUESTIONS, scores_of({often: (9, 9)}, {seldom: (0, 1)})).value == pytest.approx(0.5)


def test_the_interval_shrinks_with_the_number_of_scenes_and_is_the_same_each_time():
    few, many = (scores_of(*[{"object F1": (i % 2, 1)} for i in range(count)]) for count in (20, 500))
    assert estimate(F1, few) == estimate(F1, few)
    assert estimate(F1, few).low < estimate(F1, many).low < 0.5 < estimate(F1, many).high < estimate(F1, few).high


def test_two_models_are_compared_scene_by_scene():
    """Where one is always 0.1 better, the difference has no spread, however much the scenes differ."""
    better, worse = (scores_of(*[{"object F1": (i % 9 + plus, 10)} for i in range(60)]) for plus in (1, 0))
    difference = estimate(F1, better, worse)
    assert difference.low == pytest.approx(0.1) and difference.high == pytest.approx(0.1)


def test_what_was_never_said_has_no_value():
    assert estimate(ROW["relation right, when said"], all_alike(1.0)) is None


def test_each_row_says_its_goal_and_whether_it_is_reached():
    table = goals_table({Column("balanced", "training", "balanced"): all_alike(0.98), Column("balanced", "openmoji", "balanced"): all_alike(0.5)})
    assert line_of(table, F1.name) == (
        "| all nouns, balanced: object F1 | 50 | 0.980 (0.980 to 0.980) | ≥ 0.97 | yes | 0.500 (0.500 to 0.500) | ≥ 0.80 | no |"
    )
    assert "| - | ≥ 0.93 | - | - | ≥ 0.70 | - |" in line_of(table, "rapid: object F1 (scenes of large objects)")


@pytest.mark.parametrize(("rapid", "reached"), [(0.80, "yes"), (0.90, "no")])
def test_the_high_mode_must_also_be_far_above_rapid(rapid, reached):
    columns = {Column("high", "training", "high"): all_alike(0.96), Column("high", "training", "rapid"): all_alike(rapid)}
    line = line_of(goals_table(columns), HIGH)
    assert f"{0.96 - rapid:.3f} " in line and line.endswith(f"| ≥ 0.95, ≥ 0.15 above rapid | {reached} |")


def test_the_loss_is_that_of_the_row_that_loses_most():
    def columns(balanced, rapid):
        return {Column("balanced", "training", "balanced"): all_alike(balanced), Column("rapid", "training", "rapid"): all_alike(rapid)}

    line = goals_table(columns(0.90, 0.80), columns(0.91, 0.85)).splitlines()[-1]
    assert "0.050 (0.050 to 0.050), in “rapid: object F1 (scenes of large objects)” | ≤ 0.02 in any row | no |" in line
    assert "| - | ≤ 0.02 in any row | - |" in goals_table(columns(0.90, 0.80)).splitlines()[-1]
