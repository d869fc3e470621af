"""Two kinds of small SVG pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bars", "lines"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 460, 240, 56, 40
_COLOURS = ("#c2410c", "#1d4ed8", "#15803d")


def lines(series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, zero: bool = False) -> str:
    """Curves through (x, y) points, by name; `zero`: the y axis starts at 0."""
    xs = [float(x) for points in series.values() for x, _ in points]
    ys = [float(y) for points in series.values() for _, y in points] + ([0.0] if zero else [])
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    wide, high = _WIDTH - _LEFT - 10, _HEIGHT - _BOTTOM - 10

    def place(x: float, y: float) -> str:
        return f"{_LEFT + (x - x0) / ((x1 - x0) or 1) * wide:.1f},{10 + (1 - (y - y0) / ((y1 - y0) or 1)) * high:.1f}"

    parts = [_axes(x_label, y_label)]
    for value, anchor, x in ((x0, "start", _LEFT), (x1, "end", _WIDTH - 10)):
        parts.append(_text(x, _HEIGHT - 24, f"{value:.4g}", anchor))
    parts += [_text(_LEFT - 4, 16, f"{y1:.3g}", "end"), _text(_LEFT - 4, _HEIGHT - _BOTTOM, f"{y0:.3g}", "end")]
    for points, colour in zip(series.values(), _COLOURS, strict=False):
        thin = points[:: max(1, len(points) // 400)]
        path = " ".join(place(float(x), float(y)) for x, y in thin)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{path}"/>')
    for number, (name, colour) in enumerate(zip(series, _COLOURS, strict=False)):
        parts.append(_text(_WIDTH - 14, 22 + 16 * number, name, "end", colour))
    return _svg(_HEIGHT, parts)


def bars(values: Sequence[tuple[str, float]], label: str) -> str:
    """Horizontal bars, one under the other."""
    most = max((value for _, value in values), default=1.0)
    parts = []
    for number, (name, value) in enumerate(values):
        y = 14 + 17 * number
        parts.append(_text(106, y, name, "end"))
        parts.append(f'<rect x="112" y="{y - 10}" width="{value / most * 270:.1f}" height="12" fill="{_COLOURS[0]}"/>')
        parts.append(_text(118 + value / most * 270, y, f"{value:.3g}", "start"))
    height = 17 * len(values) + 26
    parts.append(_text(112, height - 6, label, "start"))
    return _svg(height, parts)


def _axes(x_label: str, y_label: str) -> str:
    frame = f"M{_LEFT},10 V{_HEIGHT - _BOTTOM} H{_WIDTH - 10}"
    turned = (
        f'<text x="{-_HEIGHT / 2 + 10}" y="14" transform="rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return f'<path d="{frame}" fill="none" stroke="#888"/>{_text((_WIDTH + _LEFT) / 2, _HEIGHT - 8, x_label, "middle")}{turned}'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" font-size="12">{"".join(parts)}</svg>'
