"""A step of the encoder stage at two sizes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from ocelli_training.checkpoint import save
from ocelli_training.model import Ocelli, TextConfig
from ocelli_training.scenes import sample_scene
from ocelli_training.symbols import codebook
from ocelli_training.train_vision import SHARES, WEIGHTS, Heads, losses, main, make_sample, practised_scene
from ocelli_training.truth import groups


@pytest.mark.parametrize(("side", "grid", "frozen_layers"), [(224, 3, 2), (672, 12, 2)])
def test_views_of_both_sizes_teach_all_but_the_frozen_layers(library, side, grid, frozen_layers):
    torch.manual_seed(0)
    rng, nouns = np.random.default_rng(2), len(library.nouns)
    samples = [make_sample(rng, library=library, side=side, patch_size=28, shares=SHARES, dense=False) for _ in range(2)]
    assert samples[0]["pooled"].shape[0] == grid * grid and "dense" not in samples[0]
    model, heads = Ocelli(), Heads(192, nouns)
    model.decoder.requires_grad_(False)
    batch = torch.utils.data.default_collate(samples)
    out = losses(model, heads, batch, codebook(nouns, TextConfig().hidden_size), nouns, frozen_layers)
    assert all(torch.isfinite(loss) for loss in out.values())
    sum(WEIGHTS[name] * loss for name, loss in out.items() if name in WEIGHTS).backward()
    taught = {name for name, p in model.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("vision.patch_embed", "vision.layers.0.", "vision.layers.1.")) for name in taught)
    assert {"vision.layers.2.mlp.fc1.weight", "vision.layers.5.mlp.fc1.weight", "adapter.proj.weight"} <= taught


def test_to_count_is_practised_more_than_scenes_ask_for_it(library):
    def share(draw) -> float:
        rng = np.random.default_rng(4)
        return np.mean([any(len(group.members) > 1 for group in groups(draw(rng, library, "ordinary"))) for _ in range(400)])

    ordinary, practised = share(sample_scene), share(practised_scene)
    assert ordinary < 0.5 < 0.6 < practised < 0.9, "scenes without equals are still shown"


def test_tokens_of_single_patches_are_taught_at_224_on_demand(library):
    sample = make_sample(np.random.default_rng(2), library=library, side=224, patch_size=28, shares=SHARES)
    assert sample["dense"].shape[0] == 64 and sample["pooled"].shape[0] == 9


def trained(monkeypatch: pytest.MonkeyPatch, cache, folder, *options: str) -> dict:
    """The checkpoint of a run of a second or two."""
    arguments = ["--sprites", str(cache), "--nouns", "12", "--run", str(folder), "--batch", "2", "--workers", "0", "--minutes", "0.02", *options]
    monkeypatch.setattr(sys, "argv", ["train_vision", *arguments])
    main()
    return torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)


def test_heads_are_learned_anew_without_touching_the_encoder(monkeypatch, cache, tmp_path):
    model = Ocelli()
    save(tmp_path / "shipped", model, None, None, 0, 0.0)
    options = ("--init", str(tmp_path / "shipped/checkpoint.pt"), "--only-heads", "--no-dense")
    torch.manual_seed(3)
    before = trained(monkeypatch, cache, tmp_path / "none", *options, "--minutes", "0")
    torch.manual_seed(3)
    after = trained(monkeypatch, cache, tmp_path / "heads", *options)
    assert before["step"] == 0 < after["step"]
    assert all(torch.equal(value, after["model"][name]) for name, value in model.state_dict().items())
    for name in ("patch.weight", "patch.bias", "image.weight", "text.weight"):
        assert not torch.equal(before["heads"][name], after["heads"][name]), f"{name} has not learned"


def test_what_is_saved_is_the_average_and_the_weights_themselves_are_kept_to_go_on_from(monkeypatch, cache, tmp_path):
    save(tmp_path / "begun", Ocelli(), None, None, 0, 0.0)
    begun = torch.load(tmp_path / "begun/checkpoint.pt", weights_only=True)["model"]
    after = trained(monkeypatch, cache, tmp_path / "run", "--init", str(tmp_path / "begun/checkpoint.pt"), "--ema", "0.9", "--no-dense")
    name = "adapter.proj.weight"
    moved, kept = (after["raw"][name] - begun[name]).norm(), (after["model"][name] - begun[name]).norm()
    assert 0 < kept < moved
