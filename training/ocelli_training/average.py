"""The weighted mean of checkpoints of one line of training (Izmailov et al. 2018, arXiv 1803.05407; Wortsman et al. 2022, arXiv 2203.05482).

    python -m ocelli_training.average --of RUNS/a/checkpoint.pt=3 RUNS/b/checkpoint.pt=2 --out RUNS/mean

Each of them lies somewhere around a minimum that none of them is at: their mean is nearer to it, for weights that were trained from each other. Of
quantized checkpoints the weights before rounding are taken, with their scales only where all are quantized alike. What the later ones alone have
learned is weaker in the mean, and a few minutes at a low rate bring it back.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import SCALE, save
from .export import config_of, quantize_model
from .model import Ocelli
from .train_vision import Heads


def mean_state(states: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    """The mean of parameters of the same names and shapes."""
    shapes = [{(name, tuple(value.shape)) for name, value in state.items()} for state in states]
    odd = set.union(*shapes) - set.intersection(*shapes)
    if odd:
        raise ValueError(f"not the same parameters: {sorted(odd)[:3]}")
    total = sum(weights)
    return {name: sum(w * state[name].float() for w, state in zip(weights, states, strict=True)) / total for name in states[0]}


def average(paths: list[Path], weights: list[float]) -> tuple[Ocelli, Heads | None, list[dict] | None]:
    """The model, the heads of training if all checkpoints have them, and how its parts are quantized if all are so."""
    if not paths or len(paths) != len(weights) or min(weights) <= 0:
        raise ValueError("every checkpoint needs a weight above zero")
    loaded = [torch.load(path, map_location="cpu", weights_only=True) for path in paths]
    parts = loaded[0].get("parts")
    if any(state.get("parts") != parts for state in loaded):
        parts = None
    states = [{name: value for name, value in state["model"].items() if parts or not name.endswith(SCALE)} for state in loaded]
    mean = mean_state(states, weights)
    model = Ocelli(config_of(mean))
    if parts:
        quantize_model(model, parts)
    model.load_state_dict(mean)
    if any(state.get("heads") is None for state in loaded):
        return model, None, parts
    mean = mean_state([state["heads"] for state in loaded], weights)
    heads = Heads(model.config.vision.hidden_size, mean["patch.bias"].numel() - 1)
    heads.load_state_dict(mean)
    return model, heads, parts


def weighted(argument: str) -> tuple[Path, float]:
    """`FILE` or `FILE=WEIGHT`."""
    path, _, weight = argument.partition("=")
    return Path(path), float(weight or 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=weighted, nargs="+", required=True, metavar="FILE=WEIGHT")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model, heads, parts = average([path for path, _ in args.of], [weight for _, weight in args.of])
    save(args.out, model, heads, None, 0, 0.0, parts=parts)


if __name__ == "__main__":
    main()
