"""The token layout of a conversation about pictures, the same as the Rust side makes from assets/nano/chat_template.jinja:

    <bos><turn_start>user\\n<image_start>[image tokens]<image_end>PROMPT<turn_end><turn_start>assistant\\nANSWER<turn_end>

For training, several turns about the same picture share its tokens: each turn is a branch that sees the picture and itself, and its
positions go on from the picture's end, as if it were the only one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .fetching import NOTHING, Things
from .nouns import NOUNS

PAD, BOS, TURN_START, TURN_END, IMAGE_START, IMAGE_END, IMAGE = range(7)
CAPTION_PROMPT = "Describe the picture."
LONG_CAPTION_PROMPT = "Describe the picture in detail."
IGNORE = -100
POINTERS = ("named", "next_named", "first_compared", "second_compared", "repeated", "shown")  # of a sequence, for `fetching.py`
# Words that say where things are: one in a caption of twenty tokens, and the hardest to learn, so each counts as several in the loss.
PLACE_WORDS = (" above", " below", "Above", "Below", " left", " right", " top", " bottom", " center")
PLACE_WEIGHT = 4.0
NOUN_WEIGHT = 2.0  # of what leads to a noun in an answer, its first token and what follows it: there is decided what comes, and whether more


class Chat:
    def __init__(self, tokenizer: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.user, self.assistant = self.encode("user\n"), self.encode("assistant\n")
        self.weights = {token: PLACE_WEIGHT for word in PLACE_WORDS for token in self.encode(word)}
        self.nouns = {tuple(self.encode(f" {form}")): noun.index for noun in NOUNS for form in (noun.word, noun.plural)}
        self.longest_noun = max(map(len, self.nouns))

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)

    def named(self, ids: list[int]) -> list[tuple[int, int, int]]:
        """Where `ids` name a noun: positions of its first and last token, and the index of the noun. "hot dog" is no dog."""
        found, start = [], 0
        while start < len(ids):
            for length in range(self.longest_noun, 0, -1):
                noun = self.nouns.get(tuple(ids[start : start + length]))
                if noun is not None:
                    found.append((start, start + length - 1, noun))
                    start += length
                    break
            else:
                start += 1
        return found

    def prefix(self, views: list[int]) -> list[int]:
        """Everything up to the end of the picture; `views`: image tokens of each view."""
        ids = [BOS, TURN_START, *self.user]
        for count in views:
            ids += [IMAGE_START, *[IMAGE] * count, IMAGE_END]
        return ids

    def question(self, prompt: str) -> list[int]:
        return [*self.encode(prompt), TURN_END, TURN_START, *self.assistant]

    def answer(self, text: str) -> list[int]:
        return [*self.encode(text), TURN_END]


class Turn(NamedTuple):
    prompt: str
    answer: str
    early: frozenset[int] = frozenset()  # nouns that the answer names before their turn


@dataclass
class Sequence:
    """One picture and its turns, as lists of equal length."""

    ids: list[int]
    branches: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)  # of the labels, in the loss
    # Rows of `Things`, or NOTHING: at the last token of a noun what it names; in an answer, before a noun, what is named next
    # (not where it comes before its turn).
    named: list[int] = field(default_factory=list)
    next_named: list[int] = field(default_factory=list)
    # In an answer, positions of tokens, or NOTHING: the last token of the noun that a direction starts from (the first of the question; the one
    # before, where the question names none) and of the one that it leads to, where the question names that as well.
    first_compared: list[int] = field(default_factory=list)
    second_compared: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)  # before a noun that the turn has named already: its first token there
    shown: list[int] = field(default_factory=list)  # rows of `Things`: at image tokens of tiles, what they show
    things: Things | None = None

    @classmethod
    def of(
        cls, chat: Chat, views: list[int], turns: list[Turn], things: Things | None = None, length: int | None = None
    ) -> Sequence:
        """Turns with which it would exceed `length` tokens are left out."""
        out = cls.of_picture(chat, views)
        out.things = things
        if things:
            for position, row in zip((i for i, token in enumerate(out.ids) if token == IMAGE), things.shown.tolist(), strict=True):
                out.shown[position] = row
        for turn in turns:
            question, reply = chat.question(turn.prompt), chat.answer(turn.answer)
            start = len(out.ids)
            if length is not None and start + len(question) + len(reply) > length:
                continue
            free = start + len(question) - 1  # the token that the first word of the answer follows
            out.add_turn(question, reply, [chat.weights.get(token, 1.0) for token in reply])
            if things:
                nouns = [(start + first, start + last, noun) for first, last, noun in chat.named(question + reply)]
                out._point_at_nouns(free, nouns, turn.early)
        return out

    @classmethod
    def of_picture(cls, chat: Chat, views: list[int]) -> Sequence:
        """The picture without any turn yet."""
        ids = chat.prefix(views)
        start = len(ids)
        return cls(ids, [0] * start, list(range(start)), [IGNORE] * start, [0.0] * start, *([NOTHING] * start for _ in POINTERS))

    def add_turn(self, question: list[int], reply: list[int], weights: list[float]) -> None:
        """One more branch, whose `reply` is learned."""
        branch, start = self.branches[-1] + 1, self.branches.count(0)
        turn = question + reply
        self.ids += turn
        self.branches += [branch] * len(turn)
        self.positions += range(start, start + len(turn))
        # The label of a position is the token that follows it.
        self.labels += [IGNORE] * (len(question) - 1) + reply + [IGNORE]
        self.weights += [0.0] * (len(question) - 1) + weights + [0.0]
        for name in POINTERS:
            getattr(self, name).extend([NOTHING] * len(turn))

    def _point_at_nouns(self, answer: int, nouns: list[tuple[int, int, int]], early_nouns: frozenset[int]) -> None:
        """Fills in what the last turn names and compares: its answer is said from the token `answer` on, and `nouns` has the first token and the last
        of each noun, and its index."""
        asked = [last for _, last, _ in nouns if last < answer]
        if asked:
            self.first_compared[answer:] = [asked[0]] * (len(self.ids) - answer)
        if len(asked) > 1:
            self.second_compared[answer:] = [asked[1]] * (len(self.ids) - answer)
        before, free, mentions = NOTHING, answer, {}
        for first, last, noun in nouns:
            self.named[last] = row = self.things.row(noun)
            # Alone, or as the last of an answer, it is where it belongs.
            early = last > answer and noun in early_nouns and noun not in mentions and any(other != noun for at, _, other in nouns if at > last)
            for position in range(free, first):
                self.next_named[position] = NOTHING if early else row
                self.repeated[position] = mentions.get(noun, NOTHING)
                if not asked:
                    self.first_compared[position] = before
            mentions.setdefault(noun, first)
            if last > answer:
                for position in (*range(free, first), last):
                    self.weights[position] = max(self.weights[position], NOUN_WEIGHT)
                if early:  # that more follows the noun before is learned; number, colour and noun of what comes too early are not
                    for position in range(free + (before != NOTHING), first):
                        self.weights[position] = 0.0
                # The last token of a noun is also where the word after it is chosen: a direction to the next, it may be.
                before = free = last


def collate(sequences: list[Sequence], length: int | None = None) -> dict[str, Tensor]:
    """Pads to `length` or the longest; `mask` `[B, 1, T, T]` is causal inside the picture and each branch."""
    length = length or max(len(s.ids) for s in sequences)

    def padded(name: str, value: float) -> Tensor:
        return torch.tensor([getattr(s, name) + [value] * (length - len(s.ids)) for s in sequences])

    branches = padded("branches", -1)
    key, query = branches[:, None, :], branches[:, :, None]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = causal & ((key == 0) | (key == query))
    things = {}
    if all(s.things for s in sequences):
        things = {name: torch.stack([torch.from_numpy(getattr(s.things, name)) for s in sequences]) for name in ("looks", "places")}
    return {
        **things,
        "ids": padded("ids", PAD), "positions": padded("positions", 0), "labels": padded("labels", IGNORE),
        "weights": padded("weights", 0.0), "mask": mask.unsqueeze(1),
        **{name: padded(name, NOTHING) for name in POINTERS},
    }


def splice(embeddings: Tensor, ids: Tensor, image_tokens: Tensor) -> Tensor:
    """Puts `image_tokens` `[B, N, H]` where `ids` has the token `<image>`, N times a row."""
    out = embeddings.clone()
    out[ids == IMAGE] = image_tokens.reshape(-1, image_tokens.shape[-1]).to(out.dtype)
    return out
