"""Profiles to walk over, the app in Textual's pilot, and a session that is no model."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from textual.pilot import Pilot

from laminar_tui.profile.patterns import Entries
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import Roles
from laminar_tui.run import PromptFacts, Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.state import State

HOSTILE = "\x1b]52;c;aGk=\x07[bold]x[/]\u202eevil\u200b\x9b2J"
"""Writes the clipboard, closes a style that was not opened, turns the line around, clears the screen."""


@dataclass
class Driven:
    """An app in the pilot's hands."""

    app: LaminarApp
    pilot: Pilot[None]

    @property
    def state(self) -> State:
        """What the explorer shows."""
        return self.app.explorer.state

    def text(self) -> str:
        """The screen as text, row by row."""
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    def row(self, name: str) -> str:
        """The text of one of the explorer's one-row widgets."""
        return self.app.explorer.query_one(f"#{name}").render_line(0).text

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until what they do is done."""
        await self.pilot.press(*keys)

    async def until(self, holds: Callable[[], bool], what: str = "") -> None:
        """Wait for a condition, ten seconds at most."""
        for _ in range(1000):
            if holds():
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"never: {what}\n{self.text()}")


Drive = Callable[..., AbstractAsyncContextManager[Driven]]


@pytest.fixture(scope="session")
def dense(patterns: Callable[..., Any]) -> list[NDArray[np.float32] | None]:
    """The patterns behind `walk`, [n_heads, query, key]; 0 where a query sees no key."""
    return [patterns(1, 4, 12), None, patterns(2, 4, 12, spread=5.0), patterns(3, 5, 12), patterns(4, 4, 12)]


@pytest.fixture(scope="session")
def walk(dense: list[NDArray[np.float32] | None], make_profile: Callable[..., Profile]) -> Profile:
    """Five layers of 4, no, 4, 5 and 4 heads on 12 tokens."""
    return make_profile(dense)


class DensePatterns:
    """A source of exact weights that holds every pattern, and finds entries by looking at each weight in turn."""

    has_all_queries = True
    scope = "every query"

    def __init__(self, dense: list[NDArray[np.float32] | None], members: Callable[..., NDArray[np.bool_]]) -> None:
        self.dense = dense
        self.members = members
        self.asked: list[tuple[Any, ...]] = []
        self.run_again: tuple[int, ...] = ()
        self.answers = threading.Event()  # questions about those layers wait for it
        self.answers.set()

    def until(self, is_cancelled: Callable[[], bool]) -> "DensePatterns":
        del is_cancelled
        return self

    def reads_again(self, layer: int) -> bool:
        return layer in self.run_again

    def rows(self, layer: int, head: int, first: int, last: int) -> NDArray[np.float32]:
        self.asked.append(("rows", layer, head, first, last))
        assert not self.reads_again(layer) or self.answers.wait(10)
        pattern = self.dense[layer]
        assert pattern is not None
        rows = pattern[head].copy()
        rows[~np.tril(np.ones(rows.shape, bool))] = np.nan
        return rows[first:last]

    def pattern(self, layer: int, head: int) -> NDArray[np.float32]:
        return self.rows(layer, head, 0, self.dense[layer].shape[-1])  # type: ignore[union-attr]

    def entries(
        self,
        layer: int,
        low: float,
        high: float,
        *,
        population: str,
        sink: str,
        head: int | None = None,
        limit: int = 1000,
    ) -> Entries:
        self.asked.append(("entries", layer, head, population, sink))
        pattern = self.dense[layer]
        assert pattern is not None
        chosen = self.members(population, sink, pattern.shape[-1])
        found = []
        for h in range(len(pattern)) if head is None else [head]:
            for q, k in zip(*np.nonzero(chosen), strict=True):
                weight = float(pattern[h, q, k])
                if low <= weight and (weight < high or high >= 1):
                    found.append((weight, h, int(q), int(k)))
        found.sort(key=lambda each: (-each[0], *each[1:]))
        columns = [np.array([each[at] for each in found[:limit]]) for at in range(4)]
        weights, heads, queries, keys = columns
        return Entries(
            heads.astype(np.int64),
            queries.astype(np.int64),
            keys.astype(np.int64),
            weights.astype(np.float32),
            len(found),
        )


@pytest.fixture(scope="session")
def hostile(walk: Profile) -> Profile:
    """The same, with a name and tokens that mean harm."""
    tokens = (HOSTILE, "[/]", "[red]", "\x1b", "\x9b31m", "\u202e", "漢字", "e\u0301", "\r", "\n", "\t", "\ud800")
    return replace(walk, origin=replace(walk.origin, model=HOSTILE, revision=HOSTILE, tokens=tokens))


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what the program remembers (recent profiles) out of the home of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "state"


@pytest.fixture
def drive() -> Drive:
    """Open the app on a profile or a request: `async with drive(profile, size=(80, 24)) as driven`."""

    @asynccontextmanager
    async def open_app(
        profile: Profile | None = None,
        request: Request | None = None,
        size: tuple[int, int] = (80, 24),
        **options: Any,
    ) -> AsyncIterator[Driven]:
        app = LaminarApp(State(profile), request, **options)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield Driven(app, pilot)
            app.explorer.runner.cancel()
            thread = app.explorer.runner._thread
            if thread is not None:
                thread.join(5)

    return open_app


@dataclass
class Script:
    """What a fake session does at each run; a test replaces the parts it needs.

    Attributes:
        profile: what it reads, layer by layer.
        patterns: answers questions for exact weights afterwards.
        pace: called before each layer with its index and `is_cancelled`.
        seen: the requests so far.
        facts: what its tokenizer says of a prompt.
        nulls: what it reads as chance, by the null's name.
        roles: what its heads do.
    """

    profile: Profile
    patterns: DensePatterns
    pace: Callable[[int, Callable[[], bool]], None] = lambda _index, _is_cancelled: None
    seen: list[Request] = field(default_factory=list)
    facts: Callable[[Request], PromptFacts | None] = lambda _request: None
    nulls: dict[str, Profile] = field(default_factory=dict)
    roles: Roles | None = None


@pytest.fixture
def script(
    walk: Profile,
    dense: list[NDArray[np.float32] | None],
    entries_of_population: Callable[..., NDArray[np.bool_]],
    monkeypatch: pytest.MonkeyPatch,
) -> Script:
    """Replace the session by one that follows a script."""
    from laminar_tui.errors import CancelledError
    from laminar_tui.run import LayerRead, Started, Step

    script = Script(walk, DensePatterns(dense, entries_of_population))

    class FakeSession:
        def prompt_facts(self, request: Request) -> PromptFacts | None:
            return script.facts(request)

        def __init__(self) -> None:
            self.patterns = script.patterns

        def run_null(
            self, request: Request, null: str, on_event: Callable[..., None], is_cancelled: Callable[[], bool]
        ) -> Profile:
            script.seen.append(replace(request, null=null))
            for index in range(script.profile.n_layers):
                on_event(Step("forward", index, script.profile.n_layers))
                script.pace(index, is_cancelled)
                if is_cancelled():
                    raise CancelledError("stopped")
            return script.nulls[null]

        def measure_roles(
            self, profile: Profile, on_event: Callable[..., None], is_cancelled: Callable[[], bool]
        ) -> Profile:
            for done in range(3):
                on_event(Step("measuring roles", done, 3))
                script.pace(done, is_cancelled)
                if is_cancelled():
                    raise CancelledError("stopped")
            return replace(profile, roles=script.roles)

        def run(self, request: Request, on_event: Callable[..., None], is_cancelled: Callable[[], bool]) -> Profile:
            script.seen.append(request)
            profile = script.profile
            on_event(Started(replace(profile, layers=(None,) * profile.n_layers, roles=None)))
            for index, layer in enumerate(profile.layers):
                on_event(Step("forward", index, profile.n_layers))
                script.pace(index, is_cancelled)
                if is_cancelled():
                    raise CancelledError("stopped")
                if layer is not None:
                    on_event(LayerRead(index, layer))
            return profile

    monkeypatch.setattr("laminar_tui.ui.runner.Session", FakeSession)
    return script
