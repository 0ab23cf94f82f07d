"""Which nouns a model takes for which, and which ones it misses, as Markdown.

Where a caption says nouns that are not there and leaves out some that are, they are matched in the order from left to right, which is the
order of captions. What is left over on one side was invented or left out, and is no confusion; nor is a noun that the scene shows as well
and that is said once more in place of another.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .parsing import parse_caption

_COMMONEST = 20
_SEEN_OFTEN_ENOUGH = 3  # of the recall of a noun that was shown once, nothing can be said


@dataclass
class Confusions:
    """Counts of nouns over the captions of many scenes."""

    pairs: Counter = field(default_factory=Counter)  # (said, shown)
    repeated: int = 0  # nouns of the scene that were said once more in place of another
    shown: Counter = field(default_factory=Counter)
    found: Counter = field(default_factory=Counter)

    def add(self, truth: dict, caption: str) -> None:
        """Count one scene."""
        objects = Counter(thing["noun"] for thing in sorted(truth["objects"], key=lambda thing: thing["cx"]))
        said = parse_caption(caption).objects
        self.shown += objects
        self.found += objects & said
        wrong, missed = (said - objects).elements(), (objects - said).elements()
        for pair in zip(wrong, missed, strict=False):
            if pair[0] in objects:
                self.repeated += 1
            else:
                self.pairs[pair] += 1

    def markdown(self) -> str:
        """The commonest confusions, and the nouns that are found least often."""
        lines = ["| said | for | times | of objects shown |", "| --- | --- | ---: | ---: |"]
        common = [(pair, times) for pair, times in self.pairs.most_common(_COMMONEST) if times > 1]
        lines += [f"| {said} | {noun} | {times} | {self.shown[noun]} |" for (said, noun), times in common]
        once = sum(times == 1 for times in self.pairs.values())
        lines += ["", f"Confusions that happened once: {once}. A noun said once more in place of another: {self.repeated}."]
        recalls = [(self.found[noun] / times, -times, noun) for noun, times in self.shown.items() if times >= _SEEN_OFTEN_ENOUGH]
        lines += ["", "| noun | recall | objects shown |", "| --- | ---: | ---: |"]
        lines += [f"| {noun} | {recall:.2f} | {-times} |" for recall, times, noun in sorted(recalls)[:_COMMONEST]]
        return "\n".join(lines)
