"""Where the decoder is told to look, and that it learns to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ocelli_training.blank import blank_library
from ocelli_training.chat import IGNORE, IMAGE, NOTHING, Chat, Sequence, Turn, collate
from ocelli_training.fetching import ABSENT, COMPARING_LAYER, NAMED_LAYER, NEXT_OVERVIEW, SAID_HEADS, SAID_LAYER, SECOND_LOOK_LAYER, Things, known_places, look_loss, mostly_at_tiles, place_loss
from ocelli_training.model import Ocelli
from ocelli_training.scenes import sample_scene
from ocelli_training.train_language import answer_logits, views_of
from ocelli_training.truth import groups

TOKENIZER = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"


@pytest.fixture(scope="module")
def scene():
    """Two or more nouns, the first two of which stand there once."""
    rng, library = np.random.default_rng(5), blank_library()
    while True:
        scene = sample_scene(rng, library)
        found = groups(scene)
        if len(found) >= 2 and found[0].single and found[1].single:
            return scene


def test_a_noun_looks_at_the_tokens_where_its_thing_stands(scene):
    things, first = Things.of(scene, 12), groups(scene)[0]
    row = things.row(first.noun.index)
    look = things.looks[row, 1:].reshape(12, 12)
    centre = [(look.sum(axis) @ (np.arange(12) + 0.5)) / 12 for axis in (0, 1)]
    np.testing.assert_allclose(centre, (first.single.cx, first.single.cy), atol=0.03)
    np.testing.assert_allclose(things.places[row], (first.single.cx, first.single.cy), rtol=1e-6)
    np.testing.assert_allclose(things.looks[: len(groups(scene))].sum(-1), 1.0, rtol=1e-5)


def test_a_noun_that_is_not_there_looks_away_from_the_picture_and_has_no_place(scene):
    things = Things.of(scene, 3)
    missing = next(noun for noun in range(264) if noun not in things.rows)
    assert things.row(missing) == ABSENT
    assert things.looks[ABSENT].tolist() == [1.0] + [0.0] * 9
    assert np.isnan(things.places[ABSENT]).all()


def test_a_few_steps_teach_the_heads_where_to_look_and_what_is_fetched_there(scene):
    torch.manual_seed(0)
    chat, decoder = Chat(TOKENIZER), Ocelli().decoder
    first, second = (group.noun for group in groups(scene)[:2])
    batch = collate([Sequence.of(chat, [9], [Turn("Describe the picture.", f"A {first.word} and a {second.word}.")], Things.of(scene, 3))])
    picture = torch.randn(1, 9, decoder.config.hidden_size)
    image = (batch["ids"][0] == IMAGE).nonzero().flatten()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)

    def losses() -> tuple[torch.Tensor, torch.Tensor]:
        _, inputs = answer_logits(decoder, batch, picture)
        return look_loss(decoder, inputs, batch, image), place_loss(inputs, batch)

    before = [loss.item() for loss in losses()]
    for _ in range(30):
        optimizer.zero_grad()
        sum(losses()).backward()
        optimizer.step()
    after = [loss.item() for loss in losses()]
    assert 0 <= after[0] < 0.5 * before[0] and 0 <= after[1] < 0.5 * before[1]


def test_a_few_steps_teach_an_answer_to_look_at_the_nouns_of_the_question_and_how_far_apart_they_stand(scene):
    torch.manual_seed(0)
    chat, decoder = Chat(TOKENIZER), Ocelli().decoder
    first, second = (group.noun for group in groups(scene)[:2])
    question = f"Where {first.verb} the {first.word} relative to the {second.word}?"
    batch = collate([Sequence.of(chat, [9], [Turn(question, "Above.")], Things.of(scene, 3))])
    picture = torch.randn(1, 9, decoder.config.hidden_size)
    image = (batch["ids"][0] == IMAGE).nonzero().flatten()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)
    answer = (batch["labels"][0] != IGNORE).nonzero()[0].item()
    for _ in range(40):
        optimizer.zero_grad()
        _, inputs = answer_logits(decoder, batch, picture)
        (look_loss(decoder, inputs, batch, image) + place_loss(inputs, batch)).backward()
        optimizer.step()
    _, inputs = answer_logits(decoder, batch, picture)
    attention = decoder.layers["segment_0"][f"layer_{COMPARING_LAYER}"].attention
    x, rope = inputs[COMPARING_LAYER], decoder.rope(batch["positions"])
    looks = attention.log_weights(*attention.project(x, rope)[:2], batch["mask"], range(2)).exp()[0, :, answer]
    nouns = (batch["named"][0] != NOTHING).nonzero().flatten()
    assert (looks[[0, 1], nouns] > 0.5).all(), "one head looks at the first noun, the other at the second"
    known = known_places(inputs)
    a, b = (torch.tensor([group.single.cx, group.single.cy]) for group in groups(scene)[:2])
    torch.testing.assert_close(known["named"][0, nouns], torch.stack([a, b]), atol=0.05, rtol=0)
    torch.testing.assert_close(known["offset"][0, answer], a - b, atol=0.05, rtol=0)


def test_a_few_steps_teach_two_heads_to_look_at_what_was_named_before(scene):
    torch.manual_seed(0)
    chat, decoder = Chat(TOKENIZER), Ocelli().decoder
    first, second = (group.noun for group in groups(scene)[:2])
    turns = [Turn("Describe the picture.", f"A {first.word} and a {second.word}."), Turn("List the objects.", f"A {first.word}.")]
    batch = collate([Sequence.of(chat, [9], turns, Things.of(scene, 3))])
    picture = torch.randn(1, 9, decoder.config.hidden_size)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        _, inputs = answer_logits(decoder, batch, picture)
        look_loss(decoder, inputs, batch, (batch["ids"][0] == IMAGE).nonzero().flatten()).backward()
        optimizer.step()
    _, inputs = answer_logits(decoder, batch, picture)
    attention = decoder.layers["segment_0"][f"layer_{SAID_LAYER}"].attention
    x, rope = inputs[SAID_LAYER], decoder.rope(batch["positions"])
    looks = attention.log_weights(*attention.project(x, rope)[:2], batch["mask"], SAID_HEADS).exp()[0]
    named = (batch["named"][0] != NOTHING).nonzero().flatten().tolist()
    answers = (batch["labels"][0] != IGNORE).nonzero().flatten()
    starts = answers[[True, *(answers.diff() > 1).tolist()]].tolist()
    assert len(named) == 3 and len(starts) == 2
    assert (looks[:, named[0], named[0]] > 0.5).all(), "where the second noun is chosen, the first has been named"
    assert (looks[:, starts, 0] > 0.5).all(), "at the start of each turn nothing has: what another turn says does not count"


@pytest.mark.parametrize("layer", [NAMED_LAYER, SECOND_LOOK_LAYER])
def test_where_a_head_is_said_to_look_is_where_it_looks(layer):
    torch.manual_seed(0)
    decoder = Ocelli().decoder
    attentions = [layer.attention for segment in decoder.layers.values() for layer in segment.values()]
    attention, source = attentions[layer], attentions[min(layer, COMPARING_LAYER)]
    x, positions, mask = torch.randn(1, 6, decoder.config.hidden_size), torch.arange(6)[None], torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    rope = decoder.rope(positions)
    weights = attention.log_weights(attention.project(x, rope)[0], source.project(x, rope)[1], mask, range(2, 4)).exp()
    assert torch.equal(weights > 0, mask.expand(-1, 2, -1, -1))
    # The layer's own output is what these weights fetch: change it through the values of one head alone.
    _, kv = source(x, None, rope, mask, False)
    width = attention.head_dim
    only_third = torch.zeros_like(attention.output_transform.weight)
    only_third[:width, 2 * width : 3 * width] = torch.eye(width)
    attention.output_transform.weight.data = only_third
    out, _ = attention(x, kv if attention.reuse else None, rope, mask, False)
    torch.testing.assert_close((out - x)[..., :width], weights[:, 0] @ kv[1][:, 2], rtol=1e-4, atol=1e-5)


def small_scene_with_tiles():
    """Two nouns or more, each once, and the four quarters."""
    rng, library = np.random.default_rng(3), blank_library()
    while True:
        scene = sample_scene(rng, library, "small")
        if len(groups(scene)) >= 2 and all(group.single for group in groups(scene)):
            return scene, views_of(scene, "high")[1:]


def test_in_high_mode_a_noun_looks_at_the_tile_that_shows_its_thing_as_well():
    scene, tiles = small_scene_with_tiles()
    things = Things.of(scene, 12, tiles)
    for row, group in enumerate(groups(scene)):
        overview, *quarters = things.looks[row, 1:].reshape(5, 144).sum(-1)
        shown = [any(thing.noun == group.noun.index for thing in tile.objects) for tile in tiles]
        assert [quarter > 0 for quarter in quarters] == shown and any(shown)
        assert abs(overview - 1 / (1 + sum(shown))) < 1e-5
        where = (things.shown.reshape(5, 144) == row).any(-1).tolist()
        assert where == [False, *shown], "the overview's tokens look at nothing"
    np.testing.assert_allclose(things.looks.sum(-1)[: len(groups(scene))], 1.0, rtol=1e-5)


def test_what_is_named_next_is_looked_for_in_the_tile_above_all():
    scene, tiles = small_scene_with_tiles()
    things = Things.of(scene, 12, tiles)
    looks = mostly_at_tiles(torch.from_numpy(things.looks), 1 + 144)
    for row in range(len(groups(scene))):
        tiled = things.looks[row, 145:].sum()
        assert looks[row, :145].sum() == pytest.approx(NEXT_OVERVIEW * (1 - tiled) / (NEXT_OVERVIEW * (1 - tiled) + tiled), abs=1e-5)
    np.testing.assert_allclose(looks.sum(-1)[: len(groups(scene))], 1.0, rtol=1e-5)
    assert looks[ABSENT].tolist() == things.looks[ABSENT].tolist(), "what is not there is not looked for in the picture"
    alone = Things.of(scene, 12).looks
    torch.testing.assert_close(mostly_at_tiles(torch.from_numpy(alone[[0]]), 145), torch.from_numpy(alone[[0]]), msg="without tiles nothing changes")


def test_a_few_steps_teach_the_tokens_of_tiles_to_look_at_those_of_the_overview():
    torch.manual_seed(0)
    chat, decoder = Chat(TOKENIZER), Ocelli().decoder
    scene, tiles = small_scene_with_tiles()
    batch = collate([Sequence.of(chat, [144] * 5, [Turn("Describe the picture.", "Nothing.")], Things.of(scene, 12, tiles))])
    image = (batch["ids"][0] == IMAGE).nonzero().flatten()
    picture = torch.randn(1, 720, decoder.config.hidden_size)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(look_loss(decoder, answer_logits(decoder, batch, picture)[1], batch, image))
        losses[-1].backward()
        optimizer.step()
    assert 0 <= losses[-1] < 0.5 * losses[0]
    assert (batch["shown"][0] >= 0).sum() > 0 and (batch["shown"][0, : image[144]] == NOTHING).all()
