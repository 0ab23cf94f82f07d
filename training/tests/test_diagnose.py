"""The parts of image tokens are put right one by one, to see which of them costs what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ocelli_training.chat import Chat
from ocelli_training.diagnose import Codes, diagnose
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
    table = report.table()
    assert "| as they are | " in table and "| symbols with the noise of stage 2 | " in table
