"""Greedy decoding with the whole sequence recomputed at each step: slow, short, and the reference of the Rust decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from .chat import TURN_END, Chat, splice
from .model import Ocelli


@torch.no_grad()
def answer(model: Ocelli, chat: Chat, image_tokens: Tensor, prompt: str, max_new_tokens: int = 96) -> str:
    """`image_tokens` `[views, tokens, H]`, positions included."""
    views, count, hidden = image_tokens.shape
    ids = chat.prefix([count] * views) + chat.question(prompt)
    reply: list[int] = []
    while len(reply) < max_new_tokens:
        row = torch.tensor([ids + reply])
        embeddings = splice(model.decoder.embedding.lookup(row), row, image_tokens.reshape(1, -1, hidden))
        states = model.decoder(embeddings, torch.arange(row.shape[1])[None], None)
        token = int(model.decoder.logits(states[:, -1]).argmax())
        if token == TURN_END:
            break
        reply.append(token)
    return chat.decode(reply)
