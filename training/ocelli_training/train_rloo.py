"""RLOO after tuning: the decoder learns from rewards of what it says itself, while encoder and adapter stay as they are.

    python -m ocelli_training.train_rloo --sprites CACHE --tokenizer FILE --run RUNS/rloo --init RUNS/joint/checkpoint.pt --minutes 30
    QAT      the same with --init RUNS/qat/checkpoint.pt --quantize

A step draws scenes, asks for a caption and answers to questions about each, samples several answers to each prompt, and makes those likelier
that are worth more (`rewards`) than the others to the same prompt (`rloo`). With --symbols nothing is drawn: the decoder sees symbolic tokens.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .chat import CAPTION_PROMPT, Chat
from .checkpoint import is_quantized, latest, resume, save
from .data import loader, pixels
from .export import PARTS, load_checkpoint, quantize_model
from .language import questions
from .loop import train
from .model import Decoder, Ocelli
from .optim import Ema, Optimizer, schedule
from .parsing import parse_caption
from .precision import mixed_precision
from .processes import join
from .quant import QLinear
from .rewards import CAPTION, readable, reward
from .rloo import kl_estimate, rloo_loss, token_log_probs
from .sampling import sample
from .scenes import Library, render, sample_scene
from .symbols import codebook, noisy_tokens
from .train_joint import SIDE
from .train_language import KINDS, POOLED, mode_of, views_of

MEASURE_SEED = 9100  # of scenes that no step sees


def make_batch(
    rng: np.random.Generator, *, library: Library, shares: dict[str, float], scenes: int, num_questions: int, book: np.ndarray | None
) -> dict:
    """Scenes of one mode, each with its turns (kind, prompt, true answer), as pixels, or as symbolic tokens where there is a code book."""
    mode = mode_of(rng, shares)
    kinds, weights = KINDS[mode]
    seen, turns, views = [], [], []
    for _ in range(scenes):
        scene = sample_scene(rng, library, kinds[int(rng.choice(len(kinds), p=weights))], augment=book is None)
        seen.append(scene)
        asked = [(kind, question, answer) for question, answer, kind in questions(scene, rng, num_questions)]
        turns.append([(CAPTION, CAPTION_PROMPT, ""), *asked])
        views += views_of(scene, mode)
    batch = {"mode": mode, "scenes": seen, "turns": turns, "views": len(views) // scenes}
    if book is None:
        return {**batch, "pixels": torch.stack([pixels(render(view, SIDE[mode])) for view in views])}
    tokens = [noisy_tokens(view, POOLED[mode], len(library.nouns), book, rng) for view in views]
    return {**batch, "images": torch.from_numpy(np.stack(tokens))}


@torch.no_grad()
def image_tokens(model: Ocelli, batch: dict) -> Tensor:
    """`[scenes, tokens, H]`, positions included."""
    pooled = POOLED[batch["mode"]]
    tokens = batch["images"] + model.adapter.positions(pooled) if "images" in batch else model.image_tokens(batch["pixels"], pooled)
    return tokens.reshape(len(batch["scenes"]), -1, tokens.shape[-1])


@torch.no_grad()
def follow(sampler: Decoder, decoder: Decoder) -> None:
    """Gives `sampler`, which is not quantized, the weights that `decoder` computes with: to sample, each is used dozens of times."""
    parts = dict(sampler.named_modules())
    for name, part in decoder.named_modules():
        if isinstance(part, QLinear):
            parts[name].weight.copy_(part.effective_weight())
    sampler.load_state_dict({k: v for k, v in decoder.state_dict().items() if "norm" in k}, strict=False)


@dataclass
class Rollout:
    """What was said in a batch: `count` answers to each prompt, one prompt after the other."""

    replies: list[list[int]]
    texts: list[str]
    kinds: list[str]  # of each reply
    rewards: Tensor  # [prompts, count]
    readable: Tensor  # [prompts, count], 1 or 0


def views_tokens(batch: dict) -> list[int]:
    """How many image tokens each view of a scene has."""
    return [POOLED[batch["mode"]] ** 2] * batch["views"]


def roll_out(
    decoder: Decoder, chat: Chat, batch: dict, tokens: Tensor, count: int, max_new_tokens: int,
    generator: torch.Generator | None = None, greedy: bool = False,
) -> Rollout:
    """Lets the decoder answer every prompt of a batch, and judges it."""
    prefix = chat.prefix(views_tokens(batch))
    asked = [(index, *turn) for index, turns in enumerate(batch["turns"]) for turn in turns]
    prompts = [prefix + chat.question(prompt) for _, _, prompt, _ in asked]
    replies = sample(decoder, prompts, tokens[[index for index, *_ in asked]], count, max_new_tokens, generator, greedy)
    texts = [chat.decode(reply) for reply in replies]
    told = [turn for turn in asked for _ in range(count)]
    rewards = [
        reward(batch["scenes"][index], kind, expected, text) for (index, kind, _, expected), text in zip(told, texts, strict=True)
    ]
    forms = [float(readable(kind, text)) for (_, kind, _, _), text in zip(told, texts, strict=True)]
    return Rollout(
        replies, texts, [kind for _, kind, _, _ in told], torch.tensor(rewards).view(-1, count), torch.tensor(forms).view(-1, count)
    )


def rloo_losses(
    decoder: Decoder, reference: Decoder, chat: Chat, batch: dict, tokens: Tensor, said: Rollout, kl_weight: float
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and what to show of it."""
    prompts = [[prompt for _, prompt, _ in turns] for turns in batch["turns"]]
    count = said.rewards.shape[1]
    ask = partial(
        token_log_probs, chat=chat, views=views_tokens(batch), image_tokens=tokens, questions=prompts, replies=said.replies, count=count
    )
    log_probs = ask(decoder)
    with torch.no_grad():
        expected = ask(reference)
    loss = rloo_loss(log_probs.sum(1).view(-1, count), expected.sum(1).view(-1, count), said.rewards, kl_weight)
    captions = [index for index, kind in enumerate(said.kinds) if kind == CAPTION]
    mode = batch["mode"][0]
    return loss, {
        f"{mode}.reward": said.rewards.mean().item(),
        f"{mode}.caption": said.rewards.flatten()[captions].mean().item(),
        f"{mode}.kl": kl_estimate(log_probs.detach(), expected).sum(1).mean().item(),
        f"{mode}.unreadable": 1 - said.readable.mean().item(),
        f"{mode}.length": float(np.mean([len(reply) for reply in said.replies])),
    }


def measure(model: Ocelli, chat: Chat, batches: list[dict], max_new_tokens: int) -> dict[str, float]:
    """Mean rewards of greedy answers, in all and by kind, and how much captions claim: what is never said is never wrong."""
    values: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        said = roll_out(model.decoder, chat, batch, image_tokens(model, batch), 1, max_new_tokens, greedy=True)
        values["unreadable"] += (1 - said.readable).flatten().tolist()
        for kind, text, worth in zip(said.kinds, said.texts, said.rewards.flatten().tolist(), strict=True):
            values["reward"].append(worth)
            values[kind if kind == CAPTION else f"? {kind}"].append(worth)
            if kind == CAPTION:
                claims = parse_caption(text)
                values["directions a caption"].append(len(claims.relations))
                values["places a caption"].append(len(claims.places))
                values["colours a caption"].append(len(claims.colours))
    return {name: float(np.mean(items)) for name, items in sorted(values.items())}


def table(columns: dict[str, dict[str, float]]) -> str:
    """Measures down, models across."""
    lines = ["| measure | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in next(iter(columns.values())):
        cells = [f"{values[name]:.3f}" if name in values else "-" for values in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--init", required=True, type=Path, help="checkpoint of the tuned model")
    parser.add_argument("--teacher", type=Path, help="checkpoint of the reference that the KL is measured from [that of --init]")
    parser.add_argument("--quantize", action="store_true", help="quantization-aware (2/4/8 bits), AdamW, EMA")
    parser.add_argument("--symbols", action="store_true", help="symbolic image tokens: nothing is drawn")
    parser.add_argument("--nouns", type=int, default=264)
    parser.add_argument("--shares", default="rapid=0.5,balanced=0.5", help="of steps")
    parser.add_argument("--scenes", type=int, default=8, help="in a batch")
    parser.add_argument("--questions", type=int, default=3, help="about each scene, beside the caption")
    parser.add_argument("--samples", type=int, default=6, help="answers to each prompt")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--kl-weight", type=float, default=0.02, help="of the divergence from the reference, in the reward, in nats an answer")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--accumulate", type=int, default=1, help="batches whose gradients make one step")
    parser.add_argument("--matrix-lr", type=float, default=0.0, help="Muon's; 0: AdamW for everything")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--measure", type=int, default=0, help="fresh scenes of each mode to measure before and after; 0: none")
    parser.add_argument("--seed", type=int, default=800_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw; 0: none of their own")
    return parser


def main() -> None:
    parser = _parser()
    args = parser.parse_args()
    if args.samples < 2:
        parser.error("--samples: leave-one-out needs at least 2 answers to each prompt")
    if is_quantized(args.init) and not args.quantize:
        parser.error(f"--init: {args.init} is quantized; add --quantize")
    number = join()
    torch.set_num_threads(args.threads)

    library = Library.load(args.sprites, nouns=args.nouns)
    chat = Chat(args.tokenizer)
    model = load_checkpoint(args.init)
    parts = PARTS if args.quantize else None
    if parts:
        quantize_model(model, parts)
        model.decoder.quantize_kv = True
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    reference = load_checkpoint(args.teacher or args.init).decoder.requires_grad_(False)
    reference.quantize_kv = is_quantized(args.teacher or args.init)
    sampler = Ocelli(model.config).decoder.requires_grad_(False)
    sampler.quantize_kv = model.decoder.quantize_kv
    optimizer = Optimizer([model.decoder], None if args.quantize else args.matrix_lr or None, args.lr)
    tuned = deepcopy(model)
    state = latest(args.run)
    step, elapsed = resume(state, model, None, optimizer)
    ema = Ema(model, args.ema)
    if state:
        ema.shadow = state["model"]

    shares = {k: float(v) for k, v in (item.split("=") for item in args.shares.split(","))}
    book = codebook(args.nouns, model.config.text.hidden_size).numpy() if args.symbols else None
    make = partial(make_batch, library=library, scenes=args.scenes, num_questions=args.questions, book=book)
    batches = loader(partial(make, shares=shares), None, seed=args.seed + step, workers=args.workers)
    generator = torch.Generator().manual_seed(args.seed + step + number * 1_000_003)

    def one_step(step: int, progress: float) -> dict[str, float]:
        batch = next(batches)
        follow(sampler, model.decoder)
        with mixed_precision():
            tokens = image_tokens(model, batch).float()
            said = roll_out(sampler, chat, batch, tokens, args.samples, args.max_new_tokens, generator)
            loss, shown = rloo_losses(model.decoder, reference, chat, batch, tokens, said, args.kl_weight)
        (loss / args.accumulate).backward()
        if (step + 1) % args.accumulate == 0:
            optimizer.step(schedule(progress, floor=0.03))
            ema.update(model, step)
        return shown

    def checkpoint(step: int, minutes: float) -> None:
        save(args.run, model, None, optimizer, step, minutes, raw=model.state_dict(), parts=parts, average=ema.shadow)

    train(one_step, checkpoint, args.minutes, step, elapsed)
    if args.measure and number == 0:
        learned = deepcopy(model)
        learned.load_state_dict(ema.shadow)
        rng, columns = np.random.default_rng(MEASURE_SEED), {}
        for mode in shares:
            fresh = [make(rng, shares={mode: 1.0}) for _ in range(-(-args.measure // args.scenes))]
            for name, which in (("before", tuned), ("after", learned)):
                columns[f"{mode} {name}"] = measure(which, chat, fresh, args.max_new_tokens)
        print(table(columns))


if __name__ == "__main__":
    main()
