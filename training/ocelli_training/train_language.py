"""Stage 2: the decoder learns the language on symbolic image tokens; nothing is drawn.

    python -m ocelli_training.train_language --sprites CACHE --tokenizer FILE --run RUNS/language --minutes 40

One picture, one caption and four questions share a sequence. Rapid, balanced and high layouts in turn.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .chat import CAPTION_PROMPT, IGNORE, IMAGE, LONG_CAPTION_PROMPT, Chat, Sequence, Turn, collate, splice
from .checkpoint import latest, load_weights, resume, save
from .data import loader
from .fetching import Things, look_loss, place_loss
from .language import QUESTION_KINDS, caption, detailed_caption, questions
from .loop import train
from .model import Decoder, Ocelli, compile_parts
from .optim import Optimizer, schedule
from .scenes import Library, Scene, crop, sample_scene
from .precision import mixed_precision
from .processes import join
from .symbols import codebook, noisy_tokens
from .truth import groups

# Kinds of scene in each mode, and their shares.
KINDS = {
    "rapid": (("large", "ordinary"), (0.85, 0.15)),
    "balanced": (("ordinary", "small", "large"), (0.6, 0.1, 0.3)),
    "high": (("small", "ordinary"), (0.85, 0.15)),
}
CAPTIONS = {"rapid": 1, "balanced": 3, "high": 3}  # of pictures of several nouns, in other orders: a picture with many tokens costs more than its words
LONG_SHARE = 0.35  # of pictures with a long caption
ORDER_BLUR = 0.06  # of the side
EARLY_SHARE = 0.4  # of scenes of several nouns, in which one is named before its turn
MAX_QUESTIONS = 14
PRACTISED = QUESTION_KINDS | {"relation": 0.28, "beside": 0.2, "colour": 0.14, "list": 0.08}  # the hardest are asked more often than in measuring
SURE = 2.6  # captions say a direction only where one offset exceeds the other that often: who sees places dimly should not speak of the nearly diagonal
HALF_UNKNOWN = 0.22  # to notice that one of two is not there is harder than the direction: 4 of 15 against 79 of 84 right, when 0.12 were drawn so
LENGTH = {"rapid": 160, "balanced": 352, "high": 928}  # tokens of a picture with its turns: filled up, so that little is padded
SPOKEN_WEIGHTS = {"text": 1.0, "place": 1.0, "look": 0.3}
POOLED = {"rapid": 3, "balanced": 12, "high": 12}


def views_of(scene: Scene, mode: str) -> list[Scene]:
    """What each view of the mode shows: the whole, and in high mode its four quarters after it."""
    if mode != "high":
        return [scene]
    return [scene] + [crop(scene, x, y, 0.5) for y in (0.0, 0.5) for x in (0.0, 0.5)]


def unsure(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with nouns named in the order in which they would stand if each were moved a little. Where things are stays as it is.

    An encoder often cannot tell which of two is the first, and its tokens may claim the same rank for both. A decoder that has seen one order
    alone believes them and names a thing twice; one that has seen both has to remember what it has said.
    """
    shifts = rng.normal(0.0, ORDER_BLUR, len(scene.objects)).tolist()
    return replace(scene, objects=tuple(replace(thing, named_later=shift) for thing, shift in zip(scene.objects, shifts, strict=True)))


def out_of_turn(scene: Scene, rng: np.random.Generator) -> tuple[Scene, frozenset[int]]:
    """The scene, in which often one noun is named before those that stand further left, and that noun.

    To say it there is not learned, what to say after it is: a decoder that has named the wrong one of two first went on with what stood in
    second place, named it again, or stopped where it was the last.
    """
    found = groups(scene)
    if len(found) < 2 or rng.random() >= EARLY_SHARE:
        return scene, frozenset()
    index = int(rng.integers(1, len(found)))
    ahead_of = found[int(rng.integers(index))].members[0]
    noun, first = found[index].noun.index, found[index].members[0]
    shift = ahead_of.cx + ahead_of.named_later - first.cx - 0.001
    things = tuple(replace(thing, named_later=shift) if thing.noun == noun else thing for thing in scene.objects)
    return replace(scene, objects=things), frozenset({noun})


def turns_of(scene: Scene, rng: np.random.Generator, captions: int = 1) -> list[Turn]:
    """Captions, each in an order of its own, often a long one as well, and questions: as many as there are."""
    turns = []
    for _ in range(captions if len(groups(scene)) > 1 else 1):
        told, early = out_of_turn(unsure(scene, rng), rng)
        turns.append(Turn(CAPTION_PROMPT, caption(told, rng, SURE), early))
    if rng.random() < LONG_SHARE:
        turns.append(Turn(LONG_CAPTION_PROMPT, detailed_caption(told, SURE), early))
    return turns + [Turn(question, answer, early) for question, answer, _ in questions(told, rng, MAX_QUESTIONS, PRACTISED, HALF_UNKNOWN)]


def sequence_of(chat: Chat, scene: Scene, views: list[Scene], mode: str, length: int, rng: np.random.Generator) -> Sequence:
    """A picture of these views with what is said of it, at most `length` tokens."""
    cells = POOLED[mode]
    return Sequence.of(chat, [cells * cells] * len(views), turns_of(scene, rng, CAPTIONS[mode]), Things.of(scene, cells, views[1:]), length)


def mode_of(rng: np.random.Generator, shares: dict[str, float]) -> str:
    names = list(shares)
    total = sum(shares.values())
    return names[int(rng.choice(len(names), p=[shares[n] / total for n in names]))]


def make_batch(
    rng: np.random.Generator, *, library: Library, chat: Chat, book: np.ndarray, tokens: int, shares: dict, max_objects: list[int]
) -> dict:
    """A batch of one mode with about `tokens` tokens."""
    mode = mode_of(rng, shares)
    most = max_objects[int(rng.integers(len(max_objects)))]
    pooled = POOLED[mode]
    sequences, images = [], []
    for _ in range(max(1, tokens // LENGTH[mode])):
        kinds, weights = KINDS[mode]
        kind = kinds[int(rng.choice(len(kinds), p=weights))]
        while len((scene := sample_scene(rng, library, kind)).objects) > most:
            pass
        views = views_of(scene, mode)
        sequences.append(sequence_of(chat, scene, views, mode, LENGTH[mode], rng))
        images.append(np.stack([noisy_tokens(v, pooled, len(library.nouns), book, rng) for v in views]))
    return {**collate(sequences, LENGTH[mode]), "images": torch.from_numpy(np.stack(images)), "mode": mode}


def answer_logits(decoder: Decoder, batch: dict, image_tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`[labels, vocab]` for the tokens of the answers, and what `Decoder.states` gives beside; `image_tokens` `[B, N, H]` with positions."""
    embeddings = splice(decoder.embedding.lookup(batch["ids"]), batch["ids"], image_tokens)
    hidden, inputs = decoder.states(embeddings, batch["positions"], batch["mask"])
    return decoder.logits(hidden[batch["labels"] != IGNORE]).float(), inputs


def language_loss(model: Ocelli, batch: dict, image_tokens: Tensor, teacher: Decoder | None = None) -> dict[str, Tensor]:
    """`text`: weighted mean cross-entropy of the answers; `place`, `look`: `fetching.py`; `right`: the share of the answers' tokens that are right.

    With a teacher the words count half, and the divergence from what that decoder would say is added: there is more in it than in one word.
    """
    wanted = batch["labels"] != IGNORE
    logits, inputs = answer_logits(model.decoder, batch, image_tokens)
    labels, weights = batch["labels"][wanted], batch["weights"][wanted]
    losses = F.cross_entropy(logits, labels, reduction="none")
    if teacher:
        with torch.no_grad():
            expected = answer_logits(teacher, batch, image_tokens)[0].log_softmax(-1)
        losses = 0.5 * losses + F.kl_div(logits.log_softmax(-1), expected, log_target=True, reduction="none").sum(-1)
    right = (logits.detach().argmax(-1) == labels).float().mean()
    image = (batch["ids"][0] == IMAGE).nonzero().flatten()  # the same in all
    return {
        "text": losses @ weights / weights.sum(), "place": place_loss(inputs, batch),
        "look": look_loss(model.decoder, inputs, batch, image), "right": right,
    }


@torch.no_grad()
def ground(model: Ocelli, chat: Chat, book: Tensor, library: Library) -> None:
    """Lexical grounding: the embedding of each word of a noun leans towards the code that image tokens have for that noun.

    Embedding and head are tied, so that to name what a token shows becomes to copy it.
    """
    codes: dict[int, list[Tensor]] = {}
    for i, (noun, plural) in enumerate(zip(library.nouns, library.plurals, strict=True)):
        for word in {*noun.split(), *plural.split()} - {"of"}:
            for token in chat.encode(" " + word):
                codes.setdefault(token, []).append(book[i])
    weight = model.decoder.embedding.weight
    for token, rows in codes.items():
        weight[token] = 0.5 * weight[token] + weight[token].norm() * F.normalize(torch.stack(rows).sum(0), dim=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--nouns", type=int, default=264)
    parser.add_argument("--tokens", type=int, default=4000, help="tokens a batch")
    parser.add_argument(
        "--max-objects", type=int, nargs="+", default=[4],
        help="each batch takes one of these; begin with 1 alone: to name what is there comes before order and number",
    )
    parser.add_argument("--shares", default="rapid=0.6,balanced=0.37,high=0.03")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--matrix-lr", type=float, default=0.012, help="Muon's; 0: AdamW for everything")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--ground", action="store_true", help="lexical grounding of the embedding, before the first step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="faster, after a minute or two of compiling")
    args = parser.parse_args()
    join()
    torch.set_num_threads(args.threads)

    library = Library.load(args.sprites, nouns=args.nouns)
    chat = Chat(args.tokenizer)
    model = Ocelli()
    book = codebook(args.nouns, model.config.text.hidden_size)
    model.vision.requires_grad_(False)
    model.adapter.requires_grad_(False)
    model.adapter.position_embedding.requires_grad_(True)
    optimizer = Optimizer([model.decoder, model.adapter], args.matrix_lr or None, args.lr)
    if args.compile:
        compile_parts(model)
    state = latest(args.run)
    step, elapsed = resume(state, model, None, optimizer)
    if args.init and not state:
        load_weights(model, args.init, prefixes=("decoder.", "adapter.position_embedding"))
    if args.ground and not state:
        ground(model, chat, book, library)
    shares = {k: float(v) for k, v in (item.split("=") for item in args.shares.split(","))}
    make = partial(make_batch, library=library, chat=chat, book=book.numpy(), tokens=args.tokens, shares=shares, max_objects=args.max_objects)
    batches = loader(make, None, seed=args.seed + step, workers=1)

    def one_step(step: int, progress: float) -> dict[str, float]:
        batch = next(batches)
        tokens = batch["images"] + model.adapter.positions(POOLED[batch["mode"]])
        with mixed_precision():
            out = language_loss(model, batch, tokens.flatten(1, 2))
        sum(weight * out[name] for name, weight in SPOKEN_WEIGHTS.items()).backward()
        optimizer.step(schedule(progress))
        return {f"{batch['mode']}.{k}": v.item() for k, v in out.items()}

    def checkpoint(step: int, minutes: float) -> None:
        save(args.run, model, None, optimizer, step, minutes)

    train(one_step, checkpoint, args.minutes, step, elapsed)


if __name__ == "__main__":
    main()
