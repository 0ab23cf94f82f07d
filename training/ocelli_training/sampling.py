"""Sampling many answers at once with a key-value cache: each prompt is read once, and all its answers go on from there."""

from __future__ import annotations

import torch
from torch import Tensor

from .chat import IMAGE, PAD, TURN_END, splice
from .model import Cache, Decoder

# An answer is words until the end of its turn: the other special tokens are never drawn, and their probability counts for the rest.
_SPECIAL = [token for token in range(IMAGE + 1) if token != TURN_END]


def answer_log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities `[..., vocab]` of the next token of an answer."""
    silenced = torch.zeros(logits.shape[-1], dtype=torch.bool)
    silenced[_SPECIAL] = True
    return logits.masked_fill(silenced, float("-inf")).log_softmax(-1)


def _kept(cache: Cache, rows: Tensor) -> None:
    """Reorders, repeats or drops the rows of a cache."""
    for name, (k, v) in cache.items():
        cache[name] = (k[rows], v[rows])


@torch.no_grad()
def sample(
    decoder: Decoder, prompts: list[list[int]], image_tokens: Tensor, count: int, max_new_tokens: int,
    generator: torch.Generator | None = None, greedy: bool = False,
) -> list[list[int]]:
    """`count` answers to each prompt, one prompt after the other, at temperature 1, or the likeliest tokens.

    `image_tokens` `[prompts, tokens, H]`, positions included. An answer ends in `TURN_END`, unless it was cut off at `max_new_tokens`.
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    ids = torch.tensor([prompt + [PAD] * (longest - len(prompt)) for prompt in prompts])
    places = torch.arange(longest)
    seen = places < lengths[:, None]  # which keys are tokens and not padding
    cache: Cache = {}
    mask = torch.ones(longest, longest, dtype=torch.bool).tril() & seen[:, None, :]
    embeddings = splice(decoder.embedding.lookup(ids), ids, image_tokens)
    hidden = decoder(embeddings, places.expand(len(prompts), -1), mask.unsqueeze(1), cache)

    rows = torch.arange(len(prompts)).repeat_interleave(count)
    _kept(cache, rows)
    last, positions, seen = hidden[rows, lengths[rows] - 1], lengths[rows], seen[rows]
    replies: list[list[int]] = [[] for _ in rows]
    open_replies = list(replies)
    for step in range(max_new_tokens):
        log_probs = answer_log_probs(decoder.logits(last))
        tokens = log_probs.argmax(-1) if greedy else torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
        for reply, token in zip(open_replies, tokens.tolist(), strict=True):
            reply.append(token)
        going = (tokens != TURN_END).nonzero()[:, 0]
        if len(going) == 0 or step + 1 == max_new_tokens:
            break
        if len(going) < len(tokens):
            _kept(cache, going)
            tokens, positions, seen = tokens[going], positions[going], seen[going]
            open_replies = [open_replies[index] for index in going.tolist()]
        seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.bool)], dim=1)
        states = decoder(decoder.embedding.lookup(tokens[:, None]), positions[:, None], seen[:, None, None, :], cache)
        last, positions = states[:, 0], positions + 1
    return replies
