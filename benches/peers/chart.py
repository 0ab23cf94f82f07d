"""Draws what `run.py --json` measured, as bars of ratios: `chart.py MEASURED.json OUT.svg`. Ours is 1; longer is faster."""

import json
import sys
from html import escape
from pathlib import Path

ROW, BAR, LEFT, WIDTH, RIGHT = 22, 14, 330, 400, 150


def main() -> None:
    source, out = sys.argv[1:3]
    report = json.loads(Path(source).read_text())
    bars: list[tuple[str, float | None, str]] = []
    for row in report["rows"]:
        ours = row["medians"].get("ocelli")
        if ours is None:
            continue
        more_is_better = row["unit"] == "tokens/s"
        bars.append((row["name"], None, ""))
        for name, value in row["medians"].items():
            if value is not None:
                speed = value / ours if more_is_better else ours / value
                bars.append((name, speed, f"{value:.3g} {row['unit']}"))
    longest = max(speed for _, speed, _ in bars if speed is not None)
    height = ROW * (len(bars) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="{height}" fill="white"/>',
        f'<text x="10" y="16" font-weight="bold">Speed, ocelli = 1 ({report["threads"]} threads, {report["isa"]}, {report["date"]})</text>',
    ]
    for index, (name, speed, value) in enumerate(bars):
        y = ROW * (index + 2)
        if speed is None:
            parts.append(f'<text x="10" y="{y}" font-weight="bold">{escape(name)}</text>')
            continue
        colour = "#2a7de1" if name == "ocelli" else "#9aa5b1"
        parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y - BAR + 3}" width="{WIDTH * speed / longest:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + WIDTH * speed / longest + 6:.1f}" y="{y}">{speed:.2f} ({escape(value)})</text>')
    parts.append("</svg>")
    Path(out).write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
