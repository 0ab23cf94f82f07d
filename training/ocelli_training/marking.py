"""Where a caption is wrong, letter by letter, and what it leaves out: for people who look at it beside the picture."""

from __future__ import annotations

from collections import Counter

from .metrics import colours_of, place_is_true, relation_is_true
from .parsing import Claim, parse_caption


def wrong_spans(truth: dict, caption: str) -> list[tuple[int, int]]:
    """Start and end of each claim of `caption` that is not true of the scene.

    The rules are those of `metrics`, but for the colour of an object that no one colour dominates: there a word is not marked.
    """
    present = Counter(thing["noun"] for thing in truth["objects"])
    claims = parse_caption(caption).claims
    said, last = Counter(), {claim.value[0]: claim for claim in claims if claim.kind == "object"}
    wrong = []
    for claim in claims:
        if claim.kind == "object":
            noun, count = claim.value
            said[noun] += count
            # Too many from here on, or with the last mention still too few.
            right = said[noun] == present[noun] or said[noun] < present[noun] and claim is not last[noun]
        else:
            right = _is_true(truth, present, claim)
        if not right:
            wrong.append((claim.start, claim.end))
    return wrong


def _is_true(truth: dict, present: Counter, claim: Claim) -> bool:
    if claim.kind == "again":
        return claim.value in present
    if claim.kind == "colour":
        clear = colours_of(truth, claim.value[0]) - {None}
        return not clear or claim.value[1] in clear
    if claim.kind == "relation":
        return relation_is_true(truth, claim.value)
    if claim.kind == "place":
        return place_is_true(truth, claim.value)
    if claim.kind == "background colour":
        return claim.value in truth["background"]["colours"]
    return claim.value == truth["background"]["pattern"]


def left_out(truth: dict, caption: str) -> list[str]:
    """The nouns, background colours and background pattern that `caption` never names."""
    claims, background = parse_caption(caption), truth["background"]
    nouns = dict.fromkeys(thing["noun"] for thing in truth["objects"] if thing["noun"] not in claims.objects)
    colours = [colour for colour in background["colours"] if colour not in claims.background_colours]
    return [*nouns, *colours, *([background["pattern"]] if claims.pattern is None else [])]
