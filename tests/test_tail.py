"""Following another process's capture: layer by layer to the finished profile, and a word when that never comes."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laminar_tui import tail
from laminar_tui.errors import CancelledError, UsageError
from laminar_tui.profile.journal import Journal, partial_path
from laminar_tui.profile.profile import Profile
from laminar_tui.run import LayerRead, Request, Started, Step
from laminar_tui.tail import CutOffError, Following, print_growth


class Turns:
    """Stands for `time.sleep`: at each wait the other process does its next thing."""

    def __init__(self, *turns: Callable[[], object]) -> None:
        self._turns = list(turns)
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert self._turns, "it waits for ever"
        self._turns.pop(0)()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The file that the other process captures into."""
    return tmp_path / "out.laminar"


class Capture:
    """The other process's part."""

    def __init__(self, profile: Profile, output: Path) -> None:
        self._profile, self._output = profile, output
        self._journal: Journal | None = None

    def start(self) -> None:
        self._journal = Journal(partial_path(self._output))

    def begin(self) -> None:
        assert self._journal is not None
        self._journal.begin(replace(self._profile, layers=(None,) * self._profile.n_layers))

    def layer(self, index: int) -> Callable[[], None]:
        def add() -> None:
            assert self._journal is not None
            self._journal.add(index, self._profile.layer(index))

        return add

    def end(self) -> None:
        assert self._journal is not None
        self._profile.save(self._output)
        self._journal.remove()

    def die(self) -> None:
        assert self._journal is not None
        self._journal.close()


def follow(path: Path, events: list[Any]) -> Profile:
    return Following(path).run(Request(), events.append, lambda: False)


def nothing() -> None:
    pass


def test_it_waits_grows_and_ends_in_the_finished_profile(
    small_profile: Profile,
    output: Path,
    same_profile: Callable[[Profile, Profile], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, events = Capture(small_profile, output), []
    turns = Turns(
        nothing, other.start, nothing, other.begin, other.layer(0), nothing, nothing, nothing, other.layer(2), other.end
    )
    monkeypatch.setattr(tail.time, "sleep", turns)
    same_profile(follow(output, events), small_profile)
    assert min(turns.slept) >= 0.25, "four looks a second at most"
    assert len([event for event in events if isinstance(event, Started)]) == 1
    read = [event for event in events if isinstance(event, LayerRead)]
    assert [event.index for event in read] == [0, 2, 3], "each layer once; the last came with the file"
    assert isinstance(events[0], Step)
    assert events[0].name == f"waiting for {output}"


def test_a_file_that_is_there_is_shown_at_once(small_profile: Profile, output: Path) -> None:
    small_profile.save(output)
    events: list[Any] = []
    assert follow(output, events).n_read == 3
    assert len([event for event in events if isinstance(event, LayerRead)]) == 3


def test_a_capture_over_an_old_file_is_followed_instead_of_that(
    small_profile: Profile, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(small_profile, origin=replace(small_profile.origin, model="old"))
    old.save(output)
    other, events = Capture(small_profile, output), []
    other.start()
    monkeypatch.setattr(tail.time, "sleep", Turns(other.begin, other.layer(0), other.end))
    assert follow(output, events).origin.model == "tiny/model"
    assert [event.profile.origin.model for event in events if isinstance(event, Started)] == ["tiny/model"]


def test_a_capture_that_dies_is_told_with_what_it_left(
    small_profile: Profile, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, events = Capture(small_profile, output), []
    other.start()
    other.begin()
    monkeypatch.setattr(tail.time, "sleep", Turns(other.layer(0), nothing, other.die, nothing))
    with pytest.raises(CutOffError, match="cut off after 1 of 4 layers") as refused:
        follow(output, events)
    assert "out.laminar.partial" in refused.value.hint
    assert [event.index for event in events if isinstance(event, LayerRead)] == [0]


def test_leaving_is_heard(output: Path) -> None:
    gone = threading.Event()
    threading.Timer(0.05, gone.set).start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        Following(output).run(Request(), lambda _event: None, gone.is_set)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["no/out.laminar", "folder"])
def test_what_can_never_come_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError):
        Following(tmp_path / name)


def test_without_a_terminal_it_prints_a_line_for_each_layer(
    small_profile: Profile, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = replace(small_profile, origin=replace(small_profile.origin, model="\x1b[2Jevil"))
    other = Capture(hostile, output)
    turns = Turns(other.start, other.begin, other.layer(0), other.layer(2), other.layer(3), other.end)
    monkeypatch.setattr(tail.time, "sleep", turns)
    print_growth(output)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "␛[2Jevil: 4 layers, 12 tokens"
    assert [line.split("of")[0].split() for line in lines[1:4]] == [["layer", "0"], ["layer", "2"], ["layer", "3"]]
    assert "3 heads  33 final-token weights" in lines[1]
    assert lines[4] == f"done: {output}"
    assert "waiting for" in err
    assert "\x1b" not in out + err


def test_a_file_from_before_the_capture_is_not_its_result(
    small_profile: Profile, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_profile.save(output)
    capture = Capture(small_profile, output)
    capture.start()
    partial = partial_path(output)
    old = output.stat().st_mtime_ns - 10**9
    os.utime(output, ns=(old, old))
    monkeypatch.setattr(tail.time, "sleep", Turns(partial.unlink, lambda: None))
    with pytest.raises(CutOffError, match="ended without a result"):
        Following(output).run(Request(), lambda _event: None, lambda: False)
