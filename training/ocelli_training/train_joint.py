"""Stages 3 to 5: encoder, adapter and decoder together, on drawn pictures with captions and questions, in the three modes.

    joint    python -m ocelli_training.train_joint --sprites CACHE --tokenizer FILE --run RUNS/joint --vision RUNS/vision/checkpoint.pt \\
                 --language RUNS/language/checkpoint.pt --minutes 30
    tuning   the same with --init RUNS/joint/checkpoint.pt and other --shares
    QAT      the same with --init ... --teacher ... --quantize: 2-bit decoder, 4-bit embedding, 8-bit encoder and adapter, learnable scales, EMA
    recovery the same with --init RUNS/qat/checkpoint.pt --recovery-rank 8: a low-rank adapter beside the packed decoder learns, and nothing else

The symbolic targets of stage 1 go on beside the language loss; they keep the tokens readable.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import recovery
from .chat import Chat, collate
from .checkpoint import is_quantized, latest, load_weights, resume, save
from .data import loader, pixels
from .export import PARTS, load_checkpoint, quantize_model
from .guidance import object_maps
from .loop import train
from .model import Decoder, Ocelli, compile_parts
from .optim import Ema, Optimizer, schedule
from .scenes import Library, Scene, patch_labels, render, sample_scene
from .precision import mixed_precision
from .processes import join
from .symbols import codebook, features
from .train_language import KINDS, POOLED, SPOKEN_WEIGHTS, language_loss, mode_of, sequence_of, views_of
from .train_language import make_batch as symbolic_batch
from .train_vision import SHARES, WEIGHTS, Heads, losses, make_sample, symbol_losses, vision_losses

SIDE = {"rapid": 224, "balanced": 672, "high": 672}
LENGTH = {"rapid": 104, "balanced": 304, "high": 880}  # tokens of a picture with its turns
BATCH = {"rapid": 30, "balanced": 6, "high": 2, "patches": 48}


def letterboxed(rng: np.random.Generator, library: Library, kind: str) -> tuple[Scene, tuple[float, float, float, float]]:
    """A scene whose objects all stand in a band, as a picture that is not square is seen under `aspect: pad`; and the band."""
    for _ in range(60):
        scene = sample_scene(rng, library, kind, augment=True)
        keep = float(rng.uniform(0.5, 0.95))
        low, high = 0.5 - keep / 2, 0.5 + keep / 2
        for vertical in (False, True):
            spans = [thing.box[int(vertical) :: 2] for thing in scene.objects]
            if all(low <= start and end <= high for start, end in spans):
                return scene, (0.0, low, 1.0, high) if vertical else (low, 0.0, high, 1.0)
    return scene, (0.0, 0.0, 1.0, 1.0)


def padded(image: np.ndarray, band: tuple[float, float, float, float]) -> np.ndarray:
    side = image.shape[0]
    left, top, right, bottom = (round(edge * side) for edge in band)
    out = np.full_like(image, 127)
    out[top:bottom, left:right] = image[top:bottom, left:right]
    return out


def make_batch(
    rng: np.random.Generator, *, library: Library, chat: Chat, patch_size: int, shares: dict, book: np.ndarray
) -> dict:
    mode = mode_of(rng, shares)
    if mode == "symbols":
        return symbolic_batch(
            rng, library=library, chat=chat, book=book, tokens=4000, max_objects=[2, 4, 4],
            shares={"rapid": 0.3, "balanced": 0.3, "high": 0.4},
        )
    if mode == "patches":
        # Not dense: a token of one patch and one of sixteen cannot both say a noun as loudly.
        sample = partial(make_sample, rng, library=library, side=224, patch_size=patch_size, shares=SHARES, dense=False)
        return {**torch.utils.data.default_collate([sample() for _ in range(BATCH[mode])]), "mode": mode}
    side, pooled, nouns = SIDE[mode], POOLED[mode], len(library.nouns)
    sequences, images, labels, targets, heats, mixtures = [], [], [], [], [], []
    for _ in range(BATCH[mode]):
        kinds, weights = KINDS[mode]
        kind = kinds[int(rng.choice(len(kinds), p=weights))]
        band = (0.0, 0.0, 1.0, 1.0)
        if mode != "high" and rng.random() < 0.15:
            scene, band = letterboxed(rng, library, kind)
        else:
            scene = sample_scene(rng, library, kind, augment=True)
        views = views_of(scene, mode)
        for view in views:
            images.append(pixels(padded(render(view, side), band)))
            labels.append(torch.from_numpy(patch_labels(view, side // patch_size)).long())
            targets.append(torch.from_numpy(features(view, pooled, nouns)))
            heat, mixture = map(torch.from_numpy, object_maps(view, side // patch_size))
            heats.append(heat)
            mixtures.append(mixture)
        sequences.append(sequence_of(chat, scene, views, mode, LENGTH[mode], rng))
    more = {"pixels": images, "patch_labels": labels, "pooled": targets, "heat": heats, "mixture": mixtures}
    more = {name: torch.stack(views) for name, views in more.items()}
    return {**collate(sequences, LENGTH[mode]), **more, "mode": mode}


def joint_losses(
    model: Ocelli, heads: Heads, batch: dict, book: Tensor, nouns: int, learns: str = "all", frozen_layers: int = 0,
    teacher: Decoder | None = None,
) -> dict[str, Tensor]:
    """The losses of one batch; `learns` is "all", "vision" (no language loss) or "decoder" (no gradient for encoder and adapter)."""
    mode = batch["mode"]
    if mode == "patches":  # stage 1 goes on in between: crowded scenes have the most nouns a second
        return losses(model, heads, batch, book, nouns, frozen_layers)
    pooled = POOLED[mode]
    out, prefix = {}, ""
    if "images" in batch:  # stage 2 goes on in between: it costs little and keeps the language
        tokens, prefix = batch["images"], "symbols_"
    else:
        with torch.set_grad_enabled(learns != "decoder"):
            if mode == "high" or learns == "decoder":  # high has five views: the encoder only reads there
                with torch.no_grad():
                    patches, _ = model.vision(batch["pixels"])
            else:
                # The stem and the first windowed layers see the same 224-pixel windows in rapid mode, and learn there.
                local = min(model.config.vision.global_layers) if mode == "balanced" else 0
                out, patches = vision_losses(model, heads, batch, nouns, max(local, frozen_layers))
            tokens = model.adapter.pool(patches, pooled).float()
            out |= symbol_losses(tokens, batch["pooled"], book, nouns, "pooled")
    if learns != "vision":
        with torch.set_grad_enabled(learns != "decoder"):
            tokens = tokens + model.adapter.positions(pooled)
        tokens = tokens.reshape(len(batch["ids"]), -1, tokens.shape[-1])
        spoken = language_loss(model, batch, tokens, teacher)
        out |= {prefix + name: value for name, value in spoken.items()}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--vision", type=Path, help="checkpoint for encoder, adapter and heads")
    parser.add_argument("--language", type=Path, help="checkpoint for the decoder and the token positions")
    parser.add_argument("--init", type=Path, help="checkpoint for everything that the two before do not give")
    parser.add_argument("--quantize", action="store_true", help="quantization-aware (2/4/8 bits), AdamW, EMA")
    parser.add_argument("--teacher", type=Path, help="checkpoint of a decoder to learn from as well: that of the 32-bit model, for QAT")
    parser.add_argument("--recovery-rank", type=int, default=0, help="rank of a low-rank adapter of the decoder, which alone learns")
    parser.add_argument("--learns", choices=("all", "vision", "decoder"), default="all", help="vision: encoder and adapter, without the language loss")
    parser.add_argument("--nouns", type=int, default=264)
    parser.add_argument("--shares", default="rapid=0.25,balanced=0.4,high=0.02,symbols=0.18,patches=0.15", help="of steps")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--frozen-layers", type=int, default=0, help="the stem and that many layers of the encoder stay as they are")
    parser.add_argument("--accumulate", type=int, default=1, help="batches whose gradients make one step")
    parser.add_argument("--matrix-lr", type=float, default=0.005, help="Muon's; 0: AdamW for everything. What is stored in 2 or 4 bits has AdamW")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--vision-weight", type=float, default=0.5)
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=700_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw; 0: none of their own")
    parser.add_argument("--compile", action="store_true", help="faster, after some minutes of compiling")
    args = parser.parse_args()
    join()
    torch.set_num_threads(args.threads)

    library = Library.load(args.sprites, nouns=args.nouns)
    chat = Chat(args.tokenizer)
    model = Ocelli()
    book = codebook(args.nouns, model.config.text.hidden_size)
    heads = Heads(model.config.vision.hidden_size, args.nouns)
    state = latest(args.run)
    parts = PARTS if args.quantize else None
    goes_on = bool(parts and args.init and is_quantized(args.init))
    if goes_on:
        quantize_model(model, parts)
    if not state:
        if args.init:
            load_weights(model, args.init, heads)
        if args.vision:
            load_weights(model, args.vision, heads, prefixes=("vision.", "adapter."))
        if args.language:
            load_weights(model, args.language, prefixes=("decoder.", "adapter.position_embedding"))
    if parts:
        if not goes_on:
            quantize_model(model, parts)
        model.decoder.quantize_kv = True
    if args.recovery_rank:
        args.learns = "decoder"
        model.requires_grad_(False)
        recovery.add(model.decoder, args.recovery_rank)
    teacher = load_checkpoint(args.teacher).decoder.eval() if args.teacher else None
    # The report's recipe for 2 bits: AdamW without weight decay (see Optimizer), an average of the weights.
    trained = {"all": [model, heads], "vision": [model.vision, model.adapter, heads], "decoder": [model.decoder]}[args.learns]
    optimizer = Optimizer(trained, args.matrix_lr or None, args.lr)
    step, elapsed = resume(state, model, heads, optimizer)
    if args.compile:
        compile_parts(model)
    ema = Ema(model, args.ema, warm_up=not args.init)
    if state:
        ema.shadow = state["model"]

    shares = {k: float(v) for k, v in (item.split("=") for item in args.shares.split(","))}
    if args.learns == "vision":
        shares.pop("symbols", None)  # nothing is drawn there
    if args.learns == "decoder":
        shares.pop("patches", None)
    make = partial(make_batch, library=library, chat=chat, patch_size=model.config.vision.patch_size, shares=shares, book=book.numpy())
    batches = loader(make, None, seed=args.seed + step, workers=args.workers)

    def one_step(step: int, progress: float) -> dict[str, float]:
        batch = next(batches)
        with mixed_precision():
            out = joint_losses(model, heads, batch, book, args.nouns, args.learns, args.frozen_layers, teacher)
        loss = sum(weight * v for k, v in out.items() for name, weight in SPOKEN_WEIGHTS.items() if k.endswith(name))
        loss = loss + args.vision_weight * sum(WEIGHTS[k] * v for k, v in out.items() if k in WEIGHTS)
        (loss / args.accumulate).backward()
        if (step + 1) % args.accumulate == 0:
            optimizer.step(schedule(progress, floor=0.03))
            ema.update(model, step)
        return {f"{batch['mode'][0]}.{k}": v.item() for k, v in out.items()}

    def checkpoint(step: int, minutes: float) -> None:
        save(args.run, model, heads, optimizer, step, minutes, raw=model.state_dict(), parts=parts, average=ema.shadow)

    train(one_step, checkpoint, args.minutes, step, elapsed)


if __name__ == "__main__":
    main()
