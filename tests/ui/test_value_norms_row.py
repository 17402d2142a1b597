"""The explorer's head view names the heaviest keys with the norms of their value vectors, of any query."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.profile.profile import Profile
from laminar_tui.render.entries import exact
from laminar_tui.render.text import token_label
from laminar_tui.run import Request
from laminar_tui.ui.widgets import PatternView

Drive = Callable[..., Any]


def lines(driven: Any) -> list[str]:
    widget = driven.app.explorer.query_one("#tokens")
    return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_the_heaviest_keys_have_their_norms(
    drive: Drive, walk: Profile, dense: list[NDArray[np.float32]], size: tuple[int, int]
) -> None:
    norms = np.random.default_rng(0).uniform(0.5, 2, (4, 12)).astype(np.float32)
    layers = (replace(walk.layer(0), value_norms=norms), *walk.layers[1:])
    async with drive(replace(walk, layers=layers), size=size) as driven:
        await driven.press("enter", "enter")
        assert driven.state.view == "head"
        head = driven.state.head_index
        weights = dense[0][head, -1]
        top = int(weights.argmax())
        share = weights[top] * norms[head, top] / (weights * norms[head]).sum()
        token = token_label(walk.origin.tokens[top])
        norm = norms[head, top] / norms[head].mean()
        wanted = f"weight × value norm:  {token} ({top}) {weights[top]:.3g} × {norm:.3g} → "
        shown = lines(driven)
        lift = f" {12 * weights[top]:.3g}× uniform" if size[0] >= 100 else ""
        assert shown[0].startswith(f"final token looks at:  {token} ({top}) {weights[top]:.3g}{lift}  ")
        assert shown[1].startswith(wanted + f"{100 * share:.1f}"[:2])
        assert "token0" in shown[2]
    async with drive(walk, size=size) as driven:
        await driven.press("enter", "enter")
        assert not any("value norm" in line for line in lines(driven))


@pytest.fixture
def long_key(walk: Profile) -> Profile:
    """Layer 0 with one value vector, of key 5, that is four hundred times as long as the others."""
    norms = np.ones((4, 12), np.float32)
    norms[:, 5] = 400
    return replace(walk, layers=(replace(walk.layer(0), value_norms=norms), *walk.layers[1:]))


def shares_of(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    norms = np.ones(12)
    norms[5] = 400
    return weights * norms / (weights * norms).sum()


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_big_v_colours_and_sorts_a_head_by_what_its_keys_bring(
    drive: Drive, long_key: Profile, dense: list[NDArray[np.float32]], size: tuple[int, int]
) -> None:
    async with drive(long_key, size=size) as driven:
        await driven.press("enter", "enter")
        before = lines(driven)
        await driven.press("V")
        weights = dense[0][driven.state.head_index, -1]
        shares = shares_of(weights)
        assert shares.argmax() == 5 != weights.argmax()
        shown = lines(driven)
        key = f"{token_label(long_key.origin.tokens[5])} (5) {100 * shares[5]:.1f} % at {weights[5]:.3g}"
        assert shown[0].startswith(f"final token takes from (share at weight):  {key}")
        scene = driven.app.explorer._scene
        np.testing.assert_allclose(scene.query_shares, shares, rtol=1e-5)
        await driven.press("Y")
        rows = [line.split("\t") for line in driven.app.clipboard.splitlines()]
        assert rows[0] == ["key", "token", "weight", "lift", "value_norm", "share"]
        assert [float(row[5]) for row in rows[1:]] == pytest.approx(shares.tolist(), rel=1e-4)
        assert [float(row[3]) for row in rows[1:]] == pytest.approx((12 * weights).tolist(), rel=1e-4)
        await driven.press("V")
        assert lines(driven) == before


async def test_big_v_colours_the_map_by_it(
    drive: Drive, script: Any, long_key: Profile, dense: list[NDArray[np.float32]]
) -> None:
    script.profile = long_key
    async with drive(None, Request(prompt="x"), size=(120, 30)) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the run has ended")
        await driven.press("3", "m")
        explorer = driven.app.explorer
        await driven.until(lambda: explorer._scene.weights is not None, "the weights have come")
        drawn = explorer.query_one(PatternView)
        assert drawn._rows is explorer._scene.rows
        await driven.press("V")
        for query in (6, 11):
            shares = shares_of(dense[0][0, query])
            np.testing.assert_allclose(drawn._rows.of(query), shares, rtol=1e-4, atol=1e-7)
        assert "share of weight × value norm of every key" in driven.row("title")
        text = " ".join(driven.text().split())
        shares, weights = shares_of(dense[0][0, 11]), dense[0][0, 11]
        assert f"{100 * shares[5]:.1f} %" in text
        await driven.press("g", *["l"] * 5)
        said = dict(re.findall(r"(weight|× value norm|= share) {3,}(\S+)", driven.text()))
        assert said == {"weight": exact(float(weights[5])), "× value norm": "11.7", "= share": f"{100 * shares[5]:.1f}"}
        assert "rank 1 of 12" in driven.row("summary")


async def test_entries_have_lift_and_value_norm(drive: Drive, long_key: Profile) -> None:
    async with drive(long_key, size=(200, 48)) as driven:
        await driven.press("tab")
        panel = driven.app.explorer.query_one("#behind")
        rows = [panel.render_line(y).text for y in range(panel.size.height)]
        (heading,) = [row for row in rows if row.startswith(" head")]
        assert heading.split()[-4:] == ["lift", "×", "norm", "weight"]
        found = driven.app.explorer._scene.entries
        at = int(np.flatnonzero(found.key == 5)[0])
        weight = float(found.weight[at])
        await driven.press(*["j"] * at)
        (row,) = [row.split() for y in range(panel.size.height) if (row := panel.render_line(y).text).startswith("►")]
        assert row[-3:] == [f"{12 * weight:#.3g}", "11.7", exact(weight)]
        said = driven.row("summary")
        assert f"weight {exact(weight)}  {12 * weight:#.3g} × uniform  × value norm 11.7" in said
        await driven.press("Y")
        table = [line.split("\t") for line in driven.app.clipboard.splitlines()]
        assert table[0][-3:] == ["weight", "lift", "value_norm"]
        assert float(table[1 + at][-1]) == pytest.approx(4800 / 411, rel=1e-4)


async def test_big_v_says_why_there_are_no_norms(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("3", "V")
        assert not driven.state.by_value
        assert "the profile holds no value norms: capture it again" in driven.row("status")
