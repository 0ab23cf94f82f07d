"""Captions -> what they claim. Reads everything `language` writes, and whatever sense a half-trained model makes.

Nothing here raises on odd text: what is not understood claims nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from .backgrounds import PATTERNS
from .colours import COLOURS
from .nouns import NOUNS, UNIT_SINGULAR

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_COUNTS = {word: value for value, word in enumerate(NUMBERS)} | {"a": 1, "an": 1, "some": 1}
_UNITS = set(UNIT_SINGULAR) | set(UNIT_SINGULAR.values())
_DIRECTIONS = ("to the left of", "to the right of", "above", "below")
_PLACES = {
    "top left": "top left", "top right": "top right", "bottom left": "bottom left", "bottom right": "bottom right", "top": "top",
    "bottom": "bottom", "left": "left", "right": "right", "center": "center",
}

_LEXICON: dict[tuple[str, ...], str] = {}
for _noun in NOUNS:
    for _form in (_noun.word, _noun.plural.split(" of ", 1)[-1]):
        _LEXICON[tuple(_form.split())] = _noun.word
_LONGEST = max(map(len, _LEXICON))


@dataclass
class Parsed:
    """What a caption claims. `background_colours` is empty and `pattern` None where it says nothing of them."""

    objects: Counter = field(default_factory=Counter)  # noun -> number
    named: Counter = field(default_factory=Counter)  # noun -> how often it is counted: once, unless the caption repeats itself
    colours: dict[str, str] = field(default_factory=dict)  # noun -> colour word
    background_colours: tuple[str, ...] = ()
    pattern: str | None = None
    relations: list[tuple[str, str, str]] = field(default_factory=list)  # (noun, direction, noun)
    places: list[tuple[str, str]] = field(default_factory=list)  # (noun, place)


@dataclass(frozen=True)
class _Mention:
    """A noun in a sentence: words `start` to `end`, its article or number included."""

    noun: str
    count: int
    colour: str | None
    definite: bool  # "the cat" speaks of a cat that has been counted before
    start: int
    end: int


def _match_noun(words: list[str], start: int) -> int:
    """How many words from `start` are the longest noun there; 0 for none."""
    for length in range(min(_LONGEST, len(words) - start), 0, -1):
        if tuple(words[start : start + length]) in _LEXICON:
            return length
    return 0


def _mentions(words: list[str]) -> list[_Mention]:
    """All nouns in `words`, each with the number, unit and colour before it."""
    found, position = [], 0
    while position < len(words):
        length = _match_noun(words, position)
        if not length:
            position += 1
            continue
        noun, end = _LEXICON[tuple(words[position : position + length])], position + length
        start, colour, count, definite = position, None, 1, False
        floor = found[-1].end if found else 0
        while start > floor:
            word = words[start - 1]
            if word in COLOURS and colour is None:
                colour = word
            elif word == "of" and start - 2 >= floor and words[start - 2] in _UNITS:
                start -= 1  # the unit goes with it
            elif word in _COUNTS or word == "the":
                count, definite = _COUNTS.get(word, 1), word == "the"
                start -= 1
                break
            else:
                break
            start -= 1
        found.append(_Mention(noun, count, colour, definite, start, end))
        position = end
    return found


def _take_background(words: list[str], parsed: Parsed) -> list[str]:
    """`words` with the phrase that ends in "background" cut out and noted in `parsed`."""
    if "background" not in words:
        return words
    end = start = words.index("background")
    while start > 0 and words[start - 1] in (*COLOURS, *PATTERNS, "and"):
        start -= 1
    phrase = words[start:end]
    parsed.background_colours = parsed.background_colours or tuple(dict.fromkeys(word for word in phrase if word in COLOURS))
    parsed.pattern = parsed.pattern or next((word for word in phrase if word in PATTERNS), None)
    if start > 0 and words[start - 1] in ("a", "an", "the"):
        start -= 1
    return words[:start] + ["|"] + words[end + 1 :]


def _place_after(words: list[str]) -> str | None:
    """The place that `words` begin with: "is at the top left"."""
    text = " ".join(words)
    match = re.match(r"(?:(?:is|are) )?(?:at|on|in) the (top left|top right|bottom left|bottom right|top|bottom|left|right|center)\b", text)
    return _PLACES[match[1]] if match else None


def parse_caption(text: str) -> Parsed:
    """What `text` claims about a scene."""
    parsed = Parsed()
    for line in re.split(r"[.!?\n]+", text.lower()):
        words = _take_background(re.findall(r"[\w'-]+|,", line), parsed)
        mentions = _mentions(words)
        for mention, following in zip(mentions, [*mentions[1:], None], strict=False):
            if not mention.definite:
                parsed.objects[mention.noun] += mention.count
                parsed.named[mention.noun] += 1
                if mention.colour:
                    parsed.colours[mention.noun] = mention.colour
            between = words[mention.end : following.start if following else len(words)]
            link = " ".join(word for word in between if word not in ("is", "are"))
            if following and link in _DIRECTIONS:
                parsed.relations.append((mention.noun, link, following.noun))
            spot = _place_after(between)
            if spot:
                parsed.places.append((mention.noun, spot))
    return parsed
