"""Symbolic image tokens: what they say of a scene, and that it can be read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ocelli_training.blank import blank_library
from ocelli_training.guidance import guidance_loss, object_maps
from ocelli_training.model import EncoderLayer
from ocelli_training.scenes import sample_scene
from ocelli_training.symbols import NUM_COUNTS, NUM_RANKS, codebook, features, num_features, num_words, ranks_and_counts
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
    assert torch.equal(book[:60, :128], first[:60]) and torch.equal(book[264:, :128], first[60:])
    assert not book[:60, 128:].any()
    cosines = book @ book.T - torch.eye(len(book))
    assert cosines[264:].abs().max() < 1e-4
    assert cosines.abs().max() < 0.1, "no two nouns look alike"


def test_ranks_follow_the_order_in_which_captions_name_nouns(scenes):
    for scene in scenes:
        order = ranks_and_counts(scene)
        assert [order[group.members[0].noun] for group in groups(scene)] == [
            (rank, len(group.members)) for rank, group in enumerate(groups(scene))
        ]


def test_the_cell_of_an_object_says_its_rank_and_how_many_there_are(scenes):
    first = num_words(NUM_NOUNS)
    checked = 0
    for scene in scenes:
        if any(thing.noun >= NUM_NOUNS for thing in scene.objects) or len(scene.objects) < 2:
            continue
        grid = features(scene, 12, NUM_NOUNS)
        for rank, group in enumerate(groups(scene)):
            if rank >= NUM_RANKS or not 2 <= len(group.members) <= NUM_COUNTS + 1:
                continue
            for thing in group.members:
                cell = grid[min(int(thing.cy * 12), 11) * 12 + min(int(thing.cx * 12), 11)]
                assert cell[first + rank] > 0.3
                assert cell[first + NUM_RANKS + len(group.members) - 2] > 0.3
                checked += 1
    assert checked > 10


def test_guided_attention_looks_left_and_at_equals_and_sums_to_one(scenes):
    for scene in scenes:
        heat, mixture = object_maps(scene, 8)
        count = len(scene.objects)
        assert np.allclose(heat.sum(1)[:count], 1, atol=1e-4)
        assert not heat[count:].any()
        assert np.allclose(mixture[:, :count].sum(-1), 1, atol=1e-6)
        row = 0
        for rank, group in enumerate(groups(scene)):
            for _ in group.members:
                assert np.isclose(mixture[0, row, :row].sum() if rank else 0.0, rank / 4)
                assert np.isclose(mixture[1, row, row], 1 - (len(group.members) - 1) / 4)
                row += 1


def test_guidance_is_zero_for_attention_that_looks_where_it_should():
    heat, mixture = torch.zeros(1, 9, 4), torch.zeros(1, 2, 9, 9)
    heat[0, 0, 1] = 1.0
    mixture[0, :, 0, 0] = 1.0
    torch.manual_seed(0)
    layer = EncoderLayer(8, 16, 4, 1e-6)
    features = torch.randn(1, 2, 2, 8)
    assert guidance_loss(layer, features, heat, mixture) > 0
    x = layer.layer_norm1(features.flatten(1, 2))
    with torch.no_grad():  # the query of patch 1 is along its own key, all else is nothing
        for p in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            p.weight.zero_()
            p.bias.zero_()
            direction = torch.linalg.lstsq(x[0], torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None]).solution[:, 0]
            p.weight[0], p.weight[2] = 30 * direction, 30 * direction
    assert guidance_loss(layer, features, heat, mixture) < 1e-3
