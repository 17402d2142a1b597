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
from laminar_tui.errors import CancelledError, ProfileFileError, UsageError
from laminar_tui.profile.corpus_progress import Progress, write_progress
from laminar_tui.profile.journal import Journal, partial_path
from laminar_tui.profile.merge import merge
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


def read_corpus(profiles: list[Profile], share: float) -> Progress:
    progress = Progress(share=share, seconds_left=170.0)
    for number, profile in enumerate(profiles):
        progress.sums.add(profile, number)
        progress.see(list(profile.origin.token_ids))
    return progress


def test_a_corpus_is_followed_with_its_counts_so_far(
    small_profile: Profile, output: Path, same_profile: Callable[[Profile, Profile], None], monkeypatch: Any
) -> None:
    def keep(n: int, name: str = "out.laminar.progress") -> Callable[[], None]:
        return lambda: write_progress(read_corpus([small_profile] * n, n / 10), output.with_name(name))

    def end() -> None:
        merge([small_profile] * 4).save(output)
        for path in output.parent.glob("out.laminar.progress*"):
            path.unlink()

    keep(3, "other.laminar.progress")()
    second = "out.laminar.progress.1-of-2"
    monkeypatch.setattr(tail.time, "sleep", Turns(nothing, keep(2), nothing, keep(3), keep(1, second), end))
    events: list[Any] = []
    found = follow(output, events)
    assert found.origin.n_prompts == 4
    grown = [event.profile for event in events if isinstance(event, Started) and event.profile.n_read]
    assert [profile.origin.n_prompts for profile in grown] == [2, 3, 4], "read only when there is more"
    same_profile(Profile(found.origin, grown[-1].layers), found)
    said = list(dict.fromkeys(event.more for event in events if isinstance(event, Step) and event.more))
    assert said == [f"{n} % done, about 3 min left" for n in (20, 30, 10)], "of several, the one that is least far"
    assert not partial_path(output).exists()


def test_a_corpus_that_keeps_nothing_more_may_be_interrupted(
    small_profile: Profile, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = output.with_name("out.laminar.progress")
    write_progress(read_corpus([small_profile], 0.5), kept)
    old = time.time() - 600
    os.utime(kept, (old, old))
    monkeypatch.setattr(tail.time, "sleep", lambda _seconds: None)
    events: list[Any] = []
    with pytest.raises(CancelledError):
        Following(output).run(Request(), events.append, lambda: bool(events))
    assert "kept about 10 min ago; if it was interrupted, --resume goes on" in events[0].more
    kept.write_bytes(b"laminar-partial 2\nnothing of it")
    with pytest.raises(ProfileFileError, match="damaged"):
        follow(output, [])


def test_without_a_terminal_a_corpus_is_a_line_each_time_that_it_is_kept(
    small_profile: Profile, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = replace(small_profile, origin=replace(small_profile.origin, model="\x1b[2Jevil"))
    kept = output.with_name("out.laminar.progress")

    def end() -> None:
        merge([hostile] * 3).save(output)
        kept.unlink()

    turns = [lambda n=n: write_progress(read_corpus([hostile] * n, n / 10), kept) for n in (1, 2)]
    monkeypatch.setattr(tail.time, "sleep", Turns(*turns, end))
    print_growth(output)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith(
        "␛[2Jevil: 12 tokens, 4.5 % of the final-token weights above 0.5, 10 % done, about 3 min"
    )
    assert lines[1].startswith("␛[2Jevil: 24 tokens in 2 prompts, 4.5 %")
    assert lines[2] == "␛[2Jevil: 4 layers, 36 tokens in 3 prompts"
    assert lines[-1] == f"done: {output}"
    assert err.count("windows of a corpus") == 1
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
