"""What a person would mend on seeing it: cut words, labels that their texts run under, places left empty."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.statistics import STATISTICS
from laminar_tui.render.columns import CURVE_COLOR, CURVE_COLOR_ON_LIGHT
from laminar_tui.render.frame import bar_labels
from laminar_tui.ui.dialogs import Hanging

Drive = Callable[..., Any]


def test_a_long_line_goes_on_beside_its_label() -> None:
    console = Console(width=30, color_system=None, legacy_windows=False)
    text = Text.assemble(("   read by", "bold"), "  plain attention in tiles of float32\n", ("Checked", "bold"), "\n")
    with console.capture() as captured:
        console.print(Hanging(text))
    rows = [row.rstrip() for row in captured.get().splitlines()]
    assert rows[:3] == ["   read by  plain attention in", "            tiles of float32", "Checked"]


async def test_a_long_text_survives_a_terminal_of_a_few_cells(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(80, 24)) as driven:
        for key in ("question_mark", "i"):
            await driven.press(key)
            for width in (13, 8, 7, 3, 1, 100):
                await driven.pilot.resize_terminal(width, 24)
                await driven.pilot.pause()
            assert "Esc closes" in driven.text()
            await driven.press("escape")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_the_list_of_numbers_cuts_no_description(drive: Drive, walk: Profile, size: tuple[int, int]) -> None:
    async with drive(walk, size=size) as driven:
        await driven.press("6", "v")
        assert "…" not in driven.text()
        for word in STATISTICS["sink_share"].description.split():
            assert word in driven.text()


async def test_two_columns_of_numbers_give_their_rows_to_the_curve(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:  # three layers: a wide side
        explorer = driven.app.explorer
        row = next(row for row in driven.text().splitlines() if "over 11 queries" in row)
        assert row.index(" n ") < row.index("over 11 queries")
        assert explorer.query_one("#curve").size.height > 16
    async with drive(walk, size=(100, 48)) as driven:
        row = next(row for row in driven.text().splitlines() if "over 11 queries" in row)
        assert " n " not in row


async def test_a_wide_report_has_a_second_page_beside_the_first(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(240, 30)) as driven:
        await driven.press("7")
        for _ in range(200):
            await driven.pilot.pause(0.02)
            if "lines 1 to" in driven.text():
                break
        rows = driven.text().splitlines()
        assert any(row[120:].strip() for row in rows[3:-3]), "the right half is empty"
        n = int(driven.text().split("lines 1 to ")[1].split()[0])
        assert n > len(rows)


def test_numbers_beside_a_linear_bar_have_the_same_decimals() -> None:
    labels = bar_labels(60, 0.0, 1.0, "linear")
    assert len({len(label) for label in labels.values()}) == 1
    assert np.allclose(sorted(map(float, labels.values())), np.linspace(0, 1, len(labels)))


async def test_the_curve_is_dark_on_a_light_ground(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:

        def colors() -> set[str]:
            rows = driven.app.explorer.query_one("#curve")._rows
            return {str(each.style.color.name) for row in rows for each in row if each.style and each.style.color}

        for _ in range(200):
            await driven.pilot.pause(0.02)
            if colors():
                break
        assert CURVE_COLOR in colors()
        await driven.press("t")
        assert CURVE_COLOR_ON_LIGHT in colors()
        assert CURVE_COLOR not in colors()
