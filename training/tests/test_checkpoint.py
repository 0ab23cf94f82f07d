"""What a checkpoint gives to a run that starts from it."""

from __future__ import annotations

import pytest
import torch
from ocelli_training.checkpoint import load_weights, save
from ocelli_training.export import PARTS, quantize_model
from ocelli_training.model import Ocelli
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
