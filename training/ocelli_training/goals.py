"""The goals for the bundled model as one table: each measure with its 95% interval, its goal, and whether it is reached.

Intervals are of a percentile bootstrap: scenes are drawn again with replacement, captions and questions of a scene together. Two models, or
two modes, on the same scenes are compared on the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .metrics import KIND_MEASURES, Scores

STYLE_NAMES = {"training": "training styles", "openmoji": "OpenMoji (never trained on)"}
_RESAMPLES = 2000
_MOST_LOSS = 0.02


class Column(NamedTuple):
    """Scores of one set of scenes (its mode and style) when it is described in `mode`."""

    scenes: str
    style: str
    mode: str


@dataclass(frozen=True)
class Row:
    """The mean of some measures, in the mode that the scenes are drawn for. `margin`: how far above rapid mode it has to be as well."""

    name: str
    mode: str
    measures: tuple[str, ...]
    goals: dict[str, float]  # by style
    margin: float | None = None


def _row(name: str, mode: str, measures: str | tuple[str, ...], training: float, openmoji: float, margin: float | None = None) -> Row:
    measures = (measures,) if isinstance(measures, str) else measures
    return Row(name, mode, measures, {"training": training, "openmoji": openmoji}, margin)


ROWS = (
    _row("all nouns, balanced: object F1", "balanced", "object F1", 0.97, 0.80),
    _row("exact object set", "balanced", "exact objects", 0.92, 0.65),
    _row("background colour and pattern", "balanced", "background", 0.97, 0.97),
    _row("relation right, when said", "balanced", "relations", 0.97, 0.90),
    _row("questions, mean over kinds", "balanced", KIND_MEASURES, 0.95, 0.85),
    _row("rapid: object F1 (scenes of large objects)", "rapid", "object F1", 0.93, 0.70),
    _row("high: object F1 on 1344 scenes of small objects", "high", "object F1", 0.95, 0.75, margin=0.15),
)
_LOSS_ROW = "loss by 2-bit QAT against the same model at 32 bits"


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def _means(sums: np.ndarray) -> np.ndarray:
    """`[..., measures, 2]` to the mean share of those measures that have cases, `[...]`; NaN if none has."""
    right, total = sums[..., 0], sums[..., 1]
    with_cases = total > 0
    shares = np.where(with_cases, right / np.maximum(total, 1), 0).sum(-1)
    return np.where(with_cases.any(-1), shares / np.maximum(with_cases.sum(-1), 1), np.nan)


def estimate(row: Row, scores: Scores, minus: Scores | None = None) -> Estimate | None:
    """The row's value, less that of `minus` (of the same scenes); None where there is nothing to judge."""
    chosen = np.random.default_rng(0).multinomial(scores.scenes, np.full(scores.scenes, 1 / scores.scenes), _RESAMPLES)
    weights = np.vstack([np.ones(scores.scenes), chosen])

    def values(of: Scores) -> np.ndarray:
        return _means(np.einsum("rs,smk->rmk", weights, of.sums(row.measures)))

    drawn = values(scores) - (values(minus) if minus else 0)
    if np.isnan(drawn[0]):
        return None
    low, high = np.nanquantile(drawn[1:], (0.025, 0.975))
    return Estimate(float(drawn[0]), float(low), float(high))


def _cells(row: Row, style: str, columns: dict[Column, Scores]) -> tuple[str, str, str]:
    """Value, goal, and whether it is reached."""
    goal = f"≥ {row.goals[style]:.2f}"
    scores = columns.get(Column(row.mode, style, row.mode))
    found = estimate(row, scores) if scores else None
    margin = row.margin if style == "training" else None
    if margin is not None:
        goal += f", ≥ {margin:.2f} above rapid"
    if found is None:
        return "-", goal, "-"
    value, reached = str(found), found.value >= row.goals[style]
    rapid = columns.get(Column(row.mode, style, "rapid")) if row.margin is not None else None
    above = estimate(row, scores, rapid) if rapid else None
    if above:
        value += f", {above} above rapid"
    if margin is not None:
        reached = reached and above is not None and above.value >= margin
    return value, goal, "yes" if reached else "no"


def _loss_cells(style: str, columns: dict[Column, Scores], against: dict[Column, Scores]) -> tuple[str, str, str]:
    """The same for the row that loses most."""
    losses = []
    for row in ROWS:
        column = Column(row.mode, style, row.mode)
        lost = estimate(row, against[column], columns[column]) if column in against and column in columns else None
        if lost:
            losses.append((lost, row.name))
    goal = f"≤ {_MOST_LOSS:.2f} in any row" if style == "training" else ""
    if not losses:
        return "-", goal, "-" if goal else ""
    most, name = max(losses, key=lambda loss: loss[0].value)
    return f"{most}, in “{name}”", goal, ("yes" if most.value <= _MOST_LOSS else "no") if goal else ""


def goals_table(columns: dict[Column, Scores], against: dict[Column, Scores] | None = None) -> str:
    """The rows as Markdown; the last one from `against`, the scores of the model that was not quantized."""
    styles = [style for style in STYLE_NAMES if any(column.style == style for column in columns)]
    header = "| | scenes | " + " | ".join(f"{STYLE_NAMES[style]} | goal | reached" for style in styles) + " |"
    lines = [header, "| --- | ---: |" + " --- | --- | --- |" * len(styles)]
    for row in ROWS:
        scenes = max((scores.scenes for column, scores in columns.items() if column.mode == column.scenes == row.mode), default=0)
        cells = [cell for style in styles for cell in _cells(row, style, columns)]
        lines.append(f"| {row.name} | {scenes or '-'} | " + " | ".join(cells) + " |")
    cells = [cell for style in styles for cell in _loss_cells(style, columns, against or {})]
    lines.append(f"| {_LOSS_ROW} | {'as above' if against else '-'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
