"""Renders the picture of an IR as SVG or PNG, in layers from inputs to outputs, offline."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from html import escape

from .drawing import Box, Drawing, draw
from .errors import TorchIRError
from .ir import IR

__all__ = ["ir_to_svg", "save_png"]

_CHAR_WIDTH = 7.2
_LINE_HEIGHT = 16
_PADDING = 10
_GAP_X = 24
_GAP_Y = 44
_SWEEPS = 4
_MARGIN = 12.0
_SCALE = 2
_CURVE_STEPS = 25

_FILL = {
    "op": "#e8eefc",
    "input": "#dff3e4",
    "output": "#fde8d8",
    "w": "#f4f4f4",
    "more": "#ffffff",
}


@dataclass(slots=True)
class _Place:
    """A box with its size and the middle of its top edge."""

    box: Box
    layer: int
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0


def _layers(drawing: Drawing) -> dict[str, int]:
    """Give each box a layer below all boxes that lead to it; a weight sits right above its use."""
    layer = dict.fromkeys((box.identifier for box in drawing.boxes), 0)
    # Arrows come in execution order, so one pass finds the longest way to every box.
    for arrow in drawing.arrows:
        layer[arrow.target] = max(layer[arrow.target], layer[arrow.source] + 1)
    for arrow in reversed(drawing.arrows):
        if arrow.dotted:
            layer[arrow.source] = layer[arrow.target] - 1
    return layer


def _arrange(drawing: Drawing) -> dict[str, _Place]:
    """Place the boxes: layer by layer, each near the middle of its neighbours."""
    layer = _layers(drawing)
    places: dict[str, _Place] = {}
    rows: dict[int, list[_Place]] = {}
    for box in drawing.boxes:
        width = max(len(line) for line in box.lines) * _CHAR_WIDTH + 2 * _PADDING
        height = len(box.lines) * _LINE_HEIGHT + _PADDING
        place = _Place(box, layer[box.identifier], width, height)
        places[box.identifier] = place
        rows.setdefault(place.layer, []).append(place)
    neighbours: dict[str, list[str]] = {name: [] for name in places}
    for arrow in drawing.arrows:
        neighbours[arrow.source].append(arrow.target)
        neighbours[arrow.target].append(arrow.source)
    for row in rows.values():
        _spread(row)
    for sweep in range(_SWEEPS):
        for index in sorted(rows, reverse=sweep % 2 == 1):
            row = rows[index]
            wish = {
                place.box.identifier: sum(places[n].x for n in near) / len(near)
                for place in row
                if (near := neighbours[place.box.identifier])
            }
            row.sort(key=lambda place: wish.get(place.box.identifier, place.x))
            _spread(row, wish)
    top = 0.0
    for index in sorted(rows):
        for place in rows[index]:
            place.y = top
        top += max(place.height for place in rows[index]) + _GAP_Y
    return places


def _spread(row: list[_Place], wish: dict[str, float] | None = None) -> None:
    """Put the boxes of a row side by side, the row's middle where they would like to be."""
    width = sum(place.width for place in row) + _GAP_X * (len(row) - 1)
    wishes = list((wish or {}).values())
    left = (sum(wishes) / len(wishes) if wishes else 0.0) - width / 2
    for place in row:
        place.x = left + place.width / 2
        left += place.width + _GAP_X


def _extent(places: dict[str, _Place]) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the picture."""
    left = min((p.x - p.width / 2 for p in places.values()), default=0.0) - _MARGIN
    right = max((p.x + p.width / 2 for p in places.values()), default=0.0) + _MARGIN
    bottom = max((p.y + p.height for p in places.values()), default=0.0) + _MARGIN
    return left, -_MARGIN, right - left, bottom + _MARGIN


def ir_to_svg(ir: IR, max_nodes: int = 30, include_weights: bool = True) -> str:
    """Draw the graph as a stand-alone SVG picture. See `ir_to_mermaid` for the arguments.

    Raises:
        ValueError: ``max_nodes`` is negative.
    """
    drawing = draw(ir, max_nodes, include_weights)
    places = _arrange(drawing)
    left, top, width, height = _extent(places)
    view = f"{left:.0f} {top:.0f} {width:.0f} {height:.0f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" '
        f'width="{width:.0f}" height="{height:.0f}" '
        'font-family="monospace" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
        f'<rect x="{left:.0f}" y="{top:.0f}" width="100%" height="100%" fill="#fff"/>',
    ]
    for arrow in drawing.arrows:
        parts.append(_arrow(places[arrow.source], places[arrow.target], arrow.dotted))
    parts += [_box(place) for place in places.values()]
    return "\n".join([*parts, "</svg>"])


def save_png(
    ir: IR, path: str | os.PathLike[str], max_nodes: int = 30, include_weights: bool = True
) -> None:
    """Draw the graph as a PNG picture, twice the size of the SVG. See `ir_to_mermaid`.

    Raises:
        ValueError: ``max_nodes`` is negative.
        TorchIRError: Pillow, which draws it, is not installed.
    """
    try:
        # Optional, so it may be unknown to the type checker.
        pil = importlib.import_module("PIL")
        for part in ("Image", "ImageDraw", "ImageFont"):
            importlib.import_module(f"PIL.{part}")
    except ImportError as error:
        raise TorchIRError(
            "drawing PNG needs Pillow: pip install pillow, or write an .svg file instead"
        ) from error
    drawing = draw(ir, max_nodes, include_weights)
    places = _arrange(drawing)
    left, top, width, height = _extent(places)
    image = pil.Image.new("RGB", (round(width * _SCALE), round(height * _SCALE)), "#fff")
    canvas = pil.ImageDraw.Draw(image)
    # Pillow brings this font along, so that the picture needs none of the system's.
    font = pil.ImageFont.load_default(size=12 * _SCALE)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x - left) * _SCALE, (y - top) * _SCALE

    for arrow in drawing.arrows:
        curve = [at(*point) for point in _points(places[arrow.source], places[arrow.target])]
        for index in range(0, len(curve) - 1, 2 if arrow.dotted else 1):
            canvas.line(curve[index : index + 2], fill="#555", width=_SCALE)
        x, y = curve[-1]
        canvas.polygon(
            [(x, y), (x - 4 * _SCALE, y - 7 * _SCALE), (x + 4 * _SCALE, y - 7 * _SCALE)], "#555"
        )
    for place in places.values():
        corners = [
            at(place.x - place.width / 2, place.y),
            at(place.x + place.width / 2, place.y + place.height),
        ]
        canvas.rounded_rectangle(corners, 4 * _SCALE, _FILL.get(place.box.kind, "#fff"), "#888")
        for number, line in enumerate(place.box.lines, 1):
            middle = at(place.x, place.y + number * _LINE_HEIGHT)
            canvas.text(middle, line, fill="#000", font=font, anchor="ms")
    image.save(path, format="PNG")


def _points(source: _Place, target: _Place) -> list[tuple[float, float]]:
    """Return points along the arrow between two boxes, the same curve as in the SVG."""
    x1, y1, x2, y2 = source.x, source.y + source.height, target.x, target.y
    points = []
    for step in range(_CURVE_STEPS + 1):
        t = step / _CURVE_STEPS
        # A cubic curve that leaves and arrives vertically, its handles at half height.
        x = x1 + (x2 - x1) * t * t * (3 - 2 * t)
        y = y1 + (y2 - y1) * (1.5 * t * (1 - t) + t * t * t)
        points.append((x, y))
    return points


def _arrow(source: _Place, target: _Place, dotted: bool) -> str:
    x1, y1, x2, y2 = source.x, source.y + source.height, target.x, target.y
    bend = (y2 - y1) / 2
    path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
    dash = ' stroke-dasharray="4 3"' if dotted else ""
    return f'<path d="{path}" fill="none" stroke="#555"{dash} marker-end="url(#tip)"/>'


def _box(place: _Place) -> str:
    left = place.x - place.width / 2
    fill = _FILL.get(place.box.kind, "#fff")
    parts = [
        f'<rect x="{left:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" '
        f'height="{place.height:.1f}" rx="4" fill="{fill}" stroke="#888"/>'
    ]
    for number, line in enumerate(place.box.lines, 1):
        y = place.y + number * _LINE_HEIGHT
        parts.append(
            f'<text x="{place.x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(line)}</text>'
        )
    return "".join(parts)
