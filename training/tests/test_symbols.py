"""Symbolic image tokens: what they say of a scene, and that it can be read back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ocelli_training.blank import blank_library
from ocelli_training.guidance import HEADS, SINKS, guidance_loss, log_sums, object_maps
from ocelli_training.model import EncoderLayer
from ocelli_training.scenes import COLOURS, PATTERNS, sample_scene
from ocelli_training.symbols import NUM_COUNTS, NUM_RANKS, Noise, codebook, features, num_features, num_words, order_codes
from ocelli_training.train_vision import symbol_losses
from ocelli_training.truth import groups

NUM_NOUNS = 60


@pytest.fixture(scope="module")
def scenes():
    rng, library = np.random.default_rng(7), blank_library()
    return [sample_scene(rng, library, "ordinary") for _ in range(200)]


def test_codes_are_orthogonal_and_always_the_same():
    book = codebook(NUM_NOUNS, 128)
    assert book.shape == (num_features(NUM_NOUNS), 128)
    assert torch.allclose(book @ book.T, torch.eye(len(book)), atol=1e-5)
    assert torch.equal(book, codebook(NUM_NOUNS, 128))


def test_more_nouns_than_dimensions_keep_the_first_codes_and_stay_apart_from_what_is_no_noun():
    book, first = codebook(264, 192), codebook(60, 128)
    assert book.shape == (num_features(264), 192)
    assert torch.equal(book[:60, :128], first[:60]) and torch.equal(book[264:-1, :128], first[60:-1])
    assert not book[:60, 128:].any()
    cosines = book @ book.T - torch.eye(len(book))
    assert cosines[264:-1].abs().max() < 1e-3
    assert cosines.abs().max() < 0.11, "no two nouns look alike"


def test_a_noun_knows_its_rank_its_number_and_whether_it_is_the_last():
    def code(place, others, count):
        return order_codes(place, others, count).tolist()

    assert code(0.2, [], 1) == [1, 0, 0, 0, 0, 0, 0, 1]
    assert code(0.5, [0.2, 0.7], 3) == [0, 1, 0, 0, 0, 1, 0, 0]
    assert code(0.9, [0.2, 0.7, 0.3], 1) == [0, 0, 0, 1, 0, 0, 0, 1]
    assert code(0.9, [0.2, 0.7, 0.3, 0.1], 1) == [0, 0, 0, 0, 0, 0, 0, 1], "no code for a fifth"


def test_noise_makes_neighbours_unsure_and_leaves_the_distant_sure():
    noise = Noise(np.random.default_rng(3))
    close = np.mean([order_codes(0.50, [0.51], 1, noise) for _ in range(300)], axis=0)
    far = np.mean([order_codes(0.20, [0.80], 1, noise) for _ in range(300)], axis=0)
    assert 0.4 < close[0] < 0.7 and 0.3 < close[1] < 0.6
    assert far[0] > 0.9 and far[-1] < 0.1


def test_a_last_noun_may_think_that_it_is_the_third_and_still_know_that_it_is_the_last():
    noise = Noise(np.random.default_rng(4))
    codes = np.array([order_codes(0.9, [0.2, 0.4, 0.6], 1, noise) for _ in range(2000)])
    third = codes[codes[:, 2] > codes[:, 3]]
    assert len(third) > 40, "as an encoder often says"
    assert 0.3 < np.mean(third[:, -1] > 0.99) < 0.7


def test_the_cell_of_an_object_says_its_rank_and_how_many_there_are(scenes):
    first = num_words(NUM_NOUNS)
    checked = 0
    for scene in scenes:
        if any(thing.noun >= NUM_NOUNS for thing in scene.objects) or len(scene.objects) < 2:
            continue
        grid = features(scene, 12, NUM_NOUNS)
        named = groups(scene)
        for thing in scene.objects:
            cell = grid[min(int(thing.cy * 12), 11) * 12 + min(int(thing.cx * 12), 11)]
            assert (cell[-1] > 0.3) == (thing in named[-1].members)
        for rank, group in enumerate(named):
            if rank >= NUM_RANKS or not 2 <= len(group.members) <= NUM_COUNTS + 1:
                continue
            for thing in group.members:
                cell = grid[min(int(thing.cy * 12), 11) * 12 + min(int(thing.cx * 12), 11)]
                assert cell[first + rank] > 0.3
                assert cell[first + NUM_RANKS + len(group.members) - 2] > 0.3
                checked += 1
    assert checked > 10


def test_each_part_of_a_wrong_token_has_its_loss(scenes):
    book, chosen = codebook(264, 192), [scene for scene in scenes if len(scene.objects) > 1]
    target = torch.from_numpy(np.stack([features(scene, 12, 264) for scene in chosen]))
    right = symbol_losses(target @ book, target, book, 264, "pooled")
    assert set(right) == {"pooled", "pooled_ground", "pooled_noun", "pooled_colour", "pooled_rank", "pooled_count", "pooled_last"}
    first = num_words(264)
    parts = {
        "noun": slice(0, 264), "colour": slice(264, 264 + len(COLOURS)), "rank": slice(first, first + NUM_RANKS),
        "count": slice(first + NUM_RANKS, -1), "last": slice(-1, None), "ground": slice(first - len(PATTERNS), first),
    }
    for name, part in parts.items():
        without = target.clone()
        without[..., part] = 0.0
        wrong = symbol_losses(without @ book, target, book, 264, "pooled")
        assert wrong[f"pooled_{name}"] > 1.5 * right[f"pooled_{name}"], name
        assert wrong["pooled"] > right["pooled"]


def test_a_picture_of_nothing_has_the_losses_of_its_codes_and_of_the_background_alone():
    book = codebook(264, 192)
    out = symbol_losses(torch.zeros(1, 9, 192), torch.zeros(1, 9, len(book)), book, 264, "pooled")
    assert set(out) == {"pooled", "pooled_ground"}


def test_a_background_said_by_a_few_tokens_alone_is_said_too_quietly(scenes):
    book = codebook(264, 192)
    target = torch.from_numpy(np.stack([features(scene, 3, 264) for scene in scenes[:20]]))
    few = target.clone()
    few[:, 1:, num_words(264) - len(PATTERNS) - len(COLOURS) : num_words(264)] = 0.0
    loud, quiet = (symbol_losses(said @ book, target, book, 264, "pooled")["pooled_ground"] for said in (target, few))
    assert quiet > 2 * loud


def test_the_weight_that_guided_attention_has_on_objects_says_how_many_they_are(scenes):
    for scene in scenes:
        heat, mixture = object_maps(scene, 8)
        count = len(scene.objects)
        assert np.allclose(heat.sum(1)[:count], 1, atol=1e-4)
        assert not heat[count:].any()
        assert not mixture[:, count:].any()
        row, named, sinks = 0, groups(scene), SINKS.ravel()
        for rank, group in enumerate(named):
            first, equals, later = row, len(group.members), len(named) - 1 - rank
            for _ in group.members:
                assert np.isclose(mixture[0, row, :first].sum(), rank / (rank + sinks[0]))
                assert not mixture[0, row, first:].any()
                assert np.isclose(mixture[2, row, first + equals :].sum(), later / (later + sinks[2]))
                assert not mixture[2, row, : first + equals].any()
                assert np.isclose(mixture[1, row, first : first + equals].sum(), equals / (equals + sinks[1]))
                assert np.isclose(mixture[3, row, first : first + equals].sum(), (equals - 1) / (equals - 1 + sinks[3]))
                assert not mixture[3, row, row], "an object is none of its equals"
                row += 1


def test_sums_of_weights_are_those_of_softmax():
    products = torch.randn(2, HEADS, 5, 5) * 30
    background = torch.tensor([[True, False, True, False, False], [False] * 5])
    whole, part = log_sums(products, background, 0.5).unbind(-1)
    assert torch.allclose(whole, (products * 0.5).logsumexp(-1), atol=1e-5)
    weights = (products[0] * 0.5).softmax(-1)[..., background[0]].sum(-1)
    assert torch.allclose((part - whole)[0].exp(), weights, atol=1e-5)
    assert ((part - whole)[1] < -60).all(), "no background: no weight on it"


def test_guidance_is_zero_for_attention_that_looks_where_it_should():
    heat, mixture = torch.zeros(1, 9, 4), torch.zeros(1, HEADS, 9, 9)
    heat[0, 0, 1] = 1.0
    mixture[0, :, 0, 0] = 0.25
    background = torch.tensor([[True, False, True, False]])
    torch.manual_seed(0)
    layer = EncoderLayer(8, 16, 4, 1e-6)
    features = torch.randn(1, 2, 2, 8)
    assert guidance_loss(layer, features, heat, mixture, background) > 0
    assert guidance_loss(layer, features, heat, mixture, torch.zeros(1, 4, dtype=torch.bool)) == 0, "nothing to look at: left out"
    x = layer.layer_norm1(features.flatten(1, 2))
    with torch.no_grad():  # keys such that each head gives a quarter to patch 1 and the rest to patch 0 alone, which is background
        for p in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            p.weight.zero_()
            p.bias.zero_()
        layer.self_attn.q_proj.bias[::2] = 2**0.5
        scores = torch.tensor([math.log(0.75), math.log(0.25), -30.0, -30.0])[:, None]
        direction = torch.linalg.lstsq(x[0], scores).solution[:, 0]
        layer.self_attn.k_proj.weight[::2] = direction
    assert guidance_loss(layer, features, heat, mixture, background) < 1e-3
