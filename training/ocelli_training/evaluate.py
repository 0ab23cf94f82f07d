"""Measure a model: fresh scenes, the binary's captions and answers, and how right they are.

    python -m ocelli_training.evaluate run --artwork CACHE --ocelli BIN [--model DIR] [--against DIR] [--details] --out DIR
    python -m ocelli_training.evaluate confusions --out DIR
    python -m ocelli_training.evaluate make --artwork CACHE --mode rapid --style training --count 300 --seed 9000 --out DIR
    python -m ocelli_training.evaluate score --truth DIR --answers FILE.jsonl

`run` does everything for all modes and both styles, and prints the goals and whether they are reached; `confusions` reads what it left in
DIR. `make` writes pictures and `truth.jsonl`; `score` reads lines with `path` and `caption`, or `path`, `question` and `answer`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np

from .answers import Binary
from .artwork import TRAIN_SETS, VALIDATION_SETS
from .confusions import Confusions
from .goals import STYLE_NAMES, Column, goals_table
from .language import caption, questions
from .library import Library
from .metrics import Scores
from .nouns import NOUNS
from .scenes import Scene, render, sample_scene

# Mode -> side of the picture and kind of scene. What `small` shows can only be made out at 1344.
MODES = {"rapid": (224, "large"), "balanced": (672, "ordinary"), "high": (1344, "small")}
STYLES = {"training": TRAIN_SETS, "openmoji": VALIDATION_SETS}
# The mode whose scenes are asked about for the goals, all of them; others only for the details.
ASKED_MODE = "balanced"
SEED = 9000
# Training draws from seeds of three numbers. A number that is left out counts as zero, so that a last one that is not keeps these scenes apart.
HELD_OUT = 1


def scene_truth(scene: Scene) -> dict:
    """The scene as JSON, apart from its words."""
    return {
        "objects": [
            {"noun": NOUNS[thing.noun].word, "colour": thing.colour}
            | {name: round(getattr(thing, name), 4) for name in ("cx", "cy", "w", "h")}
            for thing in scene.objects
        ],
        "background": {"pattern": scene.background.pattern, "colours": list(scene.background.colours)},
    }


def make(cache: Path, out: Path, mode: str, style: str, count: int, seed: int, nouns: int, asked: int) -> list[dict]:
    """Draw `count` scenes into `out`; returns what it writes to `truth.jsonl`."""
    library = Library.load(cache, nouns=nouns, sets=STYLES[style])
    side, kind = MODES[mode]
    rng = np.random.default_rng([seed, list(MODES).index(mode), list(STYLES).index(style), HELD_OUT])
    out.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        scene = sample_scene(rng, library, kind)
        path = f"{number:05}.png"
        if not cv2.imwrite(str(out / path), cv2.cvtColor(render(scene, side), cv2.COLOR_RGB2BGR)):
            raise OSError(f"cannot write {out / path}")
        record = {"path": path, "mode": mode, "style": style, **scene_truth(scene), "caption": caption(scene, rng)}
        record["questions"] = [{"question": q, "answer": a, "kind": k} for q, a, k in questions(scene, rng, asked)]
        records.append(record)
    write_lines(out / "truth.jsonl", records)
    return records


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_lines(path: Path, records: list[dict]) -> None:
    """The inverse of `read_lines`."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def captions_by_name(answers: list[dict]) -> dict[str, str]:
    """File name -> caption."""
    return {Path(line["path"]).name: line["caption"] for line in answers if line.get("caption") is not None}


def score(truth: list[dict], answers: list[dict]) -> Scores:
    """Judge `answers` by file name. A scene without a caption counts as an empty one, unless there is no caption at all."""
    scores = Scores.of(truth)
    by_name = {record["path"]: record for record in truth}
    captions = captions_by_name(answers)
    if captions:
        for name, record in by_name.items():
            scores.add_caption(record, captions.get(name, ""))
    for line in answers:
        record = by_name.get(Path(line["path"]).name)
        if record is None or "question" not in line:
            continue
        question = next((q for q in record["questions"] if q["question"] == line["question"]), None)
        if question is not None:
            scores.add_answer(record, question, line.get("answer") or "")
    return scores


def answers_file(out: Path, mode: str, style: str, described_in: str, label: str = "model") -> Path:
    """Where `run` leaves what a model says about the scenes of `mode`. `label`: model, or against."""
    return out / f"{mode}-{style}" / f"{label}-{described_in}.jsonl"


def measure(binary: Binary, out: Path, truths: dict[tuple[str, str], list[dict]], asked: int, label: str) -> dict[Column, Scores]:
    """Let the binary describe all scenes and ask about them; scenes of the high mode are described in rapid mode as well."""
    columns = {}
    for (mode, style), truth in truths.items():
        for described_in in dict.fromkeys((mode, "rapid" if mode == "high" else mode)):
            folder = out / f"{mode}-{style}"
            answers = binary.captions(folder, described_in)
            if described_in == mode:
                answers += binary.answers(folder, mode, truth if mode == ASKED_MODE else truth[:asked])
            write_lines(answers_file(out, mode, style, described_in, label), answers)
            columns[Column(mode, style, described_in)] = score(truth, answers)
    return columns


def run(options: argparse.Namespace) -> str:
    """Everything: scenes, answers and tables."""
    truths = {
        (mode, style): make(
            options.artwork, options.out / f"{mode}-{style}", mode, style, options.count, options.seed, options.nouns, options.questions
        )
        for mode in options.modes
        for style in options.styles
    }
    asked = options.asked if options.details else 0
    binary = Binary(options.ocelli, options.model, options.out / "cache")
    columns = measure(binary, options.out, truths, asked, "model")
    against = None
    if options.against:
        against = measure(Binary(options.ocelli, options.against, options.out / "cache"), options.out, truths, 0, "against")
    header = f"{options.count} fresh scenes a row, {options.nouns} nouns, seed {options.seed}; in brackets: 95% intervals (bootstrap over scenes)."
    parts = [header, goals_table(columns, against)]
    if options.details:
        shown = {_title(column): scores for column, scores in columns.items()}
        shown |= {f"{_title(column)}, 32 bits": scores for column, scores in (against or {}).items()}
        parts.append(table(shown))
        parts.append(confusions(options.out, options.modes, options.styles))
    report = "\n\n".join(parts)
    (options.out / "table.md").write_text(report + "\n", encoding="utf-8")
    return report


def _title(column: Column) -> str:
    return f"{column.scenes} {column.style}" + ("" if column.mode == column.scenes else f", seen in {column.mode}")


def confusions(out: Path, modes: list[str], styles: list[str]) -> str:
    """What `run` left in `out`: the commonest confusions of nouns, those of all modes together."""
    parts = []
    for style in styles:
        found = Confusions()
        for mode in modes:
            captions = captions_by_name(read_lines(answers_file(out, mode, style, mode)))
            for record in read_lines(out / f"{mode}-{style}" / "truth.jsonl"):
                found.add(record, captions.get(record["path"], ""))
        parts.append(f"Nouns, {STYLE_NAMES[style]}: {', '.join(modes)}\n\n{found.markdown()}")
    return "\n\n".join(parts)


def table(columns: dict[str, Scores]) -> str:
    """Measures down, sets of scenes across; the number of cases in brackets where it is not that of the scenes."""
    names = list(dict.fromkeys(name for scores in columns.values() for name, _, _ in scores.values()))
    lines = ["| measure | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in names:
        cells = []
        for scores in columns.values():
            share, total = {row[0]: row[1:] for row in scores.values()}.get(name, (float("nan"), 0))
            cells.append(f"{share:.3f}" + ("" if total == scores.scenes else f" ({total})") if total else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    artwork = os.environ.get("OCELLI_ARTWORK")

    def scenes(verb: argparse.ArgumentParser) -> None:
        verb.add_argument("--artwork", type=Path, default=artwork, required=artwork is None, help="sprite cache [OCELLI_ARTWORK]")
        verb.add_argument("--nouns", type=int, default=len(NOUNS), help="only the first K nouns [all %(default)s]")
        verb.add_argument("--count", type=int, default=300)
        verb.add_argument("--seed", type=int, default=SEED)
        verb.add_argument("--questions", type=int, default=4, help="questions about each scene")
        verb.add_argument("--out", type=Path, required=True)

    def chosen(verb: argparse.ArgumentParser, flag: str, of: dict) -> None:
        verb.add_argument(flag, nargs="+", choices=of, default=list(of))

    made = verbs.add_parser("make", help="draw scenes and write their truth")
    scenes(made)
    made.add_argument("--mode", choices=MODES, required=True)
    made.add_argument("--style", choices=STYLES, required=True)
    scored = verbs.add_parser("score", help="judge captions and answers")
    scored.add_argument("--truth", type=Path, required=True, help="folder that `make` wrote")
    scored.add_argument("--answers", type=Path, required=True)
    scored.add_argument("--json", action="store_true", help="print JSON instead of a table")
    run = verbs.add_parser("run", help="all modes and styles, by the binary")
    scenes(run)
    run.add_argument("--ocelli", type=Path, required=True, help="the binary")
    run.add_argument("--model", type=Path, default=None, help="model directory [the bundled model]")
    run.add_argument("--against", type=Path, default=None, help="the same model at 32 bits, to say what packing costs")
    run.add_argument("--details", action="store_true", help="also print every measure, and which nouns are confused")
    run.add_argument(
        "--asked", type=int, default=100, help=f"scenes to ask questions about for the details; of {ASKED_MODE} mode all are asked"
    )
    chosen(run, "--modes", MODES)
    chosen(run, "--styles", STYLES)
    confused = verbs.add_parser("confusions", help="which nouns were taken for which in a `run`")
    confused.add_argument("--out", type=Path, required=True, help="folder of that run")
    chosen(confused, "--modes", MODES)
    chosen(confused, "--styles", STYLES)
    return parser


def main() -> None:
    options = _parser().parse_args()
    if options.verb == "make":
        make(
            options.artwork, options.out, options.mode, options.style, options.count, options.seed, options.nouns, options.questions
        )
    elif options.verb == "score":
        scores = score(read_lines(options.truth / "truth.jsonl"), read_lines(options.answers))
        if options.json:
            print(json.dumps({name: {"share": share, "cases": cases} for name, share, cases in scores.values()}, indent=1))
        else:
            print(table({options.truth.name: scores}))
    elif options.verb == "confusions":
        print(confusions(options.out, options.modes, options.styles))
    else:
        print(run(options))


if __name__ == "__main__":
    main()
