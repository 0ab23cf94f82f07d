"""Rewards that a program can check: how right a caption or an answer is by the truth of the scene, from 0 to 1.

A caption is worth what it says rightly, less what it claims wrongly. Colours and a direction or place are worth something too: where only false
ones counted, a decoder soon learned to name none. An answer is right or wrong, but for lists, which are right in parts. What has not the form of
an answer is worth 0.
"""

from __future__ import annotations

import re
from collections import Counter

from .backgrounds import PATTERNS
from .colours import COLOURS
from .evaluate import scene_truth
from .language import QUESTION_KINDS
from .metrics import place_is_true, relation_is_true
from .nouns import NOUNS, UNIT_SINGULAR
from .parsing import NUMBERS, Parsed, parse_caption
from .scenes import Scene
from .truth import DIRECTIONS, OPPOSITE, PLACES, groups, place, relation

CAPTION = "caption"
KINDS = (CAPTION, *QUESTION_KINDS)
# A caption's reward: the F1 of its objects, the share of colours that it names, a direction or a place, the colours and the pattern of the
# background; and what each fault costs.
OBJECTS, COLOUR_WORDS, WHERE, BACKGROUND_COLOURS, BACKGROUND_PATTERN, FAULT = 0.6, 0.1, 0.1, 0.1, 0.1, 0.1

_WORD = re.compile(r"[\w'-]+")
_STAMMER = re.compile(r"\b([\w'-]+)(?:,? and|,)? \1\b")
_KNOWN = {
    *COLOURS, *PATTERNS, *NUMBERS, *UNIT_SINGULAR, *UNIT_SINGULAR.values(),
    *(word for noun in NOUNS for form in (noun.word, noun.plural) for word in _WORD.findall(form.lower())),
    *"a an some of and on with there is are the to left right above below at in top bottom center background".split(),
}


def _any(words) -> str:
    return "(?:" + "|".join(sorted(map(re.escape, words), key=len, reverse=True)) + ")"


_ABSENT = r"there (?:is|are) no [\w' -]+"
# What a short answer of each kind looks like, in small letters and without its full stop; lists are parsed.
_FORMS = {
    "count": f"{_any(NUMBERS)}|{_ABSENT}",
    "total": f"{_any(NUMBERS)}|none",
    "exists": "yes|no",
    "relation": f"{_any(word.removesuffix(' of') for word in DIRECTIONS)}|{_ABSENT}",
    "place": f"(?:at|on|in) the {_any(PLACES)}|{_ABSENT}",
    "colour": f"{_any(COLOURS)}|several colours|{_ABSENT}",
    "background colour": f"{_any(COLOURS)}(?: and {_any(COLOURS)})?",
    "background pattern": _any(PATTERNS),
}
_NOTHING = f"nothing|{_ABSENT}"


def _plain(text: str) -> str:
    return text.strip().lower().removesuffix(".")


def readable(kind: str, text: str) -> bool:
    """Whether `text` has the form of an answer of this kind, right or wrong: a sentence with a stop at its end."""
    if not text.rstrip().endswith("."):
        return False
    if kind in _FORMS:
        return re.fullmatch(_FORMS[kind], _plain(text)) is not None
    claims = parse_caption(text)
    if kind == CAPTION:
        return bool(claims.objects or claims.background_colours or claims.pattern)
    return bool(claims.objects) or re.fullmatch(_NOTHING, _plain(text)) is not None


def _f1(claimed: Counter, present: Counter) -> float:
    both = claimed.total() + present.total()
    return 2 * (claimed & present).total() / both if both else 1.0


def _slips(text: str, claims: Parsed) -> int:
    """Faults that need no scene to be seen: a noun that is counted twice, a word twice in a row, a word of no caption."""
    plain = text.lower()
    repeated = sum(times - 1 for times in claims.named.values())
    return repeated + len(_STAMMER.findall(plain)) + len(set(_WORD.findall(plain)) - _KNOWN)


def _repeats(items: list) -> int:
    return len(items) - len(set(items))


def _colours(scene: Scene, claims: Parsed) -> float:
    """Of the groups that have a colour, the share that are called by it, less what is called by a colour that it has not."""
    shades = {group.noun.word: group.colour for group in groups(scene)}
    coloured = [noun for noun, word in shades.items() if word]
    right = sum(claims.colours.get(noun) == shades[noun] for noun in coloured)
    wrong = sum(noun in shades and shades[noun] != word for noun, word in claims.colours.items())
    return (right - wrong) / len(coloured) if coloured else 1.0 - wrong


def _sayable(scene: Scene) -> bool:
    """Whether some direction or place clearly holds."""
    singles = [group.single for group in groups(scene) if group.single]
    return any(map(place, singles)) or any(relation(a, b) for a in singles for b in singles if a is not b)


def _where(scene: Scene, claims: Parsed) -> tuple[float, int]:
    """1 if a direction or place is told or none can be, and how many are told that do not hold, or again."""
    truth = scene_truth(scene)
    held = [relation_is_true(truth, claim) for claim in claims.relations] + [place_is_true(truth, claim) for claim in claims.places]
    # "A above B" and "B below A" are one claim.
    pairs = [(a, word, b) if word in ("above", "to the left of") else (b, OPPOSITE[word], a) for a, word, b in claims.relations]
    wrong = held.count(False) + _repeats(pairs) + _repeats([noun for noun, _ in claims.places])
    return float(any(held) or not _sayable(scene)), wrong


def caption_reward(scene: Scene, text: str) -> float:
    """The reward of a caption; 1 if it counts every object, names colours, background, and a direction or place, and nothing that is false."""
    if not readable(CAPTION, text):
        return 0.0
    claims, background = parse_caption(text), scene.background
    silent = not background.clear  # what cannot be told from the picture need not be said
    where, faults = _where(scene, claims)
    worth = OBJECTS * _f1(claims.objects, Counter(NOUNS[thing.noun].word for thing in scene.objects))
    worth += COLOUR_WORDS * _colours(scene, claims) + WHERE * where
    if set(claims.background_colours) == set(background.colours) or (silent and not claims.background_colours):
        worth += BACKGROUND_COLOURS
    if claims.pattern == background.pattern or (silent and not claims.pattern):
        worth += BACKGROUND_PATTERN
    faults += _slips(text, claims) + max(0, text.lower().count("background") - 1)
    return max(0.0, worth - FAULT * faults)


def answer_reward(kind: str, expected: str, text: str) -> float:
    """The reward of an answer to a question of `kind`, one of `QUESTION_KINDS`, whose true answer is `expected`."""
    if not readable(kind, text):
        return 0.0
    said, wanted = _plain(text), _plain(expected)
    if kind == "background colour":
        return float(sorted(said.split(" and ")) == sorted(wanted.split(" and ")))
    if kind in _FORMS or re.fullmatch(_NOTHING, wanted) or re.fullmatch(_NOTHING, said):
        return float(said == wanted)
    claims, truth = parse_caption(text), parse_caption(expected)
    wrong = sum(noun in truth.objects and truth.colours.get(noun) != word for noun, word in claims.colours.items())
    return max(0.0, _f1(claims.objects, truth.objects) - FAULT * (wrong + _slips(text, claims)))


def reward(scene: Scene, kind: str, expected: str, text: str) -> float:
    """The reward of `text` as the caption of `scene`, or as the answer to a question about it whose true answer is `expected`."""
    return caption_reward(scene, text) if kind == CAPTION else answer_reward(kind, expected, text)
