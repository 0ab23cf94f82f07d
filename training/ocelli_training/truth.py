"""What is true of a scene and can be said of it: groups of equal nouns, directions and places.

The thresholds leave a gap between one word and the next: where two people could disagree, nothing is said or asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from .nouns import NOUNS, Noun
from .scenes import Scene, SceneObject

DIRECTIONS = ("to the left of", "to the right of", "above", "below")
OPPOSITE = {"to the left of": "to the right of", "to the right of": "to the left of", "above": "below", "below": "above"}
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
DOMINANCE = 1.5  # one offset must exceed the other by this much to name a direction
_OUTER, _INNER = 0.32, 0.14  # a place's centre lies in the outer 32% of an axis, or within 14% of its middle


@dataclass(frozen=True)
class Group:
    """All objects of one noun, from left to right. `colour` is the word they share, if they do."""

    noun: Noun
    members: tuple[SceneObject, ...]

    @property
    def colour(self) -> str | None:
        words = {thing.colour for thing in self.members}
        return words.pop() if len(words) == 1 else None

    @property
    def single(self) -> SceneObject | None:
        """The one member, where there is just one."""
        return self.members[0] if len(self.members) == 1 else None


def groups(scene: Scene) -> list[Group]:
    """The scene's nouns in the order in which captions and lists name them: by the centre of the leftmost object of each."""
    found: dict[int, list[SceneObject]] = {}
    for thing in sorted(scene.objects, key=lambda thing: thing.cx + thing.named_later):
        found.setdefault(thing.noun, []).append(thing)
    return [Group(NOUNS[noun], tuple(members)) for noun, members in found.items()]


def direction(
    dx: float, dy: float, reach_x: float = 0.0, reach_y: float = 0.0, dominance: float = DOMINANCE
) -> str | None:
    """The word for an offset, or None where no direction clearly dominates.

    `reach_x`, `reach_y`: half the sum of the two sizes; centres closer than half of that stand on each other rather than beside.
    """
    if abs(dx) >= dominance * abs(dy) and abs(dx) >= max(0.04, 0.5 * reach_x):
        return "to the left of" if dx < 0 else "to the right of"
    if abs(dy) >= dominance * abs(dx) and abs(dy) >= max(0.04, 0.5 * reach_y):
        return "above" if dy < 0 else "below"
    return None


def relation(a: SceneObject, b: SceneObject, dominance: float = DOMINANCE) -> str | None:
    """Where `a` is relative to `b`, or None where no direction clearly dominates."""
    return direction(a.cx - b.cx, a.cy - b.cy, (a.w + b.w) / 2, (a.h + b.h) / 2, dominance)


def place_of(cx: float, cy: float, outer: float = _OUTER, inner: float = _INNER) -> str | None:
    """The place word of a point of the scene, or None between two places."""
    words = []
    for value, (low, high) in ((cy, ("top", "bottom")), (cx, ("left", "right"))):
        if value < outer:
            words.append(low)
        elif value > 1 - outer:
            words.append(high)
        elif abs(value - 0.5) <= inner:
            words.append("")
        else:
            return None
    return " ".join(word for word in words if word) or "center"


def place(thing: SceneObject) -> str | None:
    """The place word of an object, or None between two places."""
    return place_of(thing.cx, thing.cy)
