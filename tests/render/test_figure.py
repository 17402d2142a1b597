"""A figure says what the density says, in whole pixels, and nothing from outside leaves its text element."""

import builtins
import io
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from laminar_tui.errors import UsageError
from laminar_tui.render.figure import (
    GAP_FILL,
    LEFT,
    TOP,
    Figure,
    Rect,
    Sheet,
    Text,
    lay_out,
)
from laminar_tui.render.png import to_png
from laminar_tui.render.svg import to_svg

HOSTILE = "\x1b[31m<script>alert(1)</script>&\u202e\x00\ud800]]>"
N_CELLS = 200
CELL_HEIGHT = 2


def figure(n_columns: int = 4, gaps: tuple[int, ...] = (), title: str = "title", **fields: Any) -> Figure:
    weight = (np.arange(N_CELLS) + 0.5) / N_CELLS
    density = np.stack([50 * np.exp(-weight * (20 + column)) for column in range(n_columns)])
    density[list(gaps)] = np.nan
    labels = [str(column) for column in range(n_columns)]
    return Figure(density, 1e-3, 50.0, labels, title, **fields)


def cells(sheet: Sheet, n_columns: int) -> list[Rect]:
    """The rectangles of the picture, without background, gaps and colour bar."""
    right = LEFT + n_columns * round(640 / n_columns)
    inside = (each for each in sheet.primitives if isinstance(each, Rect) and LEFT <= each.x < right)
    return [each for each in inside if each.y >= TOP and each.fill != GAP_FILL]


def texts(sheet: Sheet) -> list[Text]:
    return [each for each in sheet.primitives if isinstance(each, Text)]


def pixels(png: bytes) -> np.ndarray:
    image_module = pytest.importorskip("PIL.Image")
    return np.asarray(image_module.open(io.BytesIO(png)).convert("RGB"))


def test_equal_neighbours_of_a_column_are_one_rectangle() -> None:
    flat = Figure(np.full((3, N_CELLS), 5.0), 1e-3, 50.0, ["0", "1", "2"], "")
    rects = cells(lay_out(flat), 3)
    assert [rect.height for rect in rects] == [N_CELLS * CELL_HEIGHT] * 3


def test_rectangles_cover_every_cell_above_the_bottom_once_and_no_other() -> None:
    fig = figure(n_columns=4)
    sheet = lay_out(fig)
    painted = np.zeros((4, N_CELLS * CELL_HEIGHT), int)  # from the top
    for rect in cells(sheet, 4):
        assert (rect.x - LEFT) % 160 == 0
        assert rect.width == 160
        painted[(rect.x - LEFT) // 160, rect.y - TOP : rect.y - TOP + rect.height] += 1
    expected = np.repeat(fig.density[:, ::-1] >= fig.low, CELL_HEIGHT, axis=1)
    np.testing.assert_array_equal(painted, expected.astype(int))


def test_dense_is_darker_than_sparse() -> None:
    rects = [rect for rect in cells(lay_out(figure()), 4) if rect.x == LEFT]
    bottom_up = sorted(rects, key=lambda rect: -rect.y)
    brightness = [sum(int(rect.fill[i : i + 2], 16) for i in (1, 3, 5)) for rect in bottom_up]
    assert brightness[0] < 100 < 500 < brightness[-1]
    assert brightness == sorted(brightness)


def test_columns_without_values_are_hatched_and_named_in_one_note() -> None:
    sheet = lay_out(figure(n_columns=8, gaps=(1, 2, 5)))
    notes = [each.text for each in texts(sheet) if "not read" in each.text]
    assert notes == ["not read or without attention: 1–2, 5"]
    hatched = [each for each in sheet.primitives if isinstance(each, Rect) and each.fill == GAP_FILL]
    assert [(rect.x, rect.width) for rect in hatched[:2]] == [(LEFT + 80, 160), (LEFT + 400, 80)]
    assert not [rect for rect in cells(sheet, 8) if (rect.x - LEFT) // 80 in (1, 2, 5)]


def test_no_note_without_gaps() -> None:
    assert not [each for each in texts(lay_out(figure())) if "not read" in each.text]


def test_an_empty_picture_says_so() -> None:
    empty = Figure(np.zeros((2, N_CELLS)), 0.01, 1.0, ["0", "1"], "")
    assert "no weights" in [each.text for each in texts(lay_out(empty))]
    assert "no weights" not in [each.text for each in texts(lay_out(figure()))]


def test_linear_axis_has_round_ticks_at_their_heights() -> None:
    labels = {each.text: each for each in texts(lay_out(figure())) if each.anchor == "end"}
    assert list(labels) == [f"{i / 10:.1f}" for i in range(11)]
    # The base line is 4 pixels below the tick.
    assert labels["0.0"].y - 4 == TOP + 400
    assert labels["1.0"].y - 4 == TOP
    assert labels["0.5"].y - 4 == TOP + 200


def test_log_axis_is_labelled_with_powers_of_ten() -> None:
    sheet = lay_out(figure(y_low=-8.0, y_high=0.0, y_log=True))
    labels = [(each.text, each.superscript) for each in texts(sheet) if each.anchor == "end"]
    assert labels == [("10", f"−{i}") for i in range(8, 0, -1)] + [("10", "0")]


@pytest.mark.parametrize("n_columns", [1, 6, 30, 80, 128, 300])
def test_column_labels_never_touch(n_columns: int) -> None:
    labels = [each for each in texts(lay_out(figure(n_columns))) if each.text.isdigit() and each.anchor == "middle"]
    steps = np.diff([each.x for each in labels])
    assert labels[0].text == "0"
    assert (steps >= 30).all()  # three digits of 12 pixels' size take 23
    assert len(labels) <= 22


@pytest.mark.parametrize("n_columns", [1, 6, 80])
def test_everything_lies_on_the_sheet(n_columns: int) -> None:
    sheet = lay_out(figure(n_columns, gaps=(0,), title="W" * 500))
    for each in sheet.primitives:
        if isinstance(each, Rect):
            assert min(each.x, each.y) >= 0
            assert each.x + each.width <= sheet.width
            assert each.y + each.height <= sheet.height
        elif isinstance(each, Text) and not each.is_upright and each.anchor == "start":
            assert each.x + each.room <= sheet.width or len(each.text) < 8
            assert 0 < each.y < sheet.height


def test_svg_is_xml_with_every_text_escaped_and_harmless() -> None:
    svg = to_svg(lay_out(figure(title=HOSTILE, subtitle=HOSTILE, x_title=HOSTILE, gap_note=HOSTILE, gaps=(1,))))
    root = ElementTree.fromstring(svg.encode())
    assert {element.tag.split("}")[1] for element in root.iter()} == {"svg", "path", "text", "tspan"} - (
        {"tspan"} if "tspan" not in svg else set()
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", svg)
    titles = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert any(text.startswith("␛[31m<script>") for text in titles)


def test_svg_texts_are_cut_to_their_room() -> None:
    svg = to_svg(lay_out(figure(title="W" * 500)))
    found = re.search(r">(W+)…<", svg)
    assert found
    # A W of DejaVu Sans is 0.99 of its size of 17 pixels; the room is some 740.
    assert 30 <= len(found[1]) <= 44


def test_svg_of_80_noisy_columns_stays_below_300_kb() -> None:
    noise = np.exp(np.random.default_rng(0).normal(0, 3, (80, N_CELLS)))
    noisy = Figure(noise, 1e-3, 1e3, [str(i) for i in range(80)], "noise")
    assert len(to_svg(lay_out(noisy))) < 300_000


@pytest.mark.parametrize("scale", [1, 2])
def test_png_has_the_sheets_size_and_the_rectangles_colours(scale: int) -> None:
    pytest.importorskip("PIL")
    sheet = lay_out(figure(gaps=(1,), title=HOSTILE))
    image = pixels(to_png(sheet, scale=scale))
    assert image.shape == (sheet.height * scale, sheet.width * scale, 3)
    assert tuple(image[0, 0]) == (255, 255, 255)
    for rect in cells(sheet, 4)[:50]:
        middle = image[(rect.y + rect.height // 2) * scale, (rect.x + rect.width // 2) * scale]
        assert "#" + bytes(middle).hex() == rect.fill


def test_png_draws_titles_upright_texts_and_superscripts() -> None:
    pytest.importorskip("PIL")
    with_text = pixels(to_png(lay_out(figure(y_log=True, y_low=-8.0, y_high=0.0)), scale=1))
    without = pixels(to_png(lay_out(figure(y_log=True, y_low=-8.0, y_high=0.0, title="", y_title="")), scale=1))
    assert (with_text[20:40, LEFT:200] < 128).any()
    assert not (without[20:40, LEFT:200] < 128).any()
    assert (with_text[100:400, 10:32] < 128).any()
    assert not (without[100:400, 10:32] < 128).any()


def test_png_without_pillow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_pillow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(UsageError) as caught:
        to_png(lay_out(figure()))
    assert caught.value.hint == "pip install 'laminar-tui[png]'"
