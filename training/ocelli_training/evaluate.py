"""Measure a model: fresh scenes, the binary's captions and answers, and how right they are.

    python -m ocelli_training.evaluate make --artwork CACHE --mode rapid --style training --count 300 --seed 9000 --out DIR
    python -m ocelli_training.evaluate score --truth DIR --answers FILE.jsonl
    python -m ocelli_training.evaluate run --artwork CACHE --ocelli BIN [--model DIR] --out DIR

`make` writes pictures and `truth.jsonl`; `score` reads lines with `path` and `caption`, or `path`, `question` and `answer`; `run` does
everything for all modes and both styles and prints one table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np

from .artwork import TRAIN_SETS, VALIDATION_SETS
from .language import caption, questions
from .library import Library
from .metrics import Scores
from .nouns import NOUNS
from .scenes import Scene, render, sample_scene

# Mode -> side of the picture and kind of scene. What `small` shows can only be made out at 1344.
MODES = {"rapid": (224, "large"), "balanced": (672, "ordinary"), "high": (1344, "small")}
STYLES = {"training": TRAIN_SETS, "openmoji": VALIDATION_SETS}
SEED = 9000  # no training stage uses it


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


def make(cache: Path, out: Path, mode: str, style: str, count: int, seed: int, nouns: int | None, asked: int) -> list[dict]:
    """Draw `count` scenes into `out`; returns what it writes to `truth.jsonl`."""
    library = Library.load(cache, nouns=nouns, sets=STYLES[style])
    side, kind = MODES[mode]
    rng = np.random.default_rng([seed, list(MODES).index(mode), list(STYLES).index(style)])
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
    (out / "truth.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return records


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def score(truth: list[dict], answers: list[dict]) -> Scores:
    """Judge `answers` by file name. A scene without a caption counts as an empty one, unless there is no caption at all."""
    scores = Scores()
    by_name = {record["path"]: record for record in truth}
    captions = {Path(line["path"]).name: line["caption"] for line in answers if line.get("caption") is not None}
    if captions:
        for name, record in by_name.items():
            scores.add_caption(record, captions.get(name, ""))
    for line in answers:
        record = by_name.get(Path(line["path"]).name)
        if record is None or "question" not in line:
            continue
        question = next((q for q in record["questions"] if q["question"] == line["question"]), None)
        if question is not None:
            scores.add_answer(question, line.get("answer") or "")
    return scores


def _call(command: list[str]) -> str:
    """Standard output of a program, whose failures on single pictures are no reason to stop."""
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode not in (0, 1) or (done.returncode == 1 and not done.stdout.strip()):
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def ask_binary(ocelli: Path, model: Path | None, folder: Path, mode: str, truth: list[dict], asked: int) -> list[dict]:
    """The binary's captions of all scenes, and its answers to the questions about the first `asked`."""
    options = ["--mode", mode, "--quiet", *(["--model", str(model)] if model else [])]
    output = _call([str(ocelli), "caption", str(folder), "--format", "jsonl", *options])
    answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    for record in truth[:asked]:
        for question in record["questions"]:
            path = str(folder / record["path"])
            text = _call([str(ocelli), "ask", path, question["question"], *options]).strip()
            answers.append({"path": record["path"], "question": question["question"], "answer": text})
    return answers


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
        verb.add_argument("--nouns", type=int, default=None, help="only the first K nouns")
        verb.add_argument("--count", type=int, default=300)
        verb.add_argument("--seed", type=int, default=SEED)
        verb.add_argument("--questions", type=int, default=4, help="questions about each scene")
        verb.add_argument("--out", type=Path, required=True)

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
    run.add_argument("--asked", type=int, default=100, help="scenes of each set to ask questions about")
    run.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    run.add_argument("--styles", nargs="+", choices=STYLES, default=list(STYLES))
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
    else:
        columns = {}
        for mode in options.modes:
            for style in options.styles:
                folder = options.out / f"{mode}-{style}"
                truth = make(
                    options.artwork, folder, mode, style, options.count, options.seed, options.nouns, options.questions
                )
                answers = ask_binary(options.ocelli, options.model, folder, mode, truth, options.asked)
                (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers), encoding="utf-8")
                columns[f"{mode} {style}"] = score(truth, answers)
        report = table(columns)
        (options.out / "table.md").write_text(report + "\n", encoding="utf-8")
        print(report)


if __name__ == "__main__":
    main()
