"""The committed tokenizer, and the way it is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ocelli_training.blank import blank_library
from ocelli_training.language import caption, questions
from ocelli_training.nouns import NOUNS
from ocelli_training.scenes import sample_scene
from ocelli_training.tokenizer import SPECIAL_TOKENS, VOCAB_SIZE, train
from tokenizers import Tokenizer

COMMITTED = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(COMMITTED))


def test_special_tokens_have_their_ids(tokenizer):
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(7))
    assert tokenizer.encode("<bos><turn_start>user\n<image_start><image><image><image_end>Hi<turn_end>").ids[:2] == [1, 2]


def test_every_id_below_the_vocabulary_size_has_one_token(tokenizer):
    vocab = tokenizer.get_vocab()
    assert sorted(vocab.values()) == list(range(VOCAB_SIZE))


def test_words_of_the_world_are_single_tokens(tokenizer):
    words = {word for noun in NOUNS for word in (*noun.word.split(), *noun.plural.split())}
    split = [word for word in words if len(tokenizer.encode(f" {word}").ids) > 1]
    assert len(split) <= 0.02 * len(words), split


@pytest.mark.parametrize(
    "text",
    ["A red fox on a plain blue background.", "Grüße, 你好! Привет ∑ ☃ 🦊👩‍👩‍👧", "  two  spaces\n\n\ttab ", "\x00\x7f\u2028", "don't 12345", "สวัสดี ᚠᚢᚦ", ""],
)  # fmt: skip
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_captions_survive_and_are_short(tokenizer):
    rng, lengths = np.random.default_rng(0), []
    for _ in range(500):
        scene = sample_scene(rng, blank_library(), "ordinary")
        for text in (caption(scene, rng), *(part for asked in questions(scene, rng, 3) for part in asked[:2])):
            assert tokenizer.decode(tokenizer.encode(text).ids) == text
        lengths.append(len(tokenizer.encode(caption(scene, rng)).ids))
    assert np.mean(lengths) < 20


def test_training_is_deterministic():
    assert train(scenes=400).to_str() == train(scenes=400).to_str()
