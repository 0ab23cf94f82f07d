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


class _Word(str):
    """A word that knows where in the text it begins."""

    at: int

    @property
    def end(self) -> int:
        return self.at + len(self)


def _words(line: str, at: int) -> list[_Word]:
    """The words and commas of `line`, which begins at `at`."""
    words = []
    for match in re.finditer(r"[\w'-]+|,", line):
        words.append(_Word(match[0]))
        words[-1].at = at + match.start()
    return words


@dataclass(frozen=True)
class Claim:
    """One thing that is said, and the letters that say it.

    `kind` and `value`: object (noun, number), again (noun: "the cat"), colour (noun, word), background colour (word), background pattern
    (word), relation (noun, direction, noun) or place (noun, place).
    """

    kind: str
    value: tuple | str
    start: int
    end: int


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
    claims: list[Claim] = field(default_factory=list)  # all of that again, and where it stands

    def claim(self, kind: str, value: tuple | str, words: list[_Word]) -> None:
        """Note that `words` say this."""
        self.claims.append(Claim(kind, value, words[0].at, words[-1].end))


@dataclass(frozen=True)
class _Mention:
    """A noun in a sentence: words `start` to `end`, its article or number included."""

    noun: str
    count: int
    colour: _Word | None
    definite: bool  # "the cat" speaks of a cat that has been counted before
    start: int
    end: int


def _match_noun(words: list[_Word], start: int) -> int:
    """How many words from `start` are the longest noun there; 0 for none."""
    for length in range(min(_LONGEST, len(words) - start), 0, -1):
        if tuple(words[start : start + length]) in _LEXICON:
            return length
    return 0


def _mentions(words: list[_Word]) -> list[_Mention]:
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


def _take_background(words: list[_Word], parsed: Parsed) -> list[_Word]:
    """`words` with the phrase that ends in "background" cut out and noted in `parsed`."""
    if "background" not in words:
        return words
    end = start = words.index("background")
    while start > 0 and words[start - 1] in (*COLOURS, *PATTERNS, "and"):
        start -= 1
    phrase = words[start:end]
    parsed.background_colours = parsed.background_colours or tuple(dict.fromkeys(word for word in phrase if word in COLOURS))
    parsed.pattern = parsed.pattern or next((word for word in phrase if word in PATTERNS), None)
    for word in phrase:
        if word != "and":
            parsed.claim("background colour" if word in COLOURS else "background pattern", str(word), [word])
    if start > 0 and words[start - 1] in ("a", "an", "the"):
        start -= 1
    return words[:start] + [_Word("|")] + words[end + 1 :]


def _place_after(words: list[_Word]) -> tuple[str, int] | None:
    """The place that `words` begin with, and how many of them say it: "is at the top left"."""
    text = " ".join(words)
    match = re.match(r"(?:(?:is|are) )?(?:at|on|in) the (top left|top right|bottom left|bottom right|top|bottom|left|right|center)\b", text)
    return (_PLACES[match[1]], len(match[0].split())) if match else None


def parse_caption(text: str) -> Parsed:
    """What `text` claims about a scene."""
    parsed = Parsed()
    for line in re.finditer(r"[^.!?\n]+", text.lower()):
        words = _take_background(_words(line[0], line.start()), parsed)
        mentions = _mentions(words)
        for mention, following in zip(mentions, [*mentions[1:], None], strict=False):
            said = words[mention.start : mention.end]
            if mention.definite:
                parsed.claim("again", mention.noun, said)
            else:
                parsed.objects[mention.noun] += mention.count
                parsed.named[mention.noun] += 1
                parsed.claim("object", (mention.noun, mention.count), said)
                if mention.colour:
                    parsed.colours[mention.noun] = str(mention.colour)
                    parsed.claim("colour", (mention.noun, str(mention.colour)), [mention.colour])
            between = words[mention.end : following.start if following else len(words)]
            link = [word for word in between if word not in ("is", "are")]
            if following and " ".join(link) in _DIRECTIONS:
                parsed.relations.append((mention.noun, " ".join(link), following.noun))
                parsed.claim("relation", parsed.relations[-1], link)
            spot = _place_after(between)
            if spot:
                parsed.places.append((mention.noun, spot[0]))
                parsed.claim("place", parsed.places[-1], between[: spot[1]])
    return parsed
