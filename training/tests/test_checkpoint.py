"""What a checkpoint gives to a run that starts from it."""

from __future__ import annotations

import pytest
import torch
from ocelli_training.average import average, mean_state, weighted
from ocelli_training.checkpoint import load_weights, save
from ocelli_training.export import PARTS, quantize_model
from ocelli_training.model import Ocelli
from ocelli_training.train_vision import Heads
from torch import nn


def test_a_model_in_32_bits_goes_on_from_quantized_weights_before_their_rounding(tmp_path):
    torch.manual_seed(0)
    quantized, plain = Ocelli(), Ocelli()
    quantize_model(quantized, PARTS)
    save(tmp_path, quantized, None, None, 0, 0.0, parts=PARTS)
    load_weights(plain, tmp_path / "checkpoint.pt")
    wanted = quantized.state_dict()
    assert all(torch.equal(weight, wanted[name]) for name, weight in plain.state_dict().items())


def test_parts_are_chosen_by_their_names(tmp_path):
    torch.manual_seed(0)
    first, second = Ocelli(), Ocelli()
    before = {name: weight.clone() for name, weight in second.state_dict().items()}
    save(tmp_path, first, None, None, 0, 0.0)
    load_weights(second, tmp_path / "checkpoint.pt", prefixes=("vision.",))
    for name, weight in second.state_dict().items():
        assert torch.equal(weight, first.state_dict()[name] if name.startswith("vision.") else before[name]), name


def test_weights_of_another_model_are_refused(tmp_path):
    save(tmp_path, nn.Linear(2, 2), None, None, 0, 0.0)
    with pytest.raises(ValueError, match="lacks"):
        load_weights(Ocelli(), tmp_path / "checkpoint.pt")


def test_the_mean_of_checkpoints_lies_between_them_and_one_that_is_quantized_counts_before_rounding(tmp_path):
    torch.manual_seed(0)
    models, heads = [Ocelli(), Ocelli()], [Heads(192, 264), Heads(192, 264)]
    wanted = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    quantize_model(models[1], PARTS)
    for name, model, head, parts in zip("ab", models, heads, (None, PARTS), strict=True):
        save(tmp_path / name, model, head, None, 0, 0.0, parts=parts)
    paths = [tmp_path / name / "checkpoint.pt" for name in "ab"]
    mean, mean_heads, parts = average(paths, [3.0, 1.0])
    assert parts is None
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, 0.75 * wanted[0][name] + 0.25 * wanted[1][name])
    torch.testing.assert_close(mean_heads.patch.weight, 0.75 * heads[0].patch.weight + 0.25 * heads[1].patch.weight)
    with pytest.raises(ValueError, match="weight above zero"):
        average(paths, [1.0, 0.0])
    for other, odd in (({"a": torch.ones(1), "b": torch.ones(1)}, "b"), ({"a": torch.ones(2)}, "a")):
        with pytest.raises(ValueError, match=f"not the same parameters: .*'{odd}'"):
            mean_state([{"a": torch.ones(1)}, other], [1.0, 1.0])


def test_the_mean_of_quantized_checkpoints_is_quantized_with_the_mean_of_their_scales(tmp_path):
    torch.manual_seed(0)
    models = [Ocelli(), Ocelli()]
    for name, model in zip("ab", models, strict=True):
        quantize_model(model, PARTS)
        save(tmp_path / name, model, None, None, 0, 0.0, parts=PARTS)
    mean, _, parts = average([tmp_path / name / "checkpoint.pt" for name in "ab"], [1.0, 1.0])
    assert parts == PARTS
    scale = "decoder.embedding.scale_factor"
    first, second = (model.state_dict() for model in models)
    torch.testing.assert_close(mean.state_dict()[scale], 0.5 * (first[scale] + second[scale]))
    assert set(mean.state_dict()) == set(first)


def test_a_checkpoint_without_a_weight_counts_once():
    assert [weight for _, weight in map(weighted, ["runs/a.pt", "runs/b.pt=2.5"])] == [1.0, 2.5]
