"""How right captions and answers are: counted against the truth of the scenes, by a program."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from .language import QUESTION_KINDS
from .parsing import parse_caption
from .truth import direction

# Claims are judged a little more generously than they are made: what is true without being the clearest case is not an error.
_CLAIM_DOMINANCE = 1.0
_CLAIM_OUTER, _CLAIM_INNER = 0.40, 0.20
_ABSENT = ("There is no", "There are no")
_NOTHING = (*_ABSENT, "Nothing")


def _words(text: str) -> list[str]:
    return "".join(char if char.isalnum() or char.isspace() else " " for char in text.lower()).split()


def _things(text: str) -> Counter:
    return parse_caption(text).objects


def answer_is_right(answer: str, truth: str, kind: str) -> bool:
    """Whether `answer` says what `truth` says. Lists may come in any order, colours of a background too."""
    if kind in ("list", "beside") and not truth.startswith(_NOTHING):
        return _things(answer) == _things(truth) and not answer.startswith(_NOTHING)
    if kind == "background colour":
        return set(_words(answer)) - {"and"} == set(_words(truth)) - {"and"}
    return _words(answer) == _words(truth)


def _centres(truth: dict, noun: str) -> list[tuple[float, float]]:
    return [(thing["cx"], thing["cy"]) for thing in truth["objects"] if thing["noun"] == noun]


def colours_of(truth: dict, noun: str) -> set[str | None]:
    """The colour words of the objects of this noun, None among them for one without; empty if there is no such object."""
    return {thing["colour"] for thing in truth["objects"] if thing["noun"] == noun}


def relation_is_true(truth: dict, claim: tuple[str, str, str]) -> bool:
    """Whether some pair of these nouns stands in this direction."""
    first, word, second = claim
    return any(
        direction(a[0] - b[0], a[1] - b[1], dominance=_CLAIM_DOMINANCE) == word
        for a in _centres(truth, first)
        for b in _centres(truth, second)
        if a != b
    )


def place_is_true(truth: dict, claim: tuple[str, str]) -> bool:
    """Whether some object of this noun is there; near the line between two places, both are true."""
    noun, word = claim

    def fits(value: float, low: str, high: str) -> bool:
        if low in word.split():
            return value < _CLAIM_OUTER
        if high in word.split():
            return value > 1 - _CLAIM_OUTER
        return abs(value - 0.5) < _CLAIM_INNER

    return any(fits(cx, "left", "right") and fits(cy, "top", "bottom") for cx, cy in _centres(truth, noun))


@dataclass
class Tally:
    """Right ones of all."""

    right: int = 0
    total: int = 0

    def add(self, right: int, total: int = 1) -> None:
        self.right += int(right)
        self.total += total


_CAPTION_MEASURES = (
    "object F1", "exact objects", "noun recall", "background colour", "background pattern", "background", "relations", "places",
    "object colours",
)
# Of n nouns, from left to right as a caption names them, how often each is named: one that counts badly misses those that are neither first nor last.
ORDER_MEASURES = tuple(f"noun {k} of {n}" for n in range(1, 5) for k in range(1, n + 1))
KIND_MEASURES = tuple(f"? {kind}" for kind in QUESTION_KINDS)
MEASURES = (*_CAPTION_MEASURES, *ORDER_MEASURES, "? all", *KIND_MEASURES, "? about what is absent")


@dataclass
class Scores:
    """The measures of one set of scenes. Each is the quotient of two sums over the scenes, which are kept apart for resampling."""

    by_scene: dict[str, dict[str, Tally]]

    @classmethod
    def of(cls, truth: list[dict]) -> Scores:
        """Of these scenes, with nothing judged yet."""
        return cls({record["path"]: defaultdict(Tally) for record in truth})

    @property
    def scenes(self) -> int:
        return len(self.by_scene)

    def add_caption(self, truth: dict, caption: str) -> None:
        """Judge the caption of one scene; an empty one for a picture without a caption."""
        tallies, claims = self.by_scene[truth["path"]], parse_caption(caption)
        objects = Counter(thing["noun"] for thing in truth["objects"])
        # Twice the objects that are there and said with their number, of those said and those there.
        tallies["object F1"].add(2 * (claims.objects & objects).total(), claims.objects.total() + objects.total())
        tallies["exact objects"].add(claims.objects == objects)
        tallies["noun recall"].add(len(claims.objects.keys() & objects.keys()), len(objects))
        in_order = list(dict.fromkeys(thing["noun"] for thing in sorted(truth["objects"], key=lambda thing: thing["cx"])))
        for number, noun in enumerate(in_order, 1):
            tallies[f"noun {number} of {len(in_order)}"].add(noun in claims.objects)
        background = truth["background"]
        colour_is_right = set(claims.background_colours) == set(background["colours"])
        pattern_is_right = claims.pattern == background["pattern"]
        tallies["background colour"].add(colour_is_right)
        tallies["background pattern"].add(pattern_is_right)
        tallies["background"].add(colour_is_right and pattern_is_right)
        for claim in claims.relations:
            tallies["relations"].add(relation_is_true(truth, claim))
        for claim in claims.places:
            tallies["places"].add(place_is_true(truth, claim))
        for noun, word in claims.colours.items():
            seen = colours_of(truth, noun)
            if seen:  # of a noun that is not there no colour is right or wrong
                tallies["object colours"].add(word in seen)

    def add_answer(self, truth: dict, question: dict, answer: str) -> None:
        """Judge one answer about a scene; `question` has `answer` and `kind`."""
        tallies = self.by_scene[truth["path"]]
        right = answer_is_right(answer, question["answer"], question["kind"])
        tallies[f"? {question['kind']}"].add(right)
        tallies["? all"].add(right)
        if question["answer"].startswith(_ABSENT):
            tallies["? about what is absent"].add(right)

    def sums(self, measures: tuple[str, ...]) -> np.ndarray:
        """Right ones and all of each measure in each scene, `[scenes, measures, 2]`."""
        empty = Tally()
        found = [[scene.get(name, empty) for name in measures] for scene in self.by_scene.values()]
        return np.array([[(tally.right, tally.total) for tally in row] for row in found], dtype=float)

    def values(self) -> list[tuple[str, float, int]]:
        """The measures that have cases: name, share, number of cases (for F1 of scenes)."""
        rows = []
        for name, (right, total) in zip(MEASURES, self.sums(MEASURES).sum(0), strict=True):
            if total:
                rows.append((name, right / total, self.scenes if name == "object F1" else int(total)))
        return rows
