"""Stage 1: the encoder and the adapter, from scratch, on drawn scenes.

    python -m ocelli_training.train_vision --sprites CACHE --run RUNS/vision --minutes 40 [--large-views 7] [--init FILE]

Losses: the noun under each patch (dense labels), the contrastive loss of the registers against the caption's words, and the symbolic
image tokens (`symbols.py`) that the decoder learns to read meanwhile. Checkpoints every few minutes; the same command resumes.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint import latest, load_weights, resume, save
from .data import loader, pixels, zoomed_scene
from .drawing import BACKGROUND_LABEL
from .guidance import guidance_loss, object_maps
from .loop import train
from .model import Ocelli, compile_parts
from .optim import Ema, Optimizer, schedule
from .precision import mixed_precision
from .processes import join
from .scenes import COLOURS, PATTERNS, Library, Scene, patch_labels, render, sample_scene
from .symbols import BACKGROUND_WEIGHT, NUM_COUNTS, NUM_RANKS, codebook, features, num_words
from .truth import groups


LOGITS = 8.0  # of a code that is said in full
ONE_LOGIT = 1.6  # what the code of a number, or of the last noun, has to exceed: there is none for one
SHARES = [0.3, 0.2, 0.35, 0.15]  # of crowded, zoomed, large and ordinary scenes at 224
COUNTING_SHARE, COUNTING_TRIES = 0.5, 6  # of scenes that are to have several of a noun; how often they are drawn again for it
LARGE_KINDS, LARGE_SHARES = ("ordinary", "large", "small", "crowded"), np.cumsum([0.55, 0.12, 0.18, 0.15])  # at 672


class Heads(nn.Module):
    """What only training needs: a patch classifier, and both sides of the contrastive loss."""

    def __init__(self, vision_size: int, num_nouns: int) -> None:
        super().__init__()
        self.patch = nn.Linear(vision_size, num_nouns + 1)
        self.image = nn.Linear(vision_size, 64, bias=False)
        self.text = nn.Linear(num_words(num_nouns), 64, bias=False)
        self.temperature = nn.Parameter(torch.tensor(2.3))


def practised_scene(rng: np.random.Generator, library: Library, kind: str) -> Scene:
    """A scene; often drawn again until it has several of a noun, as to count is learned last."""
    scene = sample_scene(rng, library, kind, augment=True)
    if kind != "crowded" and rng.random() < COUNTING_SHARE:
        for _ in range(COUNTING_TRIES):
            if any(len(group.members) > 1 for group in groups(scene)):
                break
            scene = sample_scene(rng, library, kind, augment=True)
    return scene


def make_sample(
    rng: np.random.Generator, *, library: Library, side: int, patch_size: int, shares: list[float], dense: bool = True
) -> dict:
    """`dense`: at 224, what a token of each single patch should say as well."""
    draw = rng.random()
    if side == 224:
        # Labels of patches come from crowded and zoomed scenes, the order of objects from whole ones.
        kind = ("crowded", "zoomed", "large", "ordinary")[int(np.searchsorted(np.cumsum(shares), draw * sum(shares)))]
        scene = zoomed_scene(rng, library) if kind == "zoomed" else practised_scene(rng, library, kind)
        grids = {"dense": side // patch_size, "pooled": 3} if dense else {"pooled": 3}
    else:
        scene = practised_scene(rng, library, LARGE_KINDS[int(np.searchsorted(LARGE_SHARES, draw))])
        grids = {"pooled": 12}
    nouns = len(library.nouns)
    sample = {"pixels": pixels(render(scene, side)), "patch_labels": torch.from_numpy(patch_labels(scene, side // patch_size)).long()}
    for name, grid in grids.items():
        sample[name] = torch.from_numpy(features(scene, grid, nouns))
    sample["heat"], sample["mixture"] = map(torch.from_numpy, object_maps(scene, side // patch_size))
    return sample


def symbol_losses(tokens: Tensor, target: Tensor, book: Tensor, nouns: int, name: str) -> dict[str, Tensor]:
    """Image tokens `[V, P * P, H]` against features `[V, P * P, features]`: weighted squared error of the codes, cross-entropies of what all
    tokens of a view together say of the background (its pattern, and its colours), and at the peaks of objects: the noun, its colour where that is
    clear, its rank among the nouns of a caption, whether it is the last of them, and how many there are of it."""
    heat = target[..., :nouns].amax(-1)
    error = (tokens - target @ book).square().mean(-1)
    weight = 1.0 + 15.0 * heat
    out = {name: (error * weight).sum() / weight.sum() * book.shape[1]}
    behind = LOGITS / BACKGROUND_WEIGHT * tokens.mean(1) @ book.T
    patterns = slice(num_words(nouns) - len(PATTERNS), num_words(nouns))
    ground = slice(patterns.start - len(COLOURS), patterns.start)
    out[name + "_ground"] = sum(
        F.cross_entropy(behind[:, part], F.normalize(target[:, 0, part], p=1, dim=-1)) for part in (patterns, ground)
    )
    peaks = heat > 0.4
    if not peaks.any():
        return out
    wanted, said = target[peaks], LOGITS * tokens[peaks] @ book.T
    ranks = slice(num_words(nouns), num_words(nouns) + NUM_RANKS)
    counts = slice(ranks.stop, ranks.stop + NUM_COUNTS)
    colours = slice(nouns, nouns + len(COLOURS))
    for suffix, part in (("_noun", slice(0, nouns)), ("_colour", colours), ("_rank", ranks)):
        has = wanted[:, part].amax(-1) > 0.25
        if has.any():  # some things have no clear colour; of more nouns than there are ranks, the later ones have none
            out[name + suffix] = F.cross_entropy(said[has][:, part], F.normalize(wanted[has][:, part], p=1, dim=-1))
    number = torch.where(wanted[:, counts].amax(-1) > 0.25, wanted[:, counts].argmax(-1) + 1, 0)
    out[name + "_count"] = F.cross_entropy(F.pad(said[:, counts], (1, 0), value=ONE_LOGIT), number)
    out[name + "_last"] = F.binary_cross_entropy_with_logits(said[:, -1] - ONE_LOGIT, (wanted[:, -1] > 0.25).float())
    return out


def vision_losses(model: Ocelli, heads: Heads, batch: dict, nouns: int, frozen_layers: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """The noun under each patch, the registers against the caption's words, where the adapter looks; also the features `[V, gh, gw, hidden_size]`."""
    patches, registers = model.vision(batch["pixels"], frozen_layers)
    labels = batch["patch_labels"].flatten()
    labels = torch.where(labels == -1, nouns, labels)
    weight = torch.ones(nouns + 1)
    weight[nouns] = 0.1
    logits = heads.patch(patches.flatten(0, 2)).float()
    out = {"patch": F.cross_entropy(logits, labels, weight=weight, ignore_index=-2)}
    known = (labels >= 0) & (labels < nouns)
    out["accuracy"] = (logits.detach()[known].argmax(-1) == labels[known]).float().mean()
    # What the caption names: nouns, colours, background.
    bag = (batch["pooled"][..., : num_words(nouns)].amax(1) > 0.1).float()
    similarity = F.normalize(heads.image(registers), dim=-1) @ F.normalize(heads.text(bag), dim=-1).T * heads.temperature.exp()
    similarity = similarity.float()
    target = torch.arange(len(similarity))
    background = batch["patch_labels"].flatten(1) == BACKGROUND_LABEL
    out["guide"] = guidance_loss(model.adapter.layer, patches, batch["heat"], batch["mixture"], background)
    out["contrast"] = 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
    return out, patches


def losses(model: Ocelli, heads: Heads, batch: dict, book: Tensor, nouns: int, frozen_layers: int) -> dict[str, Tensor]:
    out, patches = vision_losses(model, heads, batch, nouns, frozen_layers)
    projected = model.adapter.project(patches)
    for name in ("dense", "pooled"):
        if name in batch:
            grid = int(batch[name].shape[1] ** 0.5)
            tokens = model.adapter.pool_projected(projected, grid).float()
            out |= symbol_losses(tokens, batch[name], book, nouns, name)
    return out


WEIGHTS = {
    "patch": 1.0, "contrast": 0.1, "guide": 3.0,
    "dense": 1.0, "dense_noun": 0.5, "dense_colour": 0.5, "dense_rank": 1.5, "dense_count": 1.0, "dense_last": 1.0, "dense_ground": 0.3,
    "pooled": 1.0, "pooled_noun": 0.5, "pooled_colour": 0.5, "pooled_rank": 2.0, "pooled_count": 4.0, "pooled_last": 1.0, "pooled_ground": 0.3,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--nouns", type=int, default=264)
    parser.add_argument("--large-views", type=int, default=0, help="pictures of 672 pixels a step, beside the batch of 224; each costs as much as nine of them")
    parser.add_argument("--no-dense", action="store_true", help="no tokens of single patches at 224")
    parser.add_argument("--shares", type=float, nargs=4, default=SHARES, help="of crowded, zoomed, large, ordinary scenes at 224")
    parser.add_argument("--frozen-layers", type=int, default=0, help="the stem and that many layers of the encoder stay as they are")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--matrix-lr", type=float, default=0.012)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.0, help="of the weights: what is saved is their average, in which the noise of small batches cancels")
    parser.add_argument("--only-heads", action="store_true", help="encoder and adapter stay as they are: a model from `restore` has lost the heads of training")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw; 0: none of their own")
    parser.add_argument("--compile", action="store_true", help="faster, after a minute or two of compiling")
    args = parser.parse_args()
    join()
    torch.set_num_threads(args.threads)

    library = Library.load(args.sprites, nouns=args.nouns)
    model = Ocelli()
    book = codebook(args.nouns, model.config.text.hidden_size)
    heads = Heads(model.config.vision.hidden_size, args.nouns)
    (model if args.only_heads else model.decoder).requires_grad_(False)
    optimizer = Optimizer([model.vision, model.adapter, heads], args.matrix_lr, args.lr)
    state = latest(args.run)
    step, elapsed = resume(state, model, heads, optimizer)
    if args.init and not state:
        load_weights(model, args.init, heads)
    if args.compile:
        compile_parts(model)
    ema = Ema(model, args.ema, warm_up=not args.init)
    if state:
        ema.shadow = state["model"]
    make = partial(make_sample, library=library, patch_size=model.config.vision.patch_size, shares=args.shares, dense=not args.no_dense)
    views = {224: args.batch, 672: args.large_views}
    batches = {
        side: loader(partial(make, side=side), count, seed=args.seed + side + step, workers=args.workers) for side, count in views.items() if count
    }
    # The stem and the first windowed layers see the same 224-pixel windows at both sides, and learn at 224.
    frozen_layers = {224: args.frozen_layers, 672: max(args.frozen_layers, min(model.config.vision.global_layers))}

    def one_step(step: int, progress: float) -> dict[str, float]:
        shown = {}
        for side in batches:
            with mixed_precision():
                out = losses(model, heads, next(batches[side]), book, args.nouns, frozen_layers[side])
            (sum(WEIGHTS[k] * v for k, v in out.items() if k in WEIGHTS) / len(batches)).backward()
            shown |= {f"{side}.{k}": v.item() for k, v in out.items()}
        optimizer.step(schedule(progress))
        ema.update(model, step)
        return shown

    def checkpoint(step: int, minutes: float) -> None:
        save(args.run, model, heads, optimizer, step, minutes, raw=model.state_dict(), average=ema.shadow)

    train(one_step, checkpoint, args.minutes, step, elapsed)


if __name__ == "__main__":
    main()
