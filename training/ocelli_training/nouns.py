"""The nouns of the bundled model, and the grammar each one needs.

`nouns.tsv` holds noun, plural and artwork names. Its row number is the noun's index everywhere in the tool-kit, whatever
number K of nouns a training run uses, so that labels of different runs can be compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NOUNS_FILE = Path(__file__).resolve().parent.parent / "nouns.tsv"

# Drawn as one thing, but English counts them by a unit: "a pair of scissors", "two bunches of grapes".
UNIT_SINGULAR = {"pairs": "pair", "bunches": "bunch", "pieces": "piece", "loaves": "loaf"}
# Without a unit and without a plural of their own: "some popcorn".
MASS_NOUNS = {"popcorn", "broccoli"}

# Things people paint in any colour. Living things and food keep the colours they are drawn in.
MAN_MADE = set(
    """train;book;police car;balloon;diamond;saw;ladder;lipstick;box;helicopter;guitar;sneaker;pill;wrench;basket;truck;handbag;key;
    bus;dress;toilet;alarm clock;axe;television;baby bottle;teapot;hat;tennis racket;laptop;palette;paperclip;phone;briefcase;
    gift;skateboard;airplane;shopping cart;candle;drum;heart;bell;magnet;spoon;tractor;scissors;sailboat;pencil;house;flying saucer;
    umbrella;backpack;hourglass;castle;taxi;puzzle piece;racing car;kite;gear;jeans;microscope;anchor;megaphone;headphones;
    bucket;car;shirt;fire truck;accordion;violin;parachute;bicycle;radio;toothbrush;game controller;couch;sunglasses;floppy disk;
    boxing glove;ring;battery;suitcase;envelope;rocket;watch;camera;printer;shield;motorcycle;bathtub;magnifying glass;screwdriver;
    top hat;flashlight;pushpin;star;microphone;boot;crown;mirror;padlock;tie;door;speedboat;broom;scooter;light bulb;scarf;tent;
    sword;ambulance;cupcake;lollipop;candy;telescope;trumpet;saxophone;hammer""".replace("\n", "").replace("    ", "").split(";")
)


@dataclass(frozen=True)
class Noun:
    """One row of `nouns.tsv`; `artwork` are the Unicode short names whose drawings show it."""

    index: int
    word: str
    plural: str
    artwork: tuple[str, ...]

    @property
    def unit(self) -> str | None:
        """`pair` of "a pair of scissors", or None for a noun that is counted directly."""
        match = re.fullmatch(r"(\w+) of .+", self.plural)
        return UNIT_SINGULAR[match[1]] if match else None

    @property
    def units(self) -> str | None:
        """The plural of `unit`."""
        return self.plural.split(" of ")[0] if self.unit else None

    @property
    def verb(self) -> str:
        """`is` or `are`, for "the apple is", "the scissors are"."""
        return "are" if self.unit in ("pair", "bunch") else "is"

    @property
    def mass(self) -> bool:
        """Whether it takes "some" instead of "a"."""
        return self.word in MASS_NOUNS

    @property
    def man_made(self) -> bool:
        """Whether a drawing of it may be recoloured."""
        return self.word in MAN_MADE


def load_nouns(path: Path = NOUNS_FILE) -> list[Noun]:
    """All nouns of `path`, in its order."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    return [Noun(i, word, plural, tuple(artwork.split())) for i, (word, plural, artwork) in enumerate(rows)]


NOUNS = load_nouns()
NOUN_INDEX = {noun.word: noun.index for noun in NOUNS}
