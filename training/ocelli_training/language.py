"""Scenes in words: captions, and questions with short answers.

Phrasing varies a little, content follows rules: objects of one noun are named together, groups go from left to right, a colour word
stands where all of a group share one. `parsing.parse_caption` reads all of it back.
"""

from __future__ import annotations

import itertools

import numpy as np

from .nouns import NOUNS, Noun
from .parsing import NUMBERS, parse_caption
from .scenes import Scene, SceneObject
from .truth import DIRECTIONS, DOMINANCE, Group, groups, place, relation

__all__ = ["QUESTION_KINDS", "caption", "detailed_caption", "parse_caption", "questions"]

# Kind of question -> how often it is asked.
QUESTION_KINDS = {
    "count": 0.13, "total": 0.07, "exists": 0.15, "beside": 0.14, "relation": 0.13, "place": 0.11, "colour": 0.10,
    "background colour": 0.06, "background pattern": 0.05, "list": 0.06,
}


def article(phrase: str) -> str:
    """`phrase` with "a" or "an" before it."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith("unicorn") or phrase.startswith("hourglass")
    return f"{'an' if vowel else 'a'} {phrase}"


def noun_phrase(noun: Noun, count: int = 1, colour: str | None = None) -> str:
    """`noun` counted: "a red apple", "two pairs of blue jeans", "some popcorn"."""
    shade = f"{colour} " if colour else ""
    if noun.unit:
        what = noun.plural.split(" of ", 1)[1]
        unit = article(noun.unit) if count == 1 else f"{NUMBERS[count]} {noun.units}"
        return f"{unit} of {shade}{what}"
    if count > 1:
        return f"{NUMBERS[count]} {shade}{noun.plural}"
    return f"some {shade}{noun.word}" if noun.mass else article(f"{shade}{noun.word}")


def join(phrases: list[str]) -> str:
    """"a, b and c"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def sentence(text: str, end: str = ".") -> str:
    """`text` with a capital and a full stop."""
    return text[0].upper() + text[1:] + end


def at_place(word: str) -> str:
    """"at the top left", "on the left", "in the center"."""
    return f"{ {'left': 'on', 'right': 'on', 'center': 'in'}.get(word, 'at') } the {word}"


def describe(group: Group, with_colour: bool = True) -> str:
    """A group as a noun phrase."""
    return noun_phrase(group.noun, len(group.members), group.colour if with_colour else None)


def _background(scene: Scene, draw: float) -> str | None:
    """"a striped green and white background", sometimes with less detail; None where too little of it is seen."""
    if not scene.background.clear or draw < 0.02:
        return None
    pattern, colours = f"{scene.background.pattern} ", f"{' and '.join(scene.background.colours)} "
    if draw < 0.08:
        pattern = ""
    return article(f"{pattern}{colours}background")


def detailed_caption(scene: Scene, dominance: float = DOMINANCE) -> str:
    """All of it: each object with its colour, the background, where each single thing is, and at most two directions between neighbours
    (where one offset exceeds the other `dominance` times)."""
    found, behind = groups(scene), _background(scene, 1.0)
    if not found:
        return sentence(behind or "nothing")
    things = join([describe(group) for group in found])
    said = [sentence(f"{things} on {behind}" if behind else things)]
    singles = [group for group in found if group.single]
    said += [sentence(f"{the(group.noun)} {group.noun.verb} {at_place(spot)}") for group in singles if (spot := place(group.single))]
    pairs = [(a, word, b) for a, b in itertools.pairwise(singles) if (word := relation(a.single, b.single, dominance))]
    said += [sentence(f"{the(a.noun)} {a.noun.verb} {word} {the(b.noun)}") for a, word, b in pairs[:2]]
    return " ".join(said)


def _related(found: list[Group], dominance: float) -> tuple[Group, str, Group] | None:
    """The two things that are named first, if each is single and one direction clearly holds.

    Of no others: who has to find a clear pair among all, and begins with either, says "The" before knowing of what; what follows is a guess.
    """
    if len(found) < 2 or not (found[0].single and found[1].single):
        return None
    word = relation(found[0].single, found[1].single, dominance)
    return (found[0], word, found[1]) if word else None


def caption(scene: Scene, rng: np.random.Generator, dominance: float = DOMINANCE) -> str:
    """One caption. It names every object with its number, mostly the background, and often a direction (where one offset exceeds the other
    `dominance` times) or a place."""
    # One draw is not used any more: without it, the scenes that are measured after this caption would be others.
    background_draw, colour_draw, form, _, where = rng.random(5).tolist()
    found, behind = groups(scene), _background(scene, background_draw)
    if not found:
        return sentence(behind or "nothing")
    with_colour = colour_draw < 0.93
    things = join([describe(group, with_colour) for group in found])
    on = f" on {behind}" if behind else ""
    related = _related(found, dominance)
    alone = found[0].single if len(found) == 1 else None
    spot = place(alone) if alone else None

    if spot and form < 0.55:
        of = f" of {behind}" if behind else ""
        return sentence(f"{things} {at_place(spot)}{of}")
    if related and len(found) == 2 and form < 0.55:
        first, word, second = related
        return sentence(f"{describe(first, with_colour)} {word} {describe(second, with_colour)}{on}")
    if form > 0.93 and behind:
        return sentence(f"{behind} with {things}")
    if form > 0.86:
        verb = "is" if len(found[0].members) == 1 else "are"
        return sentence(f"there {verb} {things}{on}")
    first_sentence = sentence(f"{things}{on}")
    if related and form < 0.60:
        first, word, second = related
        return f"{first_sentence} {sentence(f'{the(first.noun)} {first.noun.verb} {word} {the(second.noun)}')}"
    placed = [(group, place(group.single)) for group in found if group.single and place(group.single)]
    if placed and len(found) > 1 and form < 0.75:
        group, spot = placed[int(where * len(placed))]
        return f"{first_sentence} {sentence(f'{the(group.noun)} {group.noun.verb} {at_place(spot)}')}"
    return first_sentence


def the(noun: Noun) -> str:
    """"the apple", "the scissors"."""
    return f"the {noun.word}"


def _absent(noun: Noun, many: bool = False) -> str:
    """The answer to a question about what is not there."""
    if noun.unit in ("pair", "bunch"):
        return f"There are no {noun.word}."
    if noun.mass or noun.unit or not many:
        return f"There is no {noun.word}."
    return f"There are no {noun.plural}."


class _Asker:
    """Makes questions about one scene; each method returns (question, answer), or None where nothing clear can be asked."""

    def __init__(self, scene: Scene, rng: np.random.Generator, half_unknown: float) -> None:
        self.scene, self.rng, self.half_unknown = scene, rng, half_unknown
        self.groups = groups(scene)
        self.singles = [group for group in self.groups if group.single]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pick(self, items: list):
        return items[int(self.rng.integers(len(items)))]

    def missing(self) -> Noun:
        """A noun that the scene does not show."""
        seen = {thing.noun for thing in self.scene.drawn}
        while True:
            index = self.pick(self.scene.library.noun_ids)
            if index not in seen:
                return NOUNS[index]

    def count(self):
        absent = not self.groups or self.chance(0.25)
        several = [group for group in self.groups if not group.single]
        group = None if absent else self.pick(several if several and self.chance(0.8) else self.groups)
        noun = group.noun if group else self.missing()
        if noun.mass:
            return None
        answer = f"{NUMBERS[len(group.members)].capitalize()}." if group else _absent(noun, many=True)
        return self.pick([f"How many {noun.plural} are there?", f"How many {noun.plural} do you see?"]), answer

    def total(self):
        question = self.pick(["How many objects are there?", "How many things are there?"])
        number = len(self.scene.objects)
        return question, f"{NUMBERS[number].capitalize()}." if number else "None."

    def exists(self):
        present = self.groups and self.chance(0.5)
        noun = self.pick(self.groups).noun if present else self.missing()
        if noun.unit in ("pair", "bunch"):
            question = self.pick([f"Are there any {noun.word}?", f"Do you see any {noun.word}?"])
        elif noun.unit or noun.mass:
            question = self.pick([f"Is there any {noun.word}?", f"Do you see any {noun.word}?"])
        else:
            question = self.pick([f"Is there {article(noun.word)}?", f"Do you see {article(noun.word)}?"])
        return question, "Yes." if present else "No."

    def beside(self):
        if not self.singles or self.chance(0.12):
            noun = self.missing()
            return f"What is {self.pick(list(DIRECTIONS))} {the(noun)}?", _absent(noun)
        group = self.pick(self.singles)
        others = [thing for thing in self.scene.objects if thing is not group.single]
        words = [relation(thing, group.single) for thing in others]
        if None in words:
            return None
        word = self.pick(words) if words and self.chance(0.75) else self.pick(list(DIRECTIONS))
        there = {id(thing) for thing, held in zip(others, words, strict=True) if held == word}
        named = [
            noun_phrase(other.noun, count, self._shared_colour(members))
            for other in self.groups
            if (members := [thing for thing in other.members if id(thing) in there]) and (count := len(members))
        ]
        return f"What is {word} {the(group.noun)}?", sentence(join(named)) if named else "Nothing."

    @staticmethod
    def _shared_colour(members: list[SceneObject]) -> str | None:
        words = {thing.colour for thing in members}
        return words.pop() if len(words) == 1 else None

    def relation(self):
        if not self.singles:
            return None
        if self.chance(self.half_unknown):
            known, unknown = self.pick(self.singles).noun, self.missing()
            first, second = (known, unknown) if self.chance(0.5) else (unknown, known)
            return self._where(first, second), _absent(unknown)
        if len(self.singles) < 2:
            return None
        i, j = self.rng.permutation(len(self.singles))[:2].tolist()
        first, second = self.singles[i], self.singles[j]
        word = relation(first.single, second.single)
        if word is None:
            return None
        return self._where(first.noun, second.noun), sentence(word.removesuffix(" of"))

    @staticmethod
    def _where(first: Noun, second: Noun) -> str:
        return f"Where {first.verb} {the(first)} relative to {the(second)}?"

    def place(self):
        if not self.singles or self.chance(0.12):
            noun = self.missing()
            return f"Where {noun.verb} {the(noun)}?", _absent(noun)
        group = self.pick(self.singles)
        spot = place(group.single)
        return (f"Where {group.noun.verb} {the(group.noun)}?", sentence(at_place(spot))) if spot else None

    def colour(self):
        absent = not self.groups or self.chance(0.12)
        group = None if absent else self.pick(self.groups)
        noun = group.noun if group else self.missing()
        if group is None or group.single:
            question = f"What {self._colour_word()} {noun.verb} {the(noun)}?"
        else:
            question = f"What {self._colour_word()} are the {noun.word if noun.unit else noun.plural}?"
        if group is None:
            return question, _absent(noun)
        if group.colour:
            return question, sentence(group.colour)
        # Seldom, or it would be the answer to guess.
        return (question, "Several colours.") if all(thing.mixed for thing in group.members) and self.chance(0.35) else None

    def _colour_word(self) -> str:
        return "colour" if self.chance(0.75) else "color"

    def background_colour(self):
        if not self.scene.background.clear:
            return None
        answer = " and ".join(self.scene.background.colours)
        return f"What {self._colour_word()} is the background?", sentence(answer)

    def background_pattern(self):
        if not self.scene.background.clear:
            return None
        return "What pattern is the background?", sentence(self.scene.background.pattern)

    def list(self):
        question = self.pick(["List the objects.", "What objects are there?"])
        return question, sentence(join([describe(group) for group in self.groups])) if self.groups else "Nothing."


def questions(
    scene: Scene, rng: np.random.Generator, n: int, shares: dict[str, float] = QUESTION_KINDS, half_unknown: float = 0.12
) -> list[tuple[str, str, str]]:
    """`n` questions about `scene`, all different: (question, answer, kind), with `kind` one of `shares`; of those about two nouns, a share
    `half_unknown` is drawn to name one that the scene does not show (more are asked, as pairs without a clear direction are drawn again)."""
    kinds, weights = tuple(shares), np.cumsum(list(shares.values()))
    asker = _Asker(scene, rng, half_unknown)
    asked: dict[str, tuple[str, str, str]] = {}
    for _ in range(20 * n):
        if len(asked) == n:
            break
        kind = kinds[int(np.searchsorted(weights, rng.random() * weights[-1]))]
        made = getattr(asker, kind.replace(" ", "_"))()
        if made is not None:
            asked.setdefault(made[0], (*made, kind))
    return list(asked.values())
