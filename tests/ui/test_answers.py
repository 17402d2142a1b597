"""From a cell to its tokens, queries, the map, find, pins, zoom, order, copies and exports: by keys, in the app."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import Input

from laminar_tui.export import ExportOptions, export_bytes
from laminar_tui.profile.profile import Profile
from laminar_tui.render.entries import exact
from laminar_tui.render.text import token_label
from laminar_tui.run import Request
from laminar_tui.ui.explorer import Terminal
from laminar_tui.ui.widgets import HeatmapView, PatternView

Drive = Callable[..., Any]
Dense = list[Any]


async def find(driven: Any, typed: str) -> None:
    """Press `/`, type, and press Enter."""
    await driven.press("slash")
    driven.app.explorer.query_one("#find", Input).value = typed
    await driven.press("enter")


async def ended(driven: Any) -> None:
    await driven.until(lambda: not driven.app.explorer.runner.is_running, "the run has ended")


def behind(driven: Any) -> str:
    lines = driven.app.explorer.query_one("#behind")
    return "\n".join(lines.render_line(y).text for y in range(lines.size.height))


def above(dense: Dense, layer: int, low: float, head: int | None = None) -> list[tuple[float, int, int]]:
    """The last query's weights on other keys from `low` up: (weight, head, key), found by looking at each."""
    pattern = dense[layer]
    heads = range(len(pattern)) if head is None else [head]
    n = pattern.shape[-1]
    found = [(float(pattern[h, -1, k]), h, k) for h in heads for k in range(n - 1) if pattern[h, -1, k] >= low]
    return sorted(found, key=lambda each: (-each[0], each[1:]))


# -- the entries behind a cell -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_tab_lists_what_is_behind_the_crosshair(
    drive: Drive, walk: Profile, dense: Dense, size: tuple[int, int]
) -> None:
    async with drive(walk, size=size) as driven:
        await find(driven, "2>0.3")
        await driven.press("tab")
        expected = above(dense, 2, 0.3)
        assert len(expected) >= 4
        text = behind(driven)
        assert "layer 2: " in text
        assert f"{len(expected)} weights above" in " ".join(text.split())
        rows = [line.split() for line in text.replace("►", " ").splitlines() if re.match(r" \d+ +\d", line)]
        assert [(int(row[0]), row[-1]) for row in rows] == [(h, exact(w)) for w, h, _ in expected][: len(rows)]
        assert len(rows) >= min(len(expected), 4)


async def test_where_there_is_room_the_entries_are_always_there(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        assert "layer 0: " in behind(driven)
        await driven.press("l", "l")
        assert "layer 2: " in behind(driven)
    async with drive(walk) as driven:
        assert not driven.app.explorer.query_one("#behind").display


async def test_enter_on_an_entry_opens_its_head_with_its_query(drive: Drive, walk: Profile, dense: Dense) -> None:
    async with drive(walk) as driven:
        await find(driven, "2>0.3")
        await driven.press("tab", "j", "j", "k")
        _, head, key = above(dense, 2, 0.3)[1]
        await driven.press("enter")
        assert (driven.state.view, driven.state.head_index, driven.state.key) == ("head", head, key)
        assert driven.state.query_index == 11
        assert f"layer 2 › head {head}" in driven.row("where")


async def test_the_list_stops_at_its_ends_and_begins_anew_for_another_cell(
    drive: Drive, walk: Profile, dense: Dense
) -> None:
    async with drive(walk) as driven:
        await find(driven, "2>0.3")
        n = len(above(dense, 2, 0.3))
        await driven.press("tab", *["j"] * (n + 3))
        assert driven.state.entry == n - 1
        await driven.press("l")
        assert driven.state.entry == 0
        assert driven.state.listing
        await driven.press("k", "escape")
        assert (driven.state.entry, driven.state.listing, driven.state.view) == (0, False, "overview")


async def test_v_looks_at_the_crosshairs_row_only(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        heat = driven.app.explorer.query_one(HeatmapView)
        await driven.press("J", "v")
        row = behind(driven)
        columns = driven.app.explorer._scene.columns
        low, _, n = columns.in_band(0, *heat.band)
        assert f"in {low:.3g}–" in row
        assert n >= 1
        await driven.press("v")
        assert "above" in behind(driven)


async def test_big_j_and_k_go_to_rows_that_hold_weights(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        heat = driven.app.explorer.query_one(HeatmapView)
        columns = driven.app.explorer._scene.columns
        hits, values = columns.counts.hits[0], np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(float)
        rows = heat.rows
        filled = sorted({min(int(v * rows), rows - 1) for v, n in zip(values, hits, strict=True) if n})
        seen = []
        for _ in filled:
            await driven.press("J")
            seen.append(int(heat.band[0] * rows + 0.5))
        assert seen == sorted(filled, reverse=True)
        await driven.press("J")
        assert int(heat.band[0] * rows + 0.5) == filled[-1]
        await driven.press("K")
        assert int(heat.band[0] * rows + 0.5) == filled[0]


async def test_a_saved_profile_says_what_it_cannot_list(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        assert "such weights were counted" not in behind(driven)
        await driven.press("p", "p")
        assert "such weights were counted" in behind(driven)
        assert "the last query only" in " ".join(behind(driven).split())


async def test_after_a_run_all_queries_are_listed(drive: Drive, script: Any, dense: Dense) -> None:
    async with drive(request=Request(), size=(160, 48)) as driven:
        await ended(driven)
        await driven.press("p", "p")
        assert driven.state.look.population == "past"
        await find(driven, "2>0.5")
        pattern = dense[2]
        n = sum(float(pattern[h, q, k]) >= 0.5 for h in range(4) for q in range(1, 12) for k in range(q))
        await driven.until(lambda: f"{n} " in behind(driven).split("weights")[0], f"{n} weights")
        assert "such weights were counted" not in behind(driven)
        assert ("entries", 2, None, "past", "with") in script.patterns.asked


async def test_a_profile_of_several_prompts_has_no_entries_and_says_so(drive: Drive, walk: Profile) -> None:
    from dataclasses import replace

    layers = tuple(layer and replace(layer, final_weights=None) for layer in walk.layers)
    async with drive(replace(walk, layers=layers), size=(160, 48)) as driven:
        assert re.search(r"layer 0: [\d,]+ weights.*, whose tokens are not at hand", behind(driven))
        await driven.press("enter", "enter", "m", "escape", "comma")
        assert driven.state.view == "head"


# -- queries and the map -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("script")
async def test_queries_are_stepped_through_and_named(drive: Drive, dense: Dense) -> None:
    async with drive(request=Request()) as driven:
        await ended(driven)
        await driven.press("3", "comma", "comma")
        row = dense[0][0, 9]
        top = int(row.argmax())
        await driven.until(lambda: "query 9 " in driven.text(), "the query is named")
        await driven.until(lambda: f"({top}) {float(row[top]):.3g}" in driven.text(), "its heaviest key is first")
        await driven.press("full_stop", "full_stop", "full_stop")
        assert "final token looks at:" in driven.text()
        assert driven.state.query == -1
        await driven.press(*["comma"] * 20)
        assert driven.state.query_index == 0


@pytest.mark.usefixtures("script")
async def test_the_query_is_underlined_among_the_tokens(drive: Drive) -> None:
    async with drive(request=Request()) as driven:
        await ended(driven)
        await driven.press("3", "comma", "comma", "comma")
        await driven.pilot.pause(0.1)
        tokens = driven.app.explorer.query_one("#tokens")
        marked = [
            segment.text
            for y in range(tokens.size.height)
            for segment in tokens.render_line(y)
            if segment.style and segment.style.underline
        ]
        name = token_label(driven.state.profile.origin.tokens[8])
        assert marked == [name]


async def test_a_saved_profile_says_why_there_is_one_query_only(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("3", "comma")
        assert driven.state.query_index == 11
        assert "a saved profile holds the last query's weights only" in driven.row("status")
        await driven.press("m")
        assert "a saved profile holds the last query's weights only" in driven.row("title")
        assert "╱" in driven.text()
        await driven.press("k")
        assert "weight not at hand" in driven.row("summary")


@pytest.mark.usefixtures("script")
async def test_the_map_shows_the_weight_under_its_crosshair(drive: Drive, dense: Dense) -> None:
    async with drive(request=Request()) as driven:
        await ended(driven)
        await driven.press("2", "l", "enter", "enter")
        assert driven.state.view == "map"
        assert driven.app.explorer.query_one(PatternView).display
        await driven.press("k", "k", "l", "l", "l")
        await driven.until(lambda: f"weight {dense[0][1, 9, 3]:.4f}" in driven.row("summary"), "query 9, key 3")
        rank = int((dense[0][1, 9] > dense[0][1, 9, 3]).sum()) + 1
        assert f"rank {rank} of 10" in driven.row("summary")
        await driven.press("G")
        assert driven.state.key == 9
        await driven.press("g", "right_curly_bracket")
        assert (driven.state.head_index, driven.state.key) == (2, 0)
        await driven.until(lambda: f"weight {dense[0][2, 9, 0]:.4f}" in driven.row("summary"), "another head")
        await driven.press("escape")
        assert driven.state.view == "head"


@pytest.mark.usefixtures("script")
async def test_a_click_on_the_map_goes_there(drive: Drive) -> None:
    async with drive(request=Request(), size=(160, 48)) as driven:
        await ended(driven)
        await driven.press("m")
        await driven.until(lambda: driven.app.explorer._scene.rows is not None, "the weights are there")
        view = driven.app.explorer.query_one(PatternView)
        layout = view._drawing.layout
        await driven.pilot.click(view, offset=(layout.gutter + 2 * layout.across, 7 * layout.down // 2))
        assert (driven.state.query_index, driven.state.key) == (7, 2)


async def test_after_a_run_it_says_which_weights_are_kept_and_which_are_read_again(drive: Drive, script: Any) -> None:
    script.patterns.run_again = (2, 3)
    script.patterns.scope = "every query; layers 2-3 are run again when asked for"
    scope = f"exact weights: {script.patterns.scope}"
    async with drive(request=Request(), size=(160, 48)) as driven:
        await ended(driven)
        await driven.until(lambda: scope in driven.row("status"), "it is said once")
        await driven.press("l")
        assert f"not saved (w writes)  {scope}" in driven.row("status")
        await driven.press("i")
        assert "every query; layers 2-3 are run again when asked for" in " ".join(driven.text().split())
        await driven.press("escape", "l", "3")
        script.patterns.answers.clear()
        try:
            await driven.press("m")
            assert "layer 2 is run again for exact weights" in driven.row("status")
        finally:
            script.patterns.answers.set()
        await driven.until(lambda: driven.app.explorer._scene.weights is not None, "the weights have come")
        await driven.until(lambda: "run again for" not in driven.row("status"), "it waits no more")


async def test_of_a_saved_profile_it_says_that_only_the_last_query_is_there(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        assert "exact weights: the last query only (saved profile)" in driven.row("status")


# -- find --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("3", ("overview", 3, 0)),
        ("3.4", ("head", 3, 4)),
        ("L2H1", ("head", 2, 1)),
        ("H2", ("head", 0, 2)),
        ("3>0.5", ("overview", 3, 0)),
    ],
)
async def test_a_place_is_gone_to(drive: Drive, walk: Profile, typed: str, place: tuple[str, int, int]) -> None:
    async with drive(walk) as driven:
        await driven.press("slash", *[{".": "full_stop", ">": "greater_than_sign"}.get(c, c) for c in typed], "enter")
        assert (driven.state.view, driven.state.layer_index, driven.state.head_index) == place
        await driven.press("h")  # the keys are the explorer's again
        assert driven.state.layer_index == place[1] - (place[0] == "overview")


async def test_inside_a_layer_a_place_does_not_leave_the_view(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("2")
        await find(driven, "3.4")
        assert (driven.state.view, driven.state.layer_index, driven.state.head_index) == ("layer", 3, 4)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("9", "there is no layer 9: they are 0 to 4"),
        ("0.7", "layer 0 has no head 7: its heads are 0 to 3"),
        ("1.0", "layer 1 has no head 0: its layer has no attention weights"),
        ("zebra", "no token has the text 'zebra'"),
        (">7", "nothing to go to"),
        ("", "nothing to go to"),
    ],
)
async def test_what_cannot_be_gone_to_is_answered(drive: Drive, walk: Profile, typed: str, said: str) -> None:
    async with drive(walk) as driven:
        before = driven.state
        await find(driven, typed)
        assert said in driven.row("status")
        assert driven.state == before


async def test_esc_leaves_the_line_and_no_key_acts_while_it_is_typed(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        before = driven.state
        await driven.press("slash", "q", "l", "tab", "S", "escape")
        assert driven.state == before
        assert driven.app.screen is driven.app.explorer
        assert not driven.app.explorer.has_class("-finding")
        await driven.press("l")
        assert driven.state.layer_index == 1


async def test_a_goal_that_is_pasted_is_harmless(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("slash")
        line = driven.app.explorer.query_one("#find", Input)
        line.insert_text_at_cursor("a\x1b]0;x\x07")
        assert "\x1b" not in driven.text()


@pytest.mark.usefixtures("script")
async def test_tokens_are_found_one_after_another(drive: Drive) -> None:
    async with drive(request=Request()) as driven:
        await ended(driven)
        await driven.press("3")
        await find(driven, "token1")
        tokens = driven.state.profile.origin.tokens
        expected = [at for at, token in enumerate(tokens) if "token1" in token]
        assert len(expected) >= 2
        seen = [driven.state.query_index]
        assert f"1 of {len(expected)}" in driven.row("status")
        for _ in expected[1:]:
            await driven.press("n")
            seen.append(driven.state.query_index)
        assert seen == expected
        await driven.press("n", "N")
        assert driven.state.query_index == expected[-1]
        await driven.press("m")
        await driven.press("n")
        assert driven.state.key == expected[0]


async def test_in_a_saved_profile_a_token_is_told_with_its_weight(drive: Drive, walk: Profile, dense: Dense) -> None:
    async with drive(walk, size=(120, 30)) as driven:
        await find(driven, "token3")
        assert driven.state.view == "head"
        assert f"gets {float(dense[0][0, -1, 3]):.4f} from the final token" in driven.row("status")


async def test_n_without_a_search_says_so(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("n")
        assert "nothing was searched for yet" in driven.row("status")


# -- pins, zoom, order -------------------------------------------------------------------------------------------------


async def test_pinned_curves_are_named_outside_of_the_plot(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        alone = driven.text()
        await driven.press("space")
        assert "density, layer 0 (pinned)" in driven.text()
        await driven.press("l", "l")
        assert "━ layer 2" in driven.text()
        assert "━ layer 0" in driven.text()
        await driven.press("space", "l", "space", "l")
        assert max(line.count("━L") for line in driven.text().splitlines()) == 4
        assert driven.state.pins == ((0, None), (2, None), (3, None))
        await driven.press("space", "2", "space")
        assert driven.state.pins == ((3, None), (4, None), (4, 0))
        await driven.press("space")
        assert driven.state.pins == ((3, None), (4, None))
        assert "density, layer 0" in alone


async def test_a_pinned_curve_follows_the_look(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("space", "l", "l")
        first = driven.app.explorer._scene.pins[0]
        await driven.press("s")
        second = driven.app.explorer._scene.pins[0]
        assert first.label == second.label == "layer 0"
        assert not np.array_equal(first.y, second.y)


async def test_the_axis_is_zoomed_around_the_crosshair_and_back(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(120, 40)) as driven:
        heat = driven.app.explorer.query_one(HeatmapView)
        await find(driven, ">0.5")
        await driven.press("plus")
        assert driven.state.look.weights == pytest.approx((0.25, 0.75))
        assert "zoom 0.25–0.75" in driven.row("title")
        low, high = (driven.state.look.weight_at(at) for at in heat.band)
        assert low <= 0.5 <= high
        axis = [heat.render_line(y).text[:7] for y in range(heat.rows)]
        assert "".join(row[0] for row in axis).strip() == "weight"
        labels = [row[2:].strip("┤│► ") for row in axis]
        ticks = [float(label) for label in labels if label]
        assert len(ticks) >= 3
        steps = {round(a - b, 6) for a, b in pairwise(ticks)}
        assert len(steps) == 1
        await driven.press(*["plus"] * 12)
        assert driven.state.look.high - driven.state.look.low == pytest.approx(1 / 64)
        await driven.press("minus")
        assert driven.state.look.high - driven.state.look.low == pytest.approx(1 / 32)
        await driven.press("0")
        assert driven.state.look.window is None
        await driven.press("minus")
        assert driven.state.look.window is None


async def test_a_zoomed_column_still_holds_what_is_counted(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(120, 40)) as driven:
        await driven.press("plus", "plus")
        columns = driven.app.explorer._scene.columns
        cells = columns.densities(64)
        whole = columns.nodes.mean(np.array([0.0, 0.25]))[0, 0]
        assert cells[0].mean() == pytest.approx(whole)


async def test_a_crosshair_that_leaves_the_zoom_takes_it_along(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("plus", "plus")
        heat = driven.app.explorer.query_one(HeatmapView)
        await driven.press(*["k"] * heat.rows)
        assert driven.state.look.weights == pytest.approx((0.125, 0.375))


async def test_heads_are_ordered_by_a_statistic_and_keep_their_numbers(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await find(driven, "3")
        await driven.press("2", "o")
        assert "heads by sink share" in driven.row("title")
        values = walk.layer(3).statistics["sink_share"]
        order = np.argsort(-values, kind="stable").tolist()
        heat = driven.app.explorer.query_one(HeatmapView)
        *labels, name = heat.render_line(heat.size.height - 1).text.split()
        assert [int(word.strip("[]")) for word in labels] == order
        assert name == "head"
        await driven.press("g")
        seen = [driven.state.head_index]
        for _ in order[1:]:
            await driven.press("l")
            seen.append(driven.state.head_index)
        assert seen == order
        assert f"head {order[-1]} " in driven.row("summary")
        for _ in range(6):
            await driven.press("o")
        assert driven.state.order == ""


# -- copies and files --------------------------------------------------------------------------------------------------


async def test_the_line_of_numbers_is_copied(drive: Drive, walk: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    async with drive(walk) as driven:
        await driven.press("y")
        assert driven.app.clipboard.startswith("layer 0  ")
        assert "bandwidth" in driven.app.clipboard
        assert driven.row("status").strip() == "copied the line"
        await driven.press("tab", "y")
        assert driven.app.clipboard.startswith("layer 0: ")


async def test_in_tmux_the_setting_that_it_needs_is_named(
    drive: Drive, walk: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMUX", "x")
    async with drive(walk) as driven:
        await driven.press("y")
        assert "set -g set-clipboard on" in driven.row("status")


async def test_tables_are_copied_with_tabs(drive: Drive, walk: Profile, dense: Dense) -> None:
    async with drive(walk) as driven:
        await driven.press("Y")
        rows = [line.split("\t") for line in driven.app.clipboard.splitlines()]
        assert rows[0][:3] == ["layer", "n", "mean"]
        assert [row[0] for row in rows[1:]] == ["0", "2", "3", "4"]
        await driven.press("2", "Y")
        assert driven.app.clipboard.startswith("head\tn\t")
        await driven.press("3", "Y")
        rows = [line.split("\t") for line in driven.app.clipboard.splitlines()]
        assert [float(row[2]) for row in rows[1:]] == pytest.approx(dense[0][0, -1].tolist(), rel=1e-5)
        await driven.press("2", "tab", "Y")
        rows = [line.split("\t") for line in driven.app.clipboard.splitlines()]
        assert rows[0] == ["head", "query", "query_token", "key", "key_token", "weight", "lift"]
        assert all(float(row[6]) == pytest.approx(float(row[5]) * (int(row[1]) + 1), rel=1e-4) for row in rows[1:])
        assert len(driven.app.clipboard.splitlines()) == 12


async def test_hostile_tokens_are_copied_harmless(drive: Drive, hostile: Profile) -> None:
    async with drive(hostile) as driven:
        await driven.press("3", "Y")
        text = driven.app.clipboard
        assert len(text.splitlines()) == 13
        assert not [c for c in text if c < " " and c not in "\t\n"]
        assert "\u202e" not in text


async def test_a_table_is_cut_where_a_terminal_would_drop_it() -> None:
    from laminar_tui.ui.writing import MAX_COPIED, as_tsv

    rows = [["x" * 99, "y"]] * 2000
    text, n = as_tsv(rows)
    assert 400 < n < 2000
    assert len(text.splitlines()) == n
    assert 4 * len(text) / 3 <= MAX_COPIED


@pytest.mark.parametrize("suffix", [".csv", ".svg", ".json"])
async def test_an_export_is_what_its_name_ends_in(drive: Drive, walk: Profile, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    async with drive(walk) as driven:
        await driven.press("x")
        driven.app.screen.query_one(Input).value = str(target)
        await driven.press("enter")
        await driven.until(lambda: "wrote " in driven.row("status"), "it is written")
    if suffix == ".csv":
        assert len(target.read_text().splitlines()) == 1 + 4 + 4 + 5 + 4
    assert target.stat().st_size > 1000


async def test_a_figure_has_the_zoom_the_order_and_the_colours_of_the_screen(
    drive: Drive, walk: Profile, tmp_path: Path
) -> None:
    target = tmp_path / "out.svg"
    async with drive(walk) as driven:
        await driven.press("2", "o", "p", "s", "a", "K", "K", "K", "plus", "c", "x")
        state = driven.state
        driven.app.screen.query_one(Input).value = str(target)
        await driven.press("enter")
        await driven.until(lambda: "wrote " in driven.row("status"), "it is written")
    look = state.look
    assert look.window not in (None, (look.method.low, look.method.high))
    assert state.heads != tuple(range(4))
    shown = ExportOptions(
        estimator=look.estimator,
        population=look.population,
        sink=look.sink,
        layer=0,
        color_map=state.color_map,
        window=look.window,
        heads=state.heads,
    )
    assert target.read_bytes() == export_bytes(walk, "svg", shown)
    for other in (replace(shown, window=None), replace(shown, heads=None), replace(shown, color_map="viridis")):
        assert target.read_bytes() != export_bytes(walk, "svg", other)


async def test_an_export_needs_a_known_ending(drive: Drive, walk: Profile, tmp_path: Path) -> None:
    async with drive(walk) as driven:
        await driven.press("x")
        driven.app.screen.query_one(Input).value = str(tmp_path / "out.xyz")
        await driven.press("enter")
        assert "end the name with one of .npz .json .csv .svg .png" in driven.text()
        await driven.press("enter")
        await driven.until(lambda: driven.app.explorer.has_class("-failed"), "the second Enter fails")
        assert "no format ends in '.xyz'" in driven.text()
    assert list(tmp_path.iterdir()) == []


async def test_a_screenshot_is_of_the_screen_and_not_of_its_dialog(drive: Drive, walk: Profile, tmp_path: Path) -> None:
    target = tmp_path / "screen.svg"
    async with drive(walk) as driven:
        await driven.press("S")
        driven.app.screen.query_one(Input).value = str(target)
        await driven.press("enter")
        await driven.until(lambda: "wrote " in driven.row("status"), "it is written")
    svg = target.read_text()
    assert svg.startswith("<svg")
    assert "layer&#160;0" in svg
    assert "screenshot&#160;to" not in svg


async def test_ascii_stays_ascii_with_all_that_is_new(drive: Drive, hostile: Profile) -> None:
    async with drive(hostile, size=(160, 48), terminal=Terminal("none", ascii_only=True)) as driven:
        for keys in (["space", "l", "l"], ["tab"], ["escape", "m"], ["k"], ["3"], ["2", "o"]):
            await driven.press(*keys)
            assert driven.text().isascii(), keys


async def test_the_crosshairs_row_is_told_after_a_head(drive: Drive, walk: Profile) -> None:
    """While a head is shown the picture has no size, and so no rows."""
    async with drive(walk, size=(120, 36)) as driven:
        await driven.press("J")
        before = driven.text().splitlines()[-3]
        assert "1 of 44 weights in 0.7" in before
        for way in (("3", "1"), ("2", "3", "escape", "escape")):
            await driven.press(*way)
            await driven.pilot.pause(0.1)
            assert driven.text().splitlines()[-3] == before, way
