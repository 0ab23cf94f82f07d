"""The parts of image tokens are put right one by one, to see which of them costs what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ocelli_training.chat import IGNORE, Chat, Sequence, Turn, collate
from ocelli_training.diagnose import Codes, Report, diagnose
from ocelli_training.fetching import Things
from ocelli_training.language import questions
from ocelli_training.model import Ocelli
from ocelli_training.scenes import sample_scene
from ocelli_training.symbols import codebook, features, num_words
from ocelli_training.train_vision import Heads

NUM_NOUNS = 264
NEARLY = 0.02  # codes are not quite at right angles
TOKENIZER = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"


def test_each_part_of_a_token_is_replaced_and_the_rest_stays(library):
    codes = Codes(codebook(NUM_NOUNS, 256), NUM_NOUNS)
    target = torch.from_numpy(features(sample_scene(np.random.default_rng(1), library), 3, NUM_NOUNS))[None]
    wrong = target.clone()
    first = num_words(NUM_NOUNS)
    wrong[..., first:] = wrong[..., first:].flip(-1)
    kinds = codes.corrected(wrong @ codes.book, target)
    torch.testing.assert_close(kinds["order and number put right"], kinds["symbols"], atol=NEARLY, rtol=0)
    torch.testing.assert_close(kinds["as they are"], wrong @ codes.book)
    wrong = target.clone()
    wrong[..., :NUM_NOUNS] = wrong[..., :NUM_NOUNS].roll(5, -1)
    kinds = codes.corrected(wrong @ codes.book, target)
    assert not torch.allclose(kinds["order and number put right"], kinds["symbols"], atol=5 * NEARLY)
    torch.testing.assert_close(kinds["both put right"], kinds["symbols"], atol=NEARLY, rtol=0)


def test_the_report_counts_every_object_and_every_scene(library):
    torch.manual_seed(0)
    report = diagnose(Ocelli().eval(), Heads(192, len(library.nouns)), library, Chat(TOKENIZER), "rapid", 6)
    assert report.seen["objects named by the token at their centre"].total >= 6
    assert {scores.scenes for scores in report.captions.values()} == {6}
    assert len({tally.total for tally in report.directions.values()}) == 1 and report.directions["symbols"].total > 0
    assert set(report.errors) == set(report.captions) and len(report.followed) == 2 * len(report.captions)
    table = report.table()
    assert "| as they are | " in table and "| symbols with the noise of stage 2 | " in table


def test_a_direction_follows_from_places_and_offsets_that_are_right(library):
    rng, chat = np.random.default_rng(3), Chat(TOKENIZER)
    while True:
        scene = sample_scene(rng, library)
        asked = questions(scene, rng, 1, {"relation": 1.0})
        if asked and not asked[0][1].startswith("There"):
            break
    batch = collate([Sequence.of(chat, [9], [Turn(*asked[0][:2])], Things.of(scene, 3))])
    answer = int((batch["labels"][0] != IGNORE).nonzero()[0])
    first, second = (int(batch[name][0, answer]) for name in ("first_compared", "second_compared"))
    places = batch["places"][0, batch["named"][0, [first, second]]]
    known = {"named": torch.zeros(1, batch["ids"].shape[1], 2), "offset": torch.zeros(1, batch["ids"].shape[1], 2)}
    known["named"][0, [first, second]] = places
    known["offset"][0, answer] = places[1] - places[0]  # the wrong way round
    report = Report()
    report.compare("tokens", known, batch)
    assert report.errors["tokens"] == [0.0]
    assert report.followed["tokens", "places"].right == 1 and report.followed["tokens", "offset"].right == 0
