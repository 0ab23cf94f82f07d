"""The loop that all stages share: steps until the minutes are up, running means on the terminal, a checkpoint every three minutes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from .processes import agreed, rank

SAVE_SECONDS, PRINT_STEPS = 180, 50


def train(
    one_step: Callable[[int, float], dict[str, float]],
    checkpoint: Callable[[int, float], None],
    minutes: float,
    step: int = 0,
    elapsed: float = 0.0,
) -> None:
    """Calls `one_step(step, progress)`, which returns what to show, until `minutes` are over; `checkpoint(step, minutes)` in between and at the end.

    `step` and `elapsed` (minutes) are where an earlier run stopped. Of several processes the first keeps the time, prints and saves.
    """
    started, saved, shown = time.monotonic() - elapsed * 60, time.monotonic(), {}
    while (now := agreed((time.monotonic() - started) / 60)) < minutes:
        losses = one_step(step, now / minutes)
        if not all(map(math.isfinite, losses.values())):
            raise ArithmeticError(f"step {step}: {losses}; the last checkpoint is from before it")
        for name, value in losses.items():
            shown[name] = shown.get(name, value) * 0.97 + value * 0.03
        step += 1
        if rank():
            continue
        if step % PRINT_STEPS == 0:
            print(f"step {step} min {now:.1f} " + " ".join(f"{k} {v:.3f}" for k, v in sorted(shown.items())), flush=True)
        if time.monotonic() - saved > SAVE_SECONDS:
            checkpoint(step, now)
            saved = time.monotonic()
    if not rank():
        checkpoint(step, max(elapsed, minutes))
