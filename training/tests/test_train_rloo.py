"""The RLOO stage: what a batch holds, that a reward is learned, that a run goes on where it stopped."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ocelli_training import train_rloo
from ocelli_training.chat import Chat
from ocelli_training.checkpoint import latest, save
from ocelli_training.data import loader
from ocelli_training.export import PARTS, quantize_model
from ocelli_training.library import Library
from ocelli_training.model import Ocelli, OcelliConfig, TextConfig
from ocelli_training.symbols import codebook
from ocelli_training.train_rloo import image_tokens, main, make_batch, measure, rloo_losses, roll_out

NUM_NOUNS = 12
TOKENIZER = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"


@pytest.fixture(scope="module")
def chat():
    return Chat(TOKENIZER)


def batch_of(library: Library, mode: str, drawn: bool, scenes: int = 2) -> dict:
    book = None if drawn else codebook(NUM_NOUNS, TextConfig().hidden_size).numpy()
    return make_batch(np.random.default_rng(5), library=library, shares={mode: 1}, scenes=scenes, num_questions=2, book=book)


@pytest.mark.parametrize(("mode", "tokens"), [("rapid", 9), ("balanced", 144)])
@pytest.mark.parametrize("drawn", [True, False])
def test_a_batch_has_a_caption_and_questions_for_each_scene_and_its_image_tokens(library, mode, tokens, drawn):
    torch.manual_seed(0)
    batch = batch_of(library, mode, drawn)
    assert [turns[0][:2] for turns in batch["turns"]] == [("caption", "Describe the picture.")] * 2
    assert [len(turns) for turns in batch["turns"]] == [3, 3]
    assert image_tokens(Ocelli(), batch).shape == (2, tokens, TextConfig().hidden_size)


def small_model() -> Ocelli:
    torch.manual_seed(0)
    return Ocelli(OcelliConfig(text=TextConfig(intermediate_size=64, num_hidden_layers=2, num_kv_reuse_layers=1)))


def vowels(scene, kind, expected, text) -> float:
    """A reward that is easily learned: the share of vowels."""
    letters = [char for char in text.lower() if char.isalpha()]
    return sum(char in "aeiou" for char in letters) / max(1, len(letters))


def test_a_short_run_raises_the_reward(library, chat, monkeypatch):
    monkeypatch.setattr(train_rloo, "reward", vowels)
    model = small_model()
    reference = copy.deepcopy(model.decoder).requires_grad_(False)
    batch = batch_of(library, "rapid", drawn=False)
    tokens, generator = image_tokens(model, batch), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=3e-3)
    seen = []
    for _ in range(25):
        said = roll_out(model.decoder, chat, batch, tokens, 6, 3, generator)
        loss, shown = rloo_losses(model.decoder, reference, chat, batch, tokens, said, 0.001)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(shown)
    first, last = seen[:3], seen[-3:]
    assert first[0]["r.kl"] == 0
    assert np.mean([shown["r.reward"] for shown in last]) > np.mean([shown["r.reward"] for shown in first]) + 0.2
    assert last[-1]["r.kl"] > 0


def test_measuring_tells_what_captions_claim(library, chat, monkeypatch):
    said = "A watermelon above a rocket. The rocket is on the left."
    monkeypatch.setattr(Chat, "decode", lambda self, ids: said)
    values = measure(small_model(), chat, [batch_of(library, "rapid", drawn=False)], 2)
    assert values["directions a caption"] == values["places a caption"] == 1
    assert values["colours a caption"] == 0
    assert 0 <= values["reward"] <= 1


def run(monkeypatch, cache: Path, out: Path, init: Path, minutes: float, *more: str) -> dict:
    arguments = [
        "--sprites", str(cache), "--tokenizer", str(TOKENIZER), "--run", str(out), "--init", str(init), "--nouns", str(NUM_NOUNS), "--symbols",
        "--scenes", "1", "--questions", "1", "--samples", "2", "--max-new-tokens", "2", "--minutes", str(minutes), "--threads", "1", *more,
    ]
    # In this process: OpenCV's threads, which other tests have started, do not outlive a fork, and a worker would wait for them.
    monkeypatch.setattr(train_rloo, "loader", lambda make, size, seed, workers: loader(make, size, seed, workers=0))
    monkeypatch.setattr(sys, "argv", ["train_rloo", *arguments])
    main()
    return latest(out)


def begun(folder: Path, quantized: bool = False) -> Path:
    torch.manual_seed(0)
    model, parts = Ocelli(), PARTS if quantized else None
    if quantized:
        quantize_model(model, parts)
    save(folder, model, None, None, 0, 0.0, parts=parts)
    return folder / "checkpoint.pt"


@pytest.mark.parametrize("quantized", [False, True])
def test_a_run_goes_on_from_its_checkpoint_and_leaves_all_but_the_decoder(cache, tmp_path, monkeypatch, quantized):
    monkeypatch.setattr(train_rloo, "reward", vowels)
    init = begun(tmp_path / "init", quantized)
    more = ["--quantize"] if quantized else []
    first = run(monkeypatch, cache, tmp_path / "run", init, 0.05, *more)
    second = run(monkeypatch, cache, tmp_path / "run", init, 0.1, *more)
    assert 0 < first["step"] < second["step"]
    steps = [state["optimizer"][0]["state"][0]["step"] for state in (first, second)]
    assert steps == [first["step"], second["step"]]
    before = torch.load(init, weights_only=True)["model"]
    changed = {name.split(".")[0] for name, value in second["raw"].items() if not torch.equal(value, before[name])}
    assert changed == {"decoder"}
    assert bool(second["parts"]) == quantized


@pytest.mark.parametrize(
    ("quantized", "more", "said"), [(True, [], "is quantized; add --quantize"), (False, ["--samples", "1"], "at least 2 answers")]
)
def test_what_cannot_be_trained_is_told(cache, tmp_path, monkeypatch, capsys, quantized, more, said):
    with pytest.raises(SystemExit):
        run(monkeypatch, cache, tmp_path / "run", begun(tmp_path / "init", quantized), 0.01, *more)
    assert said in capsys.readouterr().err


def test_a_plain_copy_says_what_the_quantized_decoder_says():
    torch.manual_seed(0)
    model, plain = Ocelli(), Ocelli().decoder
    quantize_model(model, PARTS)
    x, positions = torch.randn(1, 5, model.config.text.hidden_size), torch.arange(5)[None]
    wanted = model.decoder.logits(model.decoder(x, positions, None))
    assert not torch.allclose(plain.logits(plain(x, positions, None)), wanted, atol=1e-2)
    train_rloo.follow(plain, model.decoder)
    torch.testing.assert_close(plain.logits(plain(x, positions, None)), wanted, rtol=1e-3, atol=1e-3)
