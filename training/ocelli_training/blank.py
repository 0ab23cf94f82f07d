"""A library without artwork: one blank sprite per noun, for what needs words but no pixels (the tokenizer, tests of the language)."""

from __future__ import annotations

import functools

from .artwork import HUE_STEPS
from .colours import COLOURS
from .library import Library, Sprite
from .nouns import NOUNS


class _BlankLibrary(Library):
    def __init__(self, nouns: int | None = None) -> None:  # nothing to read: the parent's is not called on purpose
        chosen = NOUNS[:nouns]
        self.sprites = {}
        for noun in chosen:
            # Colours by turns, so that every word is met; a third of the sprites have none that dominates.
            words = tuple(COLOURS[(noun.index + step) % len(COLOURS)] for step in range(HUE_STEPS + 1))
            shares = ((0.9, 0.9, 0.3)[noun.index % 3],) * (HUE_STEPS + 1)
            self.sprites[noun.index] = Sprite(
                noun.index, noun.index, "blank", noun.artwork[0], 1.0, words, shares, shares, ()
            )
        self.of_noun = {id: [sprite] for id, sprite in self.sprites.items()}
        self.lined_of = {}
        self.noun_ids = sorted(self.of_noun)
        self.nouns = [noun.word for noun in chosen]
        self.plurals = [noun.plural for noun in chosen]

    def __reduce__(self) -> tuple:
        return blank_library, (len(self.nouns),)


@functools.cache
def blank_library(nouns: int | None = None) -> Library:
    """A library of the first `nouns` nouns that can be sampled and spoken of, but not drawn."""
    return _BlankLibrary(nouns)
