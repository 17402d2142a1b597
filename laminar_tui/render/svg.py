"""A figure's sheet as SVG."""

from itertools import groupby
from xml.sax.saxutils import escape

from laminar_tui.render.figure import SUPERSCRIPT, Line, Primitive, Rect, Sheet, Text, cut, estimate_width

FONTS = "'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif"


def to_svg(sheet: Sheet) -> str:
    """Write a standalone SVG document: no scripts, no links, every text escaped.

    Neighbouring rectangles of one colour share a path, which is a third of the size of as many `rect` elements.
    """
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{sheet.width}" height="{sheet.height}" '
        f'viewBox="0 0 {sheet.width} {sheet.height}" font-family="{FONTS}">',
    ]
    for kind, group in groupby(sheet.primitives, key=_svg_group):
        if kind is None:
            lines += [_svg_text(each) for each in group if isinstance(each, Text)]
        else:
            lines.append(f'<path {kind} d="{"".join(_svg_piece(each) for each in group)}"/>')
    return "\n".join([*lines, "</svg>", ""])


def _svg_group(primitive: Primitive) -> str | None:
    """The attributes of the path that a primitive is a piece of; None for a text."""
    if isinstance(primitive, Rect):
        return f'shape-rendering="crispEdges" fill="{primitive.fill}"'
    if isinstance(primitive, Line):
        return f'stroke="{primitive.color}"'
    return None


def _svg_piece(primitive: Primitive) -> str:
    if isinstance(primitive, Rect):
        return f"M{primitive.x} {primitive.y}h{primitive.width}v{primitive.height}h{-primitive.width}z"
    if isinstance(primitive, Line):
        # Half a pixel aside, an upright line one pixel wide fills a pixel instead of two halves.
        return f"M{primitive.x1}.5 {primitive.y1}.5L{primitive.x2}.5 {primitive.y2}.5"
    return ""


def _svg_text(text: Text) -> str:
    content = escape(cut(text.text, estimate_width, text.room / text.size))
    if text.superscript:
        size = text.size * SUPERSCRIPT
        content += f'<tspan dy="{-text.size * 0.4:g}" font-size="{size:g}">{escape(text.superscript)}</tspan>'
    turn = f' transform="rotate(-90 {text.x} {text.y})"' if text.is_upright else ""
    return (
        f'<text x="{text.x}" y="{text.y}" font-size="{text.size:g}" text-anchor="{text.anchor}" '
        f'fill="{text.color}"{turn}>{content}</text>'
    )
