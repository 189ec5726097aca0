"""Line plots as SVG, with nothing but the standard library. Text and lines are readable on white and on black."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 76
INK = "#808080"
COLOURS = ("#2a78d2", "#d9722b", "#3a9a54", "#b0479a", "#8a6d3b", "#c0392b")
Points = Sequence[tuple[float, float]]


def line_plot(title: str, x_label: str, y_label: str, series: Mapping[str, Points]) -> str:
    """An SVG document; both axes begin at 0. Raises ValueError when there is nothing to draw."""
    points = [point for line in series.values() for point in line]
    if not points:
        raise ValueError("no points")
    x_ticks, y_ticks = ticks(max(x for x, _ in points)), ticks(max(y for _, y in points))
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / x_ticks[-1] * inner_width, TOP + inner_height - y / y_ticks[-1] * inner_height

    parts = [
        _head(HEIGHT),
        _text(WIDTH / 2, 20, title, "middle", 14),
        _text(LEFT + inner_width / 2, HEIGHT - BOTTOM + 34, x_label, "middle"),
        _text(8, TOP - 10, y_label, "start"),
    ]
    for tick in x_ticks:
        x, y = place(tick, 0)
        parts.append(_text(x, y + 16, f"{tick:g}", "middle"))
    for tick in y_ticks:
        x, y = place(0, tick)
        parts.append(_text(x - 6, y + 4, f"{tick:g}", "end"))
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-opacity="0.3"/>')
    legend = LEFT
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(x, y) for x, y in line]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(f'<rect x="{legend}" y="{HEIGHT - 22}" width="12" height="4" fill="{colour}"/>')
        parts.append(_text(legend + 18, HEIGHT - 16, name, "start"))
        legend += 34 + 7 * len(name)
    return "\n".join([*parts, "</svg>", ""])


def share_bars(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Stacked horizontal bars: for each row its parts as shares of their sum, with a legend. Raises ValueError."""
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    if not names:
        raise ValueError("no parts")
    height = 70 + 30 * len(rows)
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    parts = [
        _head(height),
        _text(WIDTH / 2, 20, title, "middle", 14),
    ]
    left = 120
    for number, (row, values) in enumerate(rows.items()):
        y, x, total = 36 + 30 * number, float(left), sum(values.values()) or 1.0
        parts.append(_text(left - 8, y + 14, row, "end"))
        for name, value in values.items():
            width = value / total * (WIDTH - left - RIGHT)
            hover = escape(f"{name}: {value / total:.0%}")
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="20" fill="{colours[name]}">'
                f"<title>{hover}</title></rect>"
            )
            x += width
    legend = float(left)
    for name, colour in colours.items():
        parts.append(f'<rect x="{legend}" y="{height - 20}" width="12" height="8" fill="{colour}"/>')
        parts.append(_text(legend + 18, height - 12, name, "start"))
        legend += 34 + 7 * len(name)
    return "\n".join([*parts, "</svg>", ""])


def ticks(largest: float) -> list[float]:
    """From 0 to at least `largest` in four to eight round steps."""
    if largest <= 0:
        return [0.0, 1.0]
    step = 10.0**-9
    while largest / step > 8:
        for factor in (2.0, 2.5, 2.0):  # 1, 2, 5, 10
            if largest / step <= 8:
                break
            step *= factor
    count = int(-(-largest // step))
    return [round(step * number, 12) for number in range(count + 1)]


def _head(height: int) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="{INK}">'


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
