"""The average of the weights that a stage saves."""

from __future__ import annotations

import pytest
import torch
from ocelli_training.optim import Ema
from torch import nn


def averaged(decay: float, warm_up: bool, weights: list[float]) -> float:
    """The average after a parameter that began at 0 has had these values."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(module, decay, warm_up)
    for step, weight in enumerate(weights):
        nn.init.constant_(module.weight, weight)
        ema.update(module, step)
    return ema.shadow["weight"].item()


def test_the_noise_of_single_steps_cancels_in_the_average():
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(5)).tolist()
    assert abs(averaged(0.99, False, noise)) < 0.25 < max(map(abs, noise[-10:]))


def test_random_weights_are_forgotten_at_once_and_trained_ones_are_not():
    assert averaged(0.99, True, [1.0] * 20) > 0.99
    assert averaged(0.99, False, [1.0] * 20) == pytest.approx(1 - 0.99**20)


def test_without_an_average_the_weights_themselves_are_saved():
    assert averaged(0.0, False, [1.0, 0.3]) == pytest.approx(0.3)
