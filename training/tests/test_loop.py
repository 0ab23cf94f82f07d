"""The loop of all stages."""

from __future__ import annotations

import math

import pytest
from ocelli_training.loop import train


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved():
    saved = []
    losses = iter([1.0, 0.9, math.nan])
    with pytest.raises(ArithmeticError, match="step 2"):
        train(lambda step, progress: {"text": next(losses)}, lambda step, minutes: saved.append(step), minutes=1.0)
    assert saved == []
