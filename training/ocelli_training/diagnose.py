"""Where a model goes wrong: in what the encoder sees, in what its image tokens say of number and order, or in how the decoder reads them.

    python -m ocelli_training.diagnose --checkpoint RUNS/joint/checkpoint.pt --sprites CACHE --tokenizer FILE [--style openmoji] [--scenes 200]

The codes of symbols.py let a part of each image token be replaced by what it should say. What the captions gain by it is what that part costs.
The checkpoint is read in 32 bits; it needs the heads of training, which `restore` cannot give.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .chat import CAPTION_PROMPT, IGNORE, Chat, Sequence, Turn, collate
from .checkpoint import load_weights
from .data import pixels
from .evaluate import MODES, STYLES, scene_truth
from .fetching import Things, known_places
from .language import questions
from .metrics import Scores, Tally
from .model import Ocelli
from .precision import mixed_precision
from .sampling import sample
from .scenes import Library, Scene, patch_labels, render, sample_scene
from .symbols import NUM_COUNTS, NUM_RANKS, codebook, features, noisy_tokens, num_words
from .train_language import POOLED, answer_logits
from .train_vision import LOGITS, ONE_LOGIT, Heads
from .truth import direction

BATCH = 20
PEAK = 0.2  # a code this strong stands for something


@dataclass
class Codes:
    """The parts of the code book `[features, hidden_size]`, and how to take each out of a token."""

    book: Tensor
    num_nouns: int
    order: Tensor = field(init=False)  # [hidden_size, hidden_size], the projection on the codes of order and number
    nouns: Tensor = field(init=False)

    def __post_init__(self) -> None:
        def projection(rows: Tensor) -> Tensor:
            return torch.linalg.pinv(rows) @ rows

        self.order = projection(self.book[num_words(self.num_nouns) :])
        self.nouns = projection(self.book[: self.num_nouns])

    def corrected(self, tokens: Tensor, target: Tensor) -> dict[str, Tensor]:
        """`tokens` `[V, P * P, H]` as they are, with the parts that `target` `[V, P * P, features]` knows put right, and `target` alone."""
        first = num_words(self.num_nouns)
        order = target[..., first:] @ self.book[first:]
        nouns = target[..., : self.num_nouns] @ self.book[: self.num_nouns]
        with_nouns = tokens - tokens @ self.nouns + nouns
        return {
            "as they are": tokens,
            "order and number put right": tokens - tokens @ self.order + order,
            "nouns put right": with_nouns,
            "both put right": with_nouns - with_nouns @ self.order + order,
            "symbols": target @ self.book,
        }


@dataclass
class Report:
    """What the encoder and its tokens say (`seen`), and the captions of each kind of token."""

    seen: dict[str, Tally] = field(default_factory=dict)
    captions: dict[str, Scores] = field(default_factory=dict)
    directions: dict[str, Tally] = field(default_factory=dict)  # answers about where one thing is relative to another
    # What the decoder knows where it is asked that, if both are there: how far the place at a noun is off, and which direction follows from its numbers.
    errors: dict[str, list[float]] = field(default_factory=dict)
    followed: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def count(self, name: str, right: bool) -> None:
        self.seen.setdefault(name, Tally()).add(right)

    def look(self, scene: Scene, labels: Tensor, named: Tensor, tokens: Tensor, target: Tensor, codes: Codes) -> None:
        """One scene: `labels` and `named` `[gh, gw]` of patches, `tokens` `[P * P, H]`."""
        ranks = slice(num_words(codes.num_nouns), num_words(codes.num_nouns) + NUM_RANKS)
        counts = slice(ranks.stop, ranks.stop + NUM_COUNTS)
        for thing in scene.objects:
            under = named[labels == thing.noun]
            self.count("objects named by most of their patches", len(under) > 0 and int(torch.mode(under).values) == thing.noun)
            peak = int(target[:, thing.noun].argmax())
            said = codes.book @ tokens[peak]
            self.count("objects named by the token at their centre", int(said[: codes.num_nouns].argmax()) == thing.noun)
            if target[peak, ranks].max() > PEAK:
                self.count("ranks of objects, by that token", bool(said[ranks].argmax() == target[peak, ranks].argmax()))
            equals = sum(other.noun == thing.noun for other in scene.objects)
            if equals <= NUM_COUNTS + 1:
                numbers = torch.cat([torch.tensor([ONE_LOGIT]), LOGITS * said[counts]])
                self.count(f"number of {equals} alike, by that token", int(numbers.argmax()) + 1 == equals)

    def compare(self, name: str, known: dict[str, Tensor], batch: dict) -> None:
        """`known`: `known_places` of the questions about directions in `batch`."""
        for row in range(len(batch["ids"])):
            answer = int((batch["labels"][row] != IGNORE).nonzero()[0])
            asked = [int(batch[pointer][row, answer]) for pointer in ("first_compared", "second_compared")]
            first, second = true = batch["places"][row, batch["named"][row, asked]]
            if true.isnan().any():
                continue
            places = known["named"][row, asked]
            self.errors.setdefault(name, []).append(float((places - true).square().mean()))
            for source, offset in (("places", places[0] - places[1]), ("offset", known["offset"][row, answer])):
                follows = direction(*offset.tolist(), dominance=1.0) == direction(*(first - second).tolist(), dominance=1.0)
                self.followed.setdefault((name, source), Tally()).add(follows)

    def table(self) -> str:
        lines = ["| the encoder | right |", "| --- | ---: |"]
        lines += [f"| {name} | {tally.right / tally.total:.3f} |" for name, tally in sorted(self.seen.items())]
        lines += ["", "| said from image tokens | object F1 | exact objects | directions, when asked |", "| --- | ---: | ---: | ---: |"]
        for name, scores in self.captions.items():
            values = {measure: value for measure, value, _ in scores.values()}
            asked = self.directions.get(name, Tally())
            directions = f"{asked.right / asked.total:.3f} ({asked.total})" if asked.total else "-"
            lines.append(f"| {name} | {values['object F1']:.3f} | {values['exact objects']:.3f} | {directions} |")
        lines += ["", "| known where a direction is asked | places off by (root of the mean square, sides) | direction follows from them | from the offset |"]
        lines.append("| --- | ---: | ---: | ---: |")
        for name, errors in self.errors.items():
            follows = [f"{tally.right / tally.total:.3f}" for tally in (self.followed[name, source] for source in ("places", "offset"))]
            lines.append(f"| {name} | {np.sqrt(np.mean(errors)):.3f} | {' | '.join(follows)} |")
        return "\n".join(lines)


@torch.no_grad()
def diagnose(model: Ocelli, heads: Heads, library: Library, chat: Chat, mode: str, scenes: int, seed: int = 4242) -> Report:
    """Captions of `scenes` fresh scenes of rapid or balanced mode."""
    (side, kind), pooled, nouns = MODES[mode], POOLED[mode], len(library.nouns)
    rng = np.random.default_rng([seed, 0, 0, 1])
    codes, report = Codes(codebook(nouns, model.config.text.hidden_size), nouns), Report()
    prompt = chat.prefix([pooled * pooled]) + chat.question(CAPTION_PROMPT)
    drawn = [sample_scene(rng, library, kind) for _ in range(scenes)]
    asked = [questions(scene, rng, 1, {"relation": 1.0}) for scene in drawn]  # none where no direction is clear
    truth = [{"path": str(number), **scene_truth(scene)} for number, scene in enumerate(drawn)]
    for start in range(0, scenes, BATCH):
        batch = drawn[start : start + BATCH]
        with mixed_precision():
            patches, _ = model.vision(torch.stack([pixels(render(scene, side)) for scene in batch]))
            tokens = model.adapter.pool(patches, pooled).float()
            named = heads.patch(patches).float()[..., :nouns].argmax(-1)
        target = torch.stack([torch.from_numpy(features(scene, pooled, nouns)) for scene in batch])
        for row, scene in enumerate(batch):
            labels = torch.from_numpy(patch_labels(scene, side // model.config.vision.patch_size)).long()
            report.look(scene, labels, named[row], tokens[row], target[row], codes)
        rows = [row for row in range(len(batch)) if asked[start + row]]
        answers = [asked[start + row][0][1] for row in rows]
        asking = [chat.prefix([pooled * pooled]) + chat.question(asked[start + row][0][0]) for row in rows]
        told_of = collate([Sequence.of(chat, [pooled * pooled], [Turn(*asked[start + row][0][:2])], Things.of(batch[row], pooled)) for row in rows]) if rows else None
        kinds = codes.corrected(tokens, target)
        kinds["symbols with the noise of stage 2"] = torch.from_numpy(np.stack([noisy_tokens(s, pooled, nouns, codes.book.numpy(), rng) for s in batch]))
        for name, image_tokens in kinds.items():
            scores = report.captions.setdefault(name, Scores.of(truth))
            image_tokens = image_tokens + model.adapter.positions(pooled)
            directions = report.directions.setdefault(name, Tally())
            with mixed_precision():
                replies = sample(model.decoder, [prompt] * len(batch), image_tokens, 1, 64, greedy=True)
                told = sample(model.decoder, asking, image_tokens[rows], 1, 16, greedy=True) if rows else []
                if told_of:
                    report.compare(name, known_places(answer_logits(model.decoder, told_of, image_tokens[rows])[1]), told_of)
            for answer, reply in zip(answers, told, strict=True):
                directions.add(chat.decode(reply).strip() == answer)
            for record, reply in zip(truth[start:], replies, strict=False):
                scores.add_caption(record, chat.decode(reply))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--style", default="training", choices=STYLES)
    parser.add_argument("--modes", nargs="+", default=["rapid", "balanced"], choices=["rapid", "balanced"])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--nouns", type=int, default=264)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if torch.load(args.checkpoint, map_location="cpu", weights_only=True).get("heads") is None:
        parser.error(f"--checkpoint: {args.checkpoint} has no heads, by which patches are named; take one of a stage of training")
    torch.set_num_threads(args.threads)
    model = Ocelli().eval()
    heads = Heads(model.config.vision.hidden_size, args.nouns)
    load_weights(model, args.checkpoint, heads)
    library = Library.load(args.sprites, nouns=args.nouns, sets=STYLES[args.style])
    for mode in args.modes:
        print(f"{mode}, {args.scenes} scenes\n\n{diagnose(model, heads, library, Chat(args.tokenizer), mode, args.scenes).table()}\n", flush=True)


if __name__ == "__main__":
    main()
