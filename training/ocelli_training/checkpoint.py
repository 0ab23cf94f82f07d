"""Checkpoints: one file a run, replaced atomically, so that a cut loses at most the minutes since the last."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

SCALE = ".scale_factor"  # a parameter that only quantized layers have


def save(run: Path, model: nn.Module, heads: nn.Module | None, optimizer, step: int, minutes: float, average=None, **more) -> None:
    """`average`: an averaged state to be used as the model instead of its present one (which goes into `more`)."""
    run.mkdir(parents=True, exist_ok=True)
    state = {"model": average or model.state_dict(), "heads": heads.state_dict() if heads else None, "step": step, "minutes": minutes, **more}
    state["optimizer"] = optimizer.state_dict() if optimizer else None
    part = run / "checkpoint.pt.part"
    torch.save(state, part)
    os.replace(part, run / "checkpoint.pt")


def latest(run: Path) -> dict | None:
    path = run / "checkpoint.pt"
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def resume(state: dict | None, model: nn.Module, heads: nn.Module | None, optimizer) -> tuple[int, float]:
    """Puts back what `save` wrote, the weights themselves rather than their average; the step and the minute where that run was cut."""
    if state is None:
        return 0, 0.0
    model.load_state_dict(state.get("raw", state["model"]))
    if heads is not None:
        heads.load_state_dict(state["heads"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["minutes"]


def load_weights(model: nn.Module, path: Path, heads: nn.Module | None = None, prefixes: tuple[str, ...] = ("",)) -> None:
    """Takes the parameters whose names begin with one of `prefixes` from another run's checkpoint.

    From one of quantization-aware training a model that is not quantized takes the weights before rounding, without their scales.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    scaled = any(name.endswith(SCALE) for name in model.state_dict())
    chosen = {k: v for k, v in state["model"].items() if k.startswith(prefixes) and (scaled or not k.endswith(SCALE))}
    _, unexpected = model.load_state_dict(chosen, strict=False)
    if unexpected:
        raise ValueError(f"{path} has parameters that the model lacks: {unexpected[:3]}")
    if heads is not None and state.get("heads") is not None:
        heads.load_state_dict(state["heads"])


def is_quantized(path: Path) -> bool:
    """Whether a checkpoint comes from quantization-aware training, with scales of its own."""
    return bool(torch.load(path, map_location="cpu", weights_only=True).get("parts"))
