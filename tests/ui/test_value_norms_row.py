"""The explorer's head view names the heaviest keys with the norms of their value vectors, of any query."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.profile.profile import Profile
from laminar_tui.render.text import token_label

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
        assert shown[0].startswith("final token looks at:")
        assert shown[1].startswith(wanted + f"{100 * share:.1f}"[:2])
        assert "token0" in shown[2]
    async with drive(walk, size=size) as driven:
        await driven.press("enter", "enter")
        assert not any("value norm" in line for line in lines(driven))
