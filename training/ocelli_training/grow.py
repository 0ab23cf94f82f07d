"""Makes a larger model of a smaller one that says the same, so that training goes on from it (Net2Net, Chen et al. 2015, arXiv 1511.05641).

    python -m ocelli_training.grow --checkpoint RUNS/small/checkpoint.pt --out RUNS/grown --tokenizer FILE

Everything keeps its place, and what is added writes nothing yet: rows of zeros into new dimensions, columns of zeros from new heads and units. Its
inputs are small random numbers, so that it learns. The query heads of a group stay together; a group that is split has its keys and values twice,
which then learn apart. Works for a decoder and an adapter that are wider or have more heads; the encoder stays as it is.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from .chat import Chat
from .checkpoint import save
from .colours import COLOURS
from .export import load_checkpoint
from .model import Decoder, Ocelli, TextConfig
from .nouns import NOUNS, UNIT_SINGULAR
from .symbols import FIRST_NOUNS, codebook


def into(target: Tensor, source: Tensor, rows: Tensor | slice, columns: Tensor | slice | None = None) -> None:
    """Copies `source` to those rows and columns of `target`."""
    if columns is None:
        target[rows] = source
    else:
        part = target[rows]
        part[:, columns] = source
        target[rows] = part


def rows_of_heads(heads: list[int], width: int) -> Tensor:
    return torch.cat([torch.arange(width) + head * width for head in heads])


def query_heads(small: TextConfig, large: TextConfig) -> list[int]:
    """The query heads of the large model that do what those of the small one do: each group begins where its keys and values are."""
    groups = small.num_key_value_heads
    inside, large_inside = small.num_attention_heads // groups, large.num_attention_heads // groups
    return [group * large_inside + head for group in range(groups) for head in range(inside)]


@torch.no_grad()
def grow_decoder(small: Decoder, large: Decoder) -> None:
    """Fills `large` so that its logits are those of `small`, for inputs whose new dimensions are zero."""
    a, b = small.config, large.config
    if (a.num_hidden_layers, a.num_kv_reuse_layers) != (b.num_hidden_layers, b.num_kv_reuse_layers):
        raise ValueError("layers cannot be added")
    if b.num_key_value_heads % a.num_key_value_heads:
        raise ValueError("a group of heads can be split evenly alone: the number of key-value heads has to be a multiple of that before")
    if a.hidden_size // a.num_attention_heads != b.hidden_size // b.num_attention_heads:
        raise ValueError("the heads have to stay as wide as they are")
    h, width = slice(0, a.hidden_size), a.hidden_size // a.num_attention_heads
    heads = rows_of_heads(query_heads(a, b), width)
    # Rows of the small fused projection that those of keys and values of the large one repeat.
    groups, times = a.num_key_value_heads, b.num_key_value_heads // a.num_key_value_heads
    key_values = [a.num_attention_heads + part * groups + group // times for part in range(2) for group in range(groups * times)]
    copied = rows_of_heads(list(range(a.num_attention_heads)) + key_values, width)
    fused = torch.cat([heads, b.num_attention_heads * width + torch.arange(len(key_values) * width)])
    units = slice(0, a.intermediate_size)
    shrink = math.sqrt(a.hidden_size / b.hidden_size)  # the mean square is taken over more dimensions
    target = large.state_dict()
    for name, value in small.state_dict().items():
        out = target[name]
        if name.endswith(("query_norm.weight", "key_norm.weight")):
            out.copy_(value)
        elif name.endswith("norm.weight"):
            out.fill_(value.mean() * shrink)
            out[h] = value * shrink
        elif name == "embedding.weight":
            into(out.zero_(), value, slice(None), h)
        elif name.endswith("fused_linear.weight"):
            into(out, value[copied], fused, h)
        elif name.endswith("q_transform.weight"):
            into(out, value, heads, h)
        elif name.endswith("attention.output_transform.weight"):
            into(out.zero_(), value, h, heads)
        elif name.endswith("feed_forward.output_transform.weight"):
            into(out.zero_(), value, h, units)
        elif "hidden_transform" in name:
            into(out, value, units, h)
        else:
            raise ValueError(f"{name}: no rule says how it grows")


@torch.no_grad()
def grow(small: Ocelli, large: Ocelli) -> None:
    """Fills `large`, whose image tokens are then those of `small` with zeros in the new dimensions."""
    h, size = slice(0, small.config.text.hidden_size), small.config.text.hidden_size
    large.vision.load_state_dict(small.vision.state_dict())
    target = large.adapter.state_dict()
    for name, value in small.adapter.state_dict().items():
        out = target[name]
        if name in ("proj.weight", "proj.bias"):
            into(out, value, h)
        elif name == "conv.weight":  # [H, 9 * H] in the order y, x, channel
            into(out.zero_(), value, h, (torch.arange(9)[:, None] * out.shape[0] + torch.arange(size)).flatten())
        elif name == "conv.bias":
            into(out.zero_(), value, h)
        elif name == "position_embedding":
            out.zero_()[..., h] = value
        else:
            out.copy_(value)
    grow_decoder(small.decoder, large.decoder)


@torch.no_grad()
def name_more(decoder: Decoder, chat: Chat, known: int) -> None:
    """Gives the words of the nouns from `known` on an embedding like those of the nouns before.

    Image token and word of a noun share its code (`symbols.py`), so that to name what is seen is to copy it. A new word is the mean of the
    trained words of its form, without their codes, and its own code at their strength.
    """
    weight = decoder.embedding.weight
    book = codebook(len(NOUNS), weight.shape[1])
    forms: dict[tuple, list[tuple[int, int]]] = {}  # form -> noun and token of each word that has it
    for noun in NOUNS:
        for plural, text in enumerate((noun.word, noun.plural)):
            tokens = chat.encode(f" {text}")
            for place, token in enumerate(tokens):
                forms.setdefault((plural, place == 0, place == len(tokens) - 1), []).append((noun.index, token))
    taken = {token for words in forms.values() for index, token in words if index < known}
    taken |= {token for word in (*COLOURS, "of", *UNIT_SINGULAR) for token in chat.encode(f" {word}")}
    before = weight.clone()
    for words in forms.values():
        trained = [(index, token) for index, token in words if index < known]
        if not trained:
            continue
        rows, codes = before[[token for _, token in trained]], book[[index for index, _ in trained]]
        strength = (rows * codes).sum(-1, keepdim=True)
        common = (rows - strength * codes).mean(0)
        for index, token in words:
            if index >= known and token not in taken:
                weight[token] = common + strength.mean() * book[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--nouns", type=int, default=FIRST_NOUNS, help="how many the small model knows")
    args = parser.parse_args()
    large = Ocelli()
    grow(load_checkpoint(args.checkpoint), large)
    name_more(large.decoder, Chat(args.tokenizer), args.nouns)
    save(args.out, large, None, None, 0, 0.0)


if __name__ == "__main__":
    main()
