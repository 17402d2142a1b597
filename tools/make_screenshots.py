"""Make the pictures in screenshots/ from the running program, as SVG and PNG, and two plain texts.

    sudo apt install fonts-firacode librsvg2-bin      # the font of the letters, and rsvg-convert
    pip install -e '.[png]'
    python tools/make_screenshots.py [NAME ...]

Textual's own SVG is taken apart and put together anew, since its pictures are only straight where every character comes
from one font: cells get whole pixels; braille, blocks and frames, which hardly one monospaced font has all of, become
shapes; each word stands at its own place; nothing is fetched from the net.
"""

import asyncio
import html
import io
import re
import string
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from rich.cells import cell_len
from textual.pilot import Pilot

from laminar_tui.cli import main as laminar
from laminar_tui.errors import CancelledError
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep_folder import SavedSweep
from laminar_tui.render.rows import Depth
from laminar_tui.run import SAMPLE_PROFILE, IsCancelled, LayerRead, OnEvent, Request, Session, Started, Step
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.running import STATUS_EVERY
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State

FOLDER = Path(__file__).parent.parent / "screenshots"
SVG = "{http://www.w3.org/2000/svg}"
FONTS = "'Fira Code', 'JetBrains Mono', 'DejaVu Sans Mono', monospace"

TEXTUAL_WIDTH, TEXTUAL_HEIGHT = 12.2, 24.4
"""The cell of Rich's SVG export."""
WIDTH, HEIGHT = 12, 24
"""The cell here, in whole pixels."""
FONT_SIZE, BASELINE = 19.5, 18
"""Fira Code's letters are 8/13 em wide, so that at this size they fill the cell; textLength is for other fonts."""
JOINED = frozenset(string.punctuation)
"""Two of these beside one another are two words: rsvg-convert would join them to one of Fira Code's ligatures."""
MARGIN = 12
HELD_WITHIN = 60.0
"""Seconds, so that a run that fails is a wrong picture and no endless wait."""
WORKING = frozenset({"capture", "questions", "report", "change", "null", "sweep"})
"""The program's threads that a picture waits for, by name."""
N_COLORS = 256
"""Of a PNG's palette: the pictures have some 60 colours, and shades of them at the edges of letters."""


# -- what is taken ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One picture: a screen of a size, where one begins, and the keys that are pressed then.

    Attributes:
        is_live: of a run of the bundled model, which any query and the whole map can be asked of; else of the sample.
        against: the recipe of a second run of the bundled model, marked as A of a comparison.
        source: `sample`, `corpus` (several texts, by the bundled model) or `sweep` (of its blends, see `make_sweep`).
        theme, depth: of the terminal.
        prompt: of a model that could be run, in the place of none.
    """

    name: str
    size: tuple[int, int]
    keys: tuple[str, ...] = ()
    start: State = field(default_factory=State)
    is_live: bool = False
    against: str = ""
    source: str = "sample"
    theme: str = "textual-dark"
    depth: Depth = "truecolor"
    prompt: str = ""


SATELLITES = State(layer_index=20, height=0.78)
"""On a layer where the final token's weights go to the sink."""

TO_THE_SATELLITES = ("slash", *"18>.6", "enter", "tab")
INDUCTION = State(view="map", layer_index=1, head_index=0, query=109, key=18)
"""A head of the bundled model, whose prompt says a sentence twice."""

SHOTS = (
    Shot("overview", (160, 48), start=SATELLITES),
    Shot("overview_80x24", (80, 24), start=SATELLITES),
    Shot("layer", (160, 48), ("enter",), replace(SATELLITES, head_index=4)),
    Shot("head", (120, 40), ("enter", "enter"), replace(SATELLITES, head_index=4)),
    Shot("log_axis", (120, 36), ("a",), replace(SATELLITES, height=0.6)),
    Shot("sink_with", (80, 24), start=SATELLITES),
    Shot("sink_without", (80, 24), ("s",), SATELLITES),
    Shot("lines", (120, 36), ("4",)),
    Shot("help", (120, 40), ("question_mark",), SATELLITES),
    Shot("entries", (120, 36), TO_THE_SATELLITES),
    Shot("map", (120, 40), start=INDUCTION, is_live=True),
    Shot("heads", (120, 36), ("6",), replace(SATELLITES, layer_index=18, head_index=8)),
    Shot("compare", (120, 40), ("5",), State(layer_index=4), is_live=True, against="literal"),
    Shot("report", (100, 40), ("7",)),
    Shot("band", (120, 40), ("3",), State(layer_index=3, head_index=0), source="corpus"),
    Shot("sweep", (140, 40), ("j", "j", "right_curly_bracket"), source="sweep"),
    Shot("overview_240x70", (240, 70), start=SATELLITES),
    Shot("overview_light", (120, 36), start=SATELLITES, theme="textual-light"),
    Shot("overview_256_colours", (120, 36), start=SATELLITES, depth="256"),
    Shot("overview_no_colour", (120, 36), start=SATELLITES, depth="none"),
    Shot("heads_80x24", (80, 24), ("6",), SATELLITES),
    Shot("compare_80x24", (80, 24), ("5",), SATELLITES),
    Shot("compare_light", (160, 48), ("5",), SATELLITES, theme="textual-light"),
    Shot("report_80x24", (80, 24), ("7",)),
    Shot("open", (120, 36), ("O",)),
    Shot("prompt", (120, 36), ("e",), prompt="The quick brown fox jumps over the lazy dog."),
    Shot("about", (120, 36), ("i",)),
)
BLENDS = (0, 20, 40, 60, 80, 90, 100)
"""Percent of the bundled model's parameters in the steps of the picture of a sweep."""
HALF_DONE = Shot("run_half_done", (120, 36), start=State(layer_index=10, height=0.3))
TEXTS = {
    "overview_ascii": ("--width", "100", "--height", "30"),
    "head_ascii": ("--layer", "20", "--head", "4", "--width", "100", "--height", "30"),
}


def make_corpus(folder: Path) -> Profile:
    """Read three texts of this repository by the bundled model, in windows, as one profile with its spread."""
    texts = folder / "texts"
    texts.mkdir()
    for name in ("tests/paragraph.txt", "laminar_tui/assets/prompt.txt", "LICENSE"):
        text = (FOLDER.parent / name).read_text(encoding="utf-8")
        (texts / f"{Path(name).stem}.txt").write_text(text[:2000], encoding="utf-8")
    path = folder / "corpus.laminar"
    assert laminar(["capture", "-q", "--corpus", str(texts), "--max-tokens", "96", "-o", str(path)]) == 0
    return Profile.load(path)


def make_sweep(folder: Path) -> SavedSweep:
    """Read blends of random parameters and the bundled model's as if they were steps of training; `step40` is 40 %."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = FOLDER.parent / "laminar_tui" / "assets" / "model"
    tokenizer = AutoTokenizer.from_pretrained(source)
    trained = AutoModelForCausalLM.from_pretrained(source)
    torch.manual_seed(0)
    random = AutoModelForCausalLM.from_config(trained.config)
    names = [f"step{percent}" for percent in BLENDS]
    for name, percent in zip(names, BLENDS, strict=True):
        blend = AutoModelForCausalLM.from_pretrained(source)
        for mixed, drawn in zip(blend.parameters(), random.parameters(), strict=True):
            mixed.data.lerp_(drawn.data, 1 - percent / 100)
        blend.save_pretrained(folder / "blends" / name)
        tokenizer.save_pretrained(folder / "blends" / name)
    words = ["--revisions", ",".join(names), "-o", str(folder / "sweep"), "-q", "--json"]
    with redirect_stdout(io.StringIO()):
        assert laminar(["sweep", str(folder / "blends"), *words]) == 0
    return SavedSweep.of_folder(folder / "sweep")


async def take_sweep(shot: Shot, saved: SavedSweep) -> str:
    """Open a sweep, press the keys, each once the one before is done, and give Textual's SVG."""
    app = LaminarApp(State(saved.last()), None)
    app.explorer.sweep = saved
    async with app.run_test(size=shot.size) as pilot:
        for key in ("", *shot.keys):
            await pilot.press(*([key] if key else []))
            await _settle(pilot)
        return app.export_screenshot()


async def take(shot: Shot, profile: Profile) -> str:
    """Open the explorer on a profile, press the keys, and give Textual's SVG."""
    request = Request() if shot.is_live else None
    state = shot.start if shot.is_live else replace(shot.start, profile=profile)
    app = LaminarApp(state, request, Terminal(shot.depth))
    app.theme = shot.theme
    if shot.prompt:
        app.explorer._request = Request(prompt=shot.prompt)
    if shot.against:
        app.explorer.reference = Session().run(Request(recipe=shot.against), lambda _: None, lambda: False)
    async with app.run_test(size=shot.size) as pilot:
        await _settle(pilot)
        if shot.is_live:
            app.explorer.state = replace(shot.start, profile=app.explorer.state.profile)
        await pilot.press(*shot.keys)
        await _settle(pilot)
        return app.export_screenshot()


async def _settle(pilot: Pilot[None]) -> None:
    """Wait for what goes on in threads: a run, exact weights, a report."""
    await pilot.pause()
    until = time.monotonic() + HELD_WITHIN
    while time.monotonic() < until and any(thread.name in WORKING for thread in threading.enumerate()):
        await pilot.pause(STATUS_EVERY)
    await pilot.pause(2 * STATUS_EVERY)


class HeldSession:
    """In the place of `run.Session`: reads the first half of a profile's layers, then waits.

    Args:
        profile: whose layers are given out as if they were being read.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.n_read = profile.n_layers // 2
        self.is_held = threading.Event()
        self.let_go = threading.Event()

    def run(self, request: Request, on_event: OnEvent, is_cancelled: IsCancelled) -> Profile:
        """Read up to the middle; never ends otherwise than by being let go."""
        del request, is_cancelled
        origin = replace(self._profile.origin, checks=(), seconds=0.0)
        on_event(Started(Profile(origin, (None,) * self._profile.n_layers)))
        for index in range(self.n_read):
            on_event(LayerRead(index, self._profile.layer(index)))
            on_event(Step("forward", index + 1, self._profile.n_layers))
        self.is_held.set()
        self.let_go.wait()
        raise CancelledError("the picture is taken")


async def take_half_done(shot: Shot, profile: Profile) -> str:
    """Begin a run that is held half way, and give Textual's SVG of it."""
    session = HeldSession(profile)
    app = LaminarApp(State(), Request("SmolLM2-135M-Instruct"))
    app.explorer.runner._session = session  # type: ignore[assignment]
    async with app.run_test(size=shot.size) as pilot:
        await pilot.pause()
        await asyncio.to_thread(session.is_held.wait, HELD_WITHIN)
        await pilot.pause()
        app.explorer.state = replace(shot.start, profile=app.explorer.state.profile)
        # The clock shows what the real run took up to here, and is drawn a few times a second.
        app.explorer.runner.started_at -= profile.origin.seconds * session.n_read / profile.n_layers
        await pilot.pause(2 * STATUS_EVERY)
        svg = app.export_screenshot()
        session.let_go.set()
        return svg


def print_text(words: tuple[str, ...]) -> str:
    """Give what `laminar-tui show` prints without colours, in ASCII."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = laminar(["show", str(SAMPLE_PROFILE), "--ascii", "--color", "none", *words])
    assert code == 0
    return printed.getvalue()


# -- Textual's SVG, taken apart and put together anew ----------------------------------------------------------------


def redraw(source: str) -> str:
    """Make an SVG of whole pixels, shapes and words from the one that Textual exports."""
    root = ElementTree.fromstring(source)
    style = root.findtext(f"{SVG}style") or ""
    prefix = (re.search(r"\.(terminal-\d+)-matrix", style) or [""])[1] + "-"
    rules = re.findall(rf"\.{prefix}(r\d+) {{ (.*?) }}", style)
    terminal = next(group for group in root.iter(f"{SVG}g") if "clip-path" in group.attrib)
    rects = [each for each in terminal if each.tag == f"{SVG}rect"]
    texts = list(terminal.iter(f"{SVG}text"))
    n_columns = round(max(float(each.get("x", 0)) + float(each.get("width", 0)) for each in rects) / TEXTUAL_WIDTH)
    n_rows = round(max(float(each.get("y", 0)) for each in rects) / TEXTUAL_HEIGHT) + 1
    grounds = list(_grounds(rects))
    ground = Counter(fill for column, _, _, fill in grounds if column == 0).most_common(1)[0][0]
    width, height = n_columns * WIDTH + 2 * MARGIN, n_rows * HEIGHT + 2 * MARGIN
    body = [f'<rect x="{-MARGIN}" y="{-MARGIN}" width="{width}" height="{height}" fill="{ground}"/>']
    for column, row, cells, fill in grounds:
        if fill != ground:
            place = f'x="{column * WIDTH}" y="{row * HEIGHT}" width="{cells * WIDTH}" height="{HEIGHT}"'
            body.append(f'<rect {place} fill="{fill}"/>')
    for text in texts:
        body += _draw_text(text, prefix)
    css = "\n".join(f".{name} {{ {rule} }}" for name, rule in rules)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"
     viewBox="{-MARGIN} {-MARGIN} {width} {height}">
<style>
text {{ font-family: {FONTS}; font-size: {FONT_SIZE}px; font-variant-ligatures: none }}
rect, .s {{ shape-rendering: crispEdges }}
{css}
</style>
{chr(10).join(body)}
</svg>
"""


def _grounds(rects: list[ElementTree.Element]) -> Iterator[tuple[int, int, int, str]]:
    """Column, row, cells and fill of each background."""
    for each in rects:
        column = round(float(each.get("x", 0)) / TEXTUAL_WIDTH)
        cells = round(float(each.get("width", 0)) / TEXTUAL_WIDTH)
        yield column, int(float(each.get("y", 0)) / TEXTUAL_HEIGHT), cells, each.get("fill", "")


def _draw_text(text: ElementTree.Element, prefix: str) -> Iterator[str]:
    """Give a run's shapes as one path, and its words each at its place."""
    name = text.get("class", "").removeprefix(prefix)
    column = round(float(text.get("x", 0)) / TEXTUAL_WIDTH)
    row = int(float(text.get("y", 0)) / TEXTUAL_HEIGHT)
    x, y = column * WIDTH, row * HEIGHT
    shapes: list[str] = []
    words: list[tuple[int, str]] = []
    before = " "
    for character in text.text or "":
        shape = draw_shape(character)
        if shape is not None:
            shapes += [f"M{x + left:g} {y + top:g}h{w:g}v{h:g}h{-w:g}z" for left, top, w, h in shape]
        elif not character.isspace():
            if before.isspace() or {before, character} <= JOINED:
                words.append((x, ""))
            words[-1] = (words[-1][0], words[-1][1] + character)
        x += cell_len(character) * WIDTH
        before = character if shape is None else " "
    if shapes:
        yield f'<path class="s {name}" d="{"".join(shapes)}"/>'
    for left, word in words:
        place = f'x="{left}" y="{y + BASELINE}" textLength="{cell_len(word) * WIDTH}"'
        yield f'<text class="{name}" {place}>{html.escape(word, quote=False)}</text>'


Box = tuple[float, float, float, float]
"""Left, top, width and height within a cell."""

LINE, HEAVY = 2, 4
DOT = 4
MIDDLE_X, MIDDLE_Y = (WIDTH - LINE) // 2, (HEIGHT - LINE) // 2
BLOCKS: dict[str, list[Box]] = {
    "█": [(0, 0, WIDTH, HEIGHT)],
    "▀": [(0, 0, WIDTH, HEIGHT / 2)],
    "▄": [(0, HEIGHT / 2, WIDTH, HEIGHT / 2)],
    "▌": [(0, 0, WIDTH / 2, HEIGHT)],
    "▐": [(WIDTH / 2, 0, WIDTH / 2, HEIGHT)],
    "━": [(0, (HEIGHT - HEAVY) / 2, WIDTH, HEAVY)],
    "╸": [(0, (HEIGHT - HEAVY) / 2, WIDTH / 2, HEAVY)],
    "╌": [(1, MIDDLE_Y, 4, LINE), (7, MIDDLE_Y, 4, LINE)],
}
ARMS: dict[str, Box] = {
    "─┐┘┤┬┴┼╮╯": (0, MIDDLE_Y, MIDDLE_X + LINE, LINE),
    "─┌└├┬┴┼╭╰": (MIDDLE_X, MIDDLE_Y, WIDTH - MIDDLE_X, LINE),
    "│└┘├┤┴┼╰╯": (MIDDLE_X, 0, LINE, MIDDLE_Y + LINE),
    "│┌┐├┤┬┼╭╮": (MIDDLE_X, MIDDLE_Y, LINE, HEIGHT - MIDDLE_Y),
}
"""The frames' characters with an arm to the left, right, up and down, and that arm."""
BRAILLE_DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
"""Column and row of the dots, in the order of the bits."""


def draw_shape(character: str) -> list[Box] | None:
    """Give the boxes of a character that is a shape; None for a letter."""
    if 0x2800 <= ord(character) < 0x2900:
        lit = [dot for bit, dot in enumerate(BRAILLE_DOTS) if (ord(character) - 0x2800) >> bit & 1]
        return [(column * WIDTH / 2 + 1, row * HEIGHT / 4 + 1, DOT, DOT) for column, row in lit]
    return BLOCKS.get(character) or [arm for characters, arm in ARMS.items() if character in characters] or None


# -- files -----------------------------------------------------------------------------------------------------------


def write_picture(name: str, source: str) -> None:
    """Write NAME.svg and NAME.png."""
    path = FOLDER / f"{name}.svg"
    path.write_text(redraw(source), encoding="utf-8")
    drawn = subprocess.run(["rsvg-convert", str(path)], check=True, capture_output=True).stdout
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    reduced = image.quantize(N_COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    reduced.save(path.with_suffix(".png"), optimize=True)


def _taken(shot: Shot, profile: Profile, folder: Path) -> Coroutine[None, None, str]:
    if shot is HALF_DONE:
        return take_half_done(shot, profile)
    if shot.source == "sweep":
        return take_sweep(shot, make_sweep(folder))
    return take(shot, make_corpus(folder) if shot.source == "corpus" else profile)


def main() -> None:
    """Make all pictures, or those that are named."""
    wanted = set(sys.argv[1:])
    FOLDER.mkdir(exist_ok=True)
    profile = Profile.load(SAMPLE_PROFILE)
    for shot in (*SHOTS, HALF_DONE):
        if not wanted or shot.name in wanted:
            with TemporaryDirectory() as folder:
                write_picture(shot.name, asyncio.run(_taken(shot, profile, Path(folder))))
    for name, words in TEXTS.items():
        if not wanted or name in wanted:
            (FOLDER / f"{name}.txt").write_text(print_text(words), encoding="utf-8")


if __name__ == "__main__":
    main()
