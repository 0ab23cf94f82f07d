"""Stage 1: the encoder and the adapter, from scratch, on drawn scenes.

    python -m ocelli_training.train_vision --sprites CACHE --run RUNS/vision --minutes 40 [--side 224|672] [--init FILE]

Losses: the noun under each patch (dense labels), the contrastive loss of the registers against the caption's words, and the symbolic
image tokens (`symbols.py`) that the decoder learns to read meanwhile. Checkpoints every few minutes; the same command resumes.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint import latest, load_weights, save
from .data import loader, pixels, zoomed_scene
from .model import Ocelli
from .optim import Optimizer, schedule
from .scenes import Library, patch_labels, render, sample_scene
from .symbols import codebook, features


class Heads(nn.Module):
    """What only training needs: a patch classifier, and both sides of the contrastive loss."""

    def __init__(self, vision_size: int, num_nouns: int, num_features: int) -> None:
        super().__init__()
        self.patch = nn.Linear(vision_size, num_nouns + 1)
        self.image = nn.Linear(vision_size, 64, bias=False)
        self.text = nn.Linear(num_features, 64, bias=False)
        self.temperature = nn.Parameter(torch.tensor(2.3))


def make_sample(rng: np.random.Generator, *, library: Library, side: int, patch_size: int) -> dict:
    draw = rng.random()
    if side == 224:
        if draw < 0.35:
            scene = sample_scene(rng, library, "crowded", augment=True)
        elif draw < 0.65:
            scene = sample_scene(rng, library, "large", augment=True)
        else:
            scene = zoomed_scene(rng, library)
        grids = {"dense": side // patch_size, "pooled": 3}
    else:
        scene = sample_scene(rng, library, ("ordinary", "small", "crowded")[int(np.searchsorted([0.6, 0.8], draw))], augment=True)
        grids = {"pooled": 12}
    nouns = len(library.nouns)
    sample = {"pixels": pixels(render(scene, side)), "patch_labels": torch.from_numpy(patch_labels(scene, side // patch_size)).long()}
    for name, grid in grids.items():
        sample[name] = torch.from_numpy(features(scene, grid, nouns))
    return sample


def symbol_loss(tokens: Tensor, target: Tensor, book: Tensor, nouns: int) -> tuple[Tensor, Tensor]:
    """Weighted squared error to the coded features, and cross-entropy of the noun at the peaks; target `[V, P * P, features]`."""
    heat = target[..., :nouns].amax(-1)
    error = (tokens - target @ book).square().mean(-1)
    weight = 1.0 + 15.0 * heat
    squared = (error * weight).sum() / weight.sum() * book.shape[1]
    peaks = heat > 0.4
    logits = 8.0 * tokens[peaks] @ book[:nouns].T
    soft = target[..., :nouns][peaks]
    named = F.cross_entropy(logits, soft / soft.sum(-1, keepdim=True)) if peaks.any() else squared.new_zeros(())
    return squared, named


def vision_losses(model: Ocelli, heads: Heads, batch: dict, nouns: int, frozen_layers: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """The noun under each patch, and the registers against the caption's words; also the features `[V, gh, gw, hidden_size]`."""
    patches, registers = model.vision(batch["pixels"], frozen_layers)
    labels = batch["patch_labels"].flatten()
    labels = torch.where(labels == -1, nouns, labels)
    weight = torch.ones(nouns + 1)
    weight[nouns] = 0.1
    logits = heads.patch(patches.flatten(0, 2))
    out = {"patch": F.cross_entropy(logits, labels, weight=weight, ignore_index=-2)}
    known = (labels >= 0) & (labels < nouns)
    out["accuracy"] = (logits.detach()[known].argmax(-1) == labels[known]).float().mean()
    # What the caption names: nouns, colours, background.
    bag = (batch["pooled"].amax(1) > 0.1).float()
    similarity = F.normalize(heads.image(registers), dim=-1) @ F.normalize(heads.text(bag), dim=-1).T * heads.temperature.exp()
    target = torch.arange(len(similarity))
    out["contrast"] = 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
    return out, patches


def losses(model: Ocelli, heads: Heads, batch: dict, book: Tensor, nouns: int) -> dict[str, Tensor]:
    out, patches = vision_losses(model, heads, batch, nouns)
    for name in ("dense", "pooled"):
        if name in batch:
            grid = int(batch[name].shape[1] ** 0.5)
            tokens = model.adapter.pool(patches, grid)
            out[name], out[name + "_noun"] = symbol_loss(tokens, batch[name], book, nouns)
    return out


WEIGHTS = {"patch": 1.0, "dense": 1.0, "dense_noun": 0.5, "pooled": 1.0, "pooled_noun": 0.5, "contrast": 0.1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--nouns", type=int, default=60)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--matrix-lr", type=float, default=0.012)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    library = Library.load(args.sprites, nouns=args.nouns)
    model = Ocelli()
    book = codebook(args.nouns, model.config.text.hidden_size)
    heads = Heads(model.config.vision.hidden_size, args.nouns, book.shape[0])
    model.decoder.requires_grad_(False)
    optimizer = Optimizer([model.vision, model.adapter, heads], args.matrix_lr, args.lr)
    state = latest(args.run)
    step, elapsed = 0, 0.0
    if state:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["minutes"]
        print(f"resumed at step {step}, minute {elapsed:.1f}", flush=True)
    elif args.init:
        load_weights(model, args.init, heads)
    make = partial(make_sample, library=library, side=args.side, patch_size=model.config.vision.patch_size)
    batches = loader(make, args.batch, seed=1000 + step, workers=args.workers)
    started, saved, shown = time.monotonic() - elapsed * 60, time.monotonic(), {}
    while True:
        minutes = (time.monotonic() - started) / 60
        if minutes >= args.minutes:
            break
        out = losses(model, heads, next(batches), book, args.nouns)
        sum(WEIGHTS[k] * v for k, v in out.items() if k in WEIGHTS).backward()
        optimizer.step(schedule(minutes / args.minutes))
        step += 1
        for k, v in out.items():
            shown[k] = shown.get(k, v.item()) * 0.98 + v.item() * 0.02
        if step % 50 == 0:
            print(f"step {step} min {minutes:.1f} " + " ".join(f"{k} {v:.3f}" for k, v in shown.items()), flush=True)
        if time.monotonic() - saved > 180:
            save(args.run, model, heads, optimizer, step, minutes)
            saved = time.monotonic()
    save(args.run, model, heads, optimizer, step, minutes)


if __name__ == "__main__":
    main()
