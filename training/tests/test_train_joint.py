"""What a step of the joint stage teaches, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ocelli_training import train_joint
from ocelli_training.chat import Chat
from ocelli_training.library import Library
from ocelli_training.model import Ocelli, TextConfig
from ocelli_training.symbols import codebook
from ocelli_training.train_vision import Heads

NUM_NOUNS = 12
TOKENIZER = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"


def learned(cache: Path, learns: str, shares: dict, monkeypatch) -> tuple[set[str], dict]:
    """The parts of the model that get a gradient from one batch, and its losses."""
    torch.manual_seed(0)
    monkeypatch.setitem(train_joint.BATCH, "rapid", 2)
    model = Ocelli()
    book = codebook(NUM_NOUNS, TextConfig().hidden_size)
    batch = train_joint.make_batch(
        np.random.default_rng(3), library=Library.load(cache, nouns=NUM_NOUNS), chat=Chat(TOKENIZER), patch_size=28, shares=shares,
        book=book.numpy(),
    )
    out = train_joint.joint_losses(model, Heads(192, NUM_NOUNS), batch, book, NUM_NOUNS, learns)
    sum(loss for loss in out.values() if loss.requires_grad).backward()
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}, out


@pytest.mark.parametrize(
    ("learns", "parts", "has_text"),
    [
        ("all", {"vision", "adapter", "decoder"}, True),
        ("vision", {"vision", "adapter"}, False),
        ("decoder", {"decoder"}, True),
    ],
)
def test_a_drawn_batch_teaches_the_parts_that_learn(cache, monkeypatch, learns, parts, has_text):
    taught, out = learned(cache, learns, {"rapid": 1}, monkeypatch)
    assert taught == parts
    assert ("text" in out) == has_text
    assert all(torch.isfinite(loss) for loss in out.values())


def test_a_batch_for_patches_teaches_the_encoder_and_its_adapter(cache, monkeypatch):
    monkeypatch.setitem(train_joint.BATCH, "patches", 2)
    taught, out = learned(cache, "all", {"patches": 1}, monkeypatch)
    assert taught == {"vision", "adapter"}
    assert "patch" in out and "pooled" in out and "dense" not in out and "text" not in out


def test_a_symbolic_batch_teaches_the_decoder_and_the_token_positions(cache, monkeypatch):
    taught, out = learned(cache, "all", {"symbols": 1}, monkeypatch)
    assert taught == {"adapter", "decoder"}
    assert set(out) == {"symbols_text", "symbols_place", "symbols_look", "symbols_right"}


def test_a_teacher_that_agrees_adds_nothing_and_another_one_does(cache):
    torch.manual_seed(0)
    model, other = Ocelli(), Ocelli()
    book = codebook(NUM_NOUNS, TextConfig().hidden_size)
    batch = train_joint.make_batch(
        np.random.default_rng(3), library=Library.load(cache, nouns=NUM_NOUNS), chat=Chat(TOKENIZER), patch_size=28, shares={"symbols": 1},
        book=book.numpy(),
    )

    def text(teacher) -> float:
        return train_joint.joint_losses(model, Heads(192, NUM_NOUNS), batch, book, NUM_NOUNS, teacher=teacher)["symbols_text"].item()

    words = text(None)
    assert abs(text(model.decoder) - 0.5 * words) < 1e-4 * words
    assert text(other.decoder) > 0.5 * words + 1e-3
