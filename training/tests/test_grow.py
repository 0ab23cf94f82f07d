"""A model that was grown says what the small one said, and knows how to call what is new."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ocelli_training.chat import Chat
from ocelli_training.export import config_of
from ocelli_training.grow import grow, name_more
from ocelli_training.model import Ocelli, OcelliConfig, TextConfig
from ocelli_training.nouns import NOUNS
from ocelli_training.symbols import codebook

TOKENIZER = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"
SMALL = TextConfig(hidden_size=128, intermediate_size=416, num_attention_heads=4, num_key_value_heads=2)


@pytest.fixture(scope="module")
def models() -> tuple[Ocelli, Ocelli]:
    torch.manual_seed(0)
    small, large = Ocelli(OcelliConfig(text=SMALL)).eval(), Ocelli().eval()
    with torch.no_grad():
        for p in small.parameters():  # norms that are not all one, biases that are not all zero
            p.add_(0.1 * torch.rand_like(p))
    grow(small, large)
    return small, large


def test_a_grown_model_makes_the_same_image_tokens_and_logits(models):
    small, large = models
    with torch.no_grad():
        pixels = torch.randn(1, 3, 224, 224)
        narrow, wide = small.image_tokens(pixels, 3), large.image_tokens(pixels, 3)
        torch.testing.assert_close(wide[..., :128], narrow, rtol=1e-4, atol=1e-4)
        assert not wide[..., 128:].any()
        ids = torch.randint(0, SMALL.vocab_size, (1, 12))
        logits = [
            model.decoder.logits(model.decoder(torch.cat([tokens, model.decoder.embedding.lookup(ids)], 1), torch.arange(21)[None], None))
            for model, tokens in ((small, narrow), (large, wide))
        ]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-3, atol=1e-3)


def test_all_that_was_added_can_learn(models):
    _, large = models
    hidden = large.decoder(torch.randn(1, 7, large.config.text.hidden_size), torch.arange(7)[None], None)
    large.decoder.logits(hidden).logsumexp(-1).sum().backward()
    for name, p in large.decoder.named_parameters():
        assert p.grad is not None, name
        if name.endswith("output_transform.weight"):
            assert p.grad[128:].abs().max() > 0 and p.grad[:, -10:].abs().max() > 0, name


def test_other_layers_or_heads_are_refused(models):
    small, _ = models
    deeper = Ocelli(OcelliConfig(text=TextConfig(num_hidden_layers=9)))
    with pytest.raises(ValueError, match="layers"):
        grow(small, deeper)
    uneven = Ocelli(OcelliConfig(text=TextConfig(num_key_value_heads=3)))
    with pytest.raises(ValueError, match="multiple"):
        grow(small, uneven)


def test_the_size_of_a_checkpoint_is_read_from_its_shapes(models):
    small, _ = models
    assert config_of(small.state_dict()).text == SMALL


def test_the_word_of_a_new_noun_is_made_like_those_that_were_trained(models):
    decoder, chat = models[1].decoder, Chat(TOKENIZER)
    weight, book = decoder.embedding.weight, codebook(len(NOUNS), decoder.config.hidden_size)
    common = torch.linspace(-0.1, 0.1, weight.shape[1])

    def tokens(noun):
        return chat.encode(f" {noun.word}")

    with torch.no_grad():
        for noun in NOUNS[:60]:
            for token in tokens(noun):
                weight[token] = common + 1.2 * book[noun.index] - common @ book[noun.index] * book[noun.index]
    before = weight.clone()
    name_more(decoder, chat, 60)
    zebra = next(noun for noun in NOUNS if noun.word == "zebra")
    new, known = weight[tokens(zebra)[0]], weight[tokens(NOUNS[0])[0]]
    assert (new @ book[zebra.index]).item() == pytest.approx(1.2, abs=0.1)
    assert (book @ new).argmax() == zebra.index
    assert torch.equal(known, before[tokens(NOUNS[0])[0]]), "what was trained stays"
