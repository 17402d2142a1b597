"""Partial updates that are cropped on both sides: Textual's own begin at the left edge of the widget that changed.

Over SSH that is most of what a cursor key costs: a curve's row is sent from its frame on for a dot that moved.
"""

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class CroppedUpdate(ChopsUpdate):
    """Sends of each changed row the cells that have changed, and no others."""

    def render_segments(self, console: Console) -> str:
        """Write the spans as text with escape sequences."""
        written: list[str] = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is None or start >= stop:
                    continue
                written.append(Control.move_to(start, y).segment.text)
                written.append(strip.crop(start - x, stop - x).render(console))
        return "".join(written)


class CroppingCompositor(Compositor):
    """Textual's compositor with updates that are cropped on both sides."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """Render what has changed since the last time; None for nothing."""
        update = super().render_partial_update()
        return update and CroppedUpdate(update.chops, update.spans, update.chop_ends)
