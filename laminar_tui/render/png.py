"""A figure's sheet as PNG, drawn with Pillow."""

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from laminar_tui.errors import UsageError
from laminar_tui.render.figure import BACKGROUND, SUPERSCRIPT, Line, Rect, Sheet, Text, cut
from laminar_tui.render.text import visible

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

# What Pillow's own font does not have.
_REPLACEMENTS = {"→": "->", "←": "<-", "−": "-", "–": "-"}


def to_png(sheet: Sheet, *, scale: int = 2) -> bytes:
    """Draw the PNG with Pillow, in the font that comes with it, so that it looks the same everywhere.

    Args:
        sheet: what to draw.
        scale: pixels of the PNG for one of the layout.

    Raises:
        UsageError: if Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise UsageError("a PNG needs Pillow, which is not installed", "pip install 'laminar-tui[png]'") from error
    image = Image.new("RGB", (sheet.width * scale, sheet.height * scale), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for each in sheet.primitives:
        if isinstance(each, Rect):
            x, y = each.x * scale, each.y * scale
            draw.rectangle((x, y, x + each.width * scale - 1, y + each.height * scale - 1), fill=each.fill)
        elif isinstance(each, Line):
            _draw_line(draw, each, scale)
        elif each.is_upright:
            _draw_upright(image, each, scale)
        else:
            _draw_text(draw, each, scale)
    payload = io.BytesIO()
    image.save(payload, "PNG", optimize=True, dpi=(96 * scale, 96 * scale))
    return payload.getvalue()


def _draw_line(draw: "ImageDraw.ImageDraw", line: Line, scale: int) -> None:
    if line.x1 == line.x2 or line.y1 == line.y2:
        left, right = sorted((line.x1, line.x2))
        top, bottom = sorted((line.y1, line.y2))
        box = (left * scale, top * scale, (right + 1) * scale - 1, (bottom + 1) * scale - 1)
        draw.rectangle(box, fill=line.color)
    else:
        draw.line([value * scale for value in (line.x1, line.y1, line.x2, line.y2)], fill=line.color, width=scale)


def _font(size: float) -> "ImageFont.FreeTypeFont":
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UsageError("this Pillow was built without FreeType", "install Pillow from a wheel: pip install -U pillow")
    return font


def _drawable(text: str, font: "ImageFont.FreeTypeFont") -> str:
    """Write the characters that the font does not have as escapes."""
    missing = bytes(font.getmask("\uffff"))

    def has(character: str) -> bool:
        return " " <= character <= "~" or bytes(font.getmask(character)) != missing

    return "".join(each if has(each) else _REPLACEMENTS.get(each, visible(each, ascii_only=True)) for each in text)


def _draw_text(draw: "ImageDraw.ImageDraw", text: Text, scale: int) -> None:
    font, small = _font(text.size * scale), _font(text.size * SUPERSCRIPT * scale)
    superscript = _drawable(text.superscript, small)
    room = text.room * scale - small.getlength(superscript)
    # No character is narrower than a pixel, so a text of any length costs no more than its room.
    content = cut(_drawable(text.text[: text.room], font), font.getlength, room)
    width = font.getlength(content)
    total = width + small.getlength(superscript)
    x = text.x * scale - {"start": 0.0, "middle": total / 2, "end": total}[text.anchor]
    draw.text((x, text.y * scale), content, fill=text.color, font=font, anchor="ls")
    if superscript:
        raised = text.y * scale - text.size * 0.4 * scale
        draw.text((x + width, raised), superscript, fill=text.color, font=small, anchor="ls")


def _draw_upright(image: "Image.Image", text: Text, scale: int) -> None:
    """Draw on a strip of its own, turn that, and put it where the base line belongs."""
    from PIL import Image, ImageDraw

    height = round(text.size * 2)
    strip = Image.new("RGB", (text.room * scale, height * scale), BACKGROUND)
    flat = replace(text, x=text.room // 2, y=round(text.size * 1.5), is_upright=False)
    _draw_text(ImageDraw.Draw(strip), flat, scale)
    turned = strip.transpose(Image.Transpose.ROTATE_90)
    image.paste(turned, ((text.x - flat.y) * scale, (text.y - text.room // 2) * scale))
