"""How right captions and answers are: counted against the truth of the scenes, by a program."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

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

    @property
    def share(self) -> float:
        return self.right / self.total if self.total else float("nan")


@dataclass
class Scores:
    """The measures of one set of scenes; `values` lists them as (name, share, number of cases)."""

    scenes: int = 0
    found: int = 0  # objects claimed that are there, with their number
    claimed: int = 0
    present: int = 0
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    @property
    def object_f1(self) -> float:
        return 2 * self.found / max(1, self.claimed + self.present)

    def add_caption(self, truth: dict, caption: str) -> None:
        """Judge the caption of one scene; an empty one for a picture without a caption."""
        claims = parse_caption(caption)
        objects = Counter(thing["noun"] for thing in truth["objects"])
        self.scenes += 1
        self.found += (claims.objects & objects).total()
        self.claimed += claims.objects.total()
        self.present += objects.total()
        self.tallies["exact objects"].add(claims.objects == objects)
        self.tallies["noun recall"].add(len(claims.objects.keys() & objects.keys()), len(objects))
        background = truth["background"]
        self.tallies["background colour"].add(set(claims.background_colours) == set(background["colours"]))
        self.tallies["background pattern"].add(claims.pattern == background["pattern"])
        for claim in claims.relations:
            self.tallies["relations"].add(relation_is_true(truth, claim))
        for claim in claims.places:
            self.tallies["places"].add(place_is_true(truth, claim))
        for noun, word in claims.colours.items():
            seen = {thing["colour"] for thing in truth["objects"] if thing["noun"] == noun}
            if seen:  # of a noun that is not there no colour is right or wrong
                self.tallies["object colours"].add(word in seen)

    def add_answer(self, question: dict, answer: str) -> None:
        """Judge one answer; `question` has `answer` and `kind`."""
        right = answer_is_right(answer, question["answer"], question["kind"])
        self.tallies[f"? {question['kind']}"].add(right)
        self.tallies["? all"].add(right)
        if question["answer"].startswith(_ABSENT):
            self.tallies["? about what is absent"].add(right)

    def values(self) -> list[tuple[str, float, int]]:
        names = ("exact objects", "noun recall", "background colour", "background pattern", "relations", "places", "object colours")
        asked = ("? all", *(f"? {kind}" for kind in QUESTION_KINDS), "? about what is absent")
        rows = [("object F1", self.object_f1, self.scenes)] if self.scenes else []
        return rows + [(name, tally.share, tally.total) for name in (*names, *asked) if (tally := self.tallies.get(name))]
