"""The journal of a capture: it survives a kill, a cut record costs only itself, and nothing is silently different."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laminar_tui.errors import ProfileFileError
from laminar_tui.profile import journal as journals
from laminar_tui.profile.journal import Journal, JournalReader, is_being_written, read_journal
from laminar_tui.profile.profile import Profile

SameProfile = Callable[[Profile, Profile], None]


def written(profile: Profile, path: Path, *, finished: bool = True) -> list[int]:
    """Write a whole profile's journal, and give its size after each record; only at the end its origin is whole."""
    journal = Journal(path)
    sizes = []
    origin = replace(profile.origin, seconds=0.0)
    journal.begin(replace(profile, origin=origin, layers=(None,) * profile.n_layers))
    sizes.append(path.stat().st_size)
    for index, layer in enumerate(profile.layers):
        if layer is not None:
            journal.add(index, layer)
            sizes.append(path.stat().st_size)
    if finished:
        journal.finish(profile)
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


def read(path: Path) -> JournalReader:
    reader = JournalReader(path)
    reader.read()
    return reader


def test_what_is_written_comes_back_bit_for_bit(
    small_profile: Profile, same_profile: SameProfile, tmp_path: Path
) -> None:
    written(small_profile, tmp_path / "a.journal")
    reader = read(tmp_path / "a.journal")
    assert reader.profile is not None
    same_profile(reader.profile, small_profile)
    assert not reader.is_damaged


def test_a_journal_of_another_version_is_told_as_one(small_profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "run.laminar.partial"
    written(small_profile, path)
    path.write_bytes(path.read_bytes().replace(b"laminar-journal1", b"laminar-journal0", 1))
    for read_it in (read, Profile.load):
        with pytest.raises(ProfileFileError, match=r"run\.laminar\.partial was written by another version") as refused:
            read_it(path)
        assert "open it with the version that wrote it" in refused.value.hint


def test_a_journal_is_opened_like_a_profile(small_profile: Profile, same_profile: SameProfile, tmp_path: Path) -> None:
    path = tmp_path / "run.laminar.partial"
    written(small_profile, path)
    same_profile(Profile.load(path), small_profile)


def test_wherever_it_is_cut_the_whole_records_before_are_there(small_profile: Profile, tmp_path: Path) -> None:
    path, cut = tmp_path / "a.journal", tmp_path / "cut.journal"
    sizes = written(small_profile, path)
    payload = path.read_bytes()
    ends = [size + change for size in sizes for change in (-1, 0, 1, 47, 48)]
    random = np.random.default_rng(0).integers(0, len(payload), 60).tolist()
    for end in {*ends, *random, 0, 3, 16, 17}:
        cut.write_bytes(payload[:end])
        reader = read(cut)
        n_records = sum(size <= end for size in sizes)
        assert (0 if reader.profile is None else reader.profile.n_read + 1) == min(n_records, 4), end
        is_whole = reader.profile is not None and reader.profile.origin == small_profile.origin
        assert is_whole == (end >= sizes[-1])
        assert not reader.is_damaged, "the rest may still come"


def test_a_changed_byte_ends_what_is_believed(
    small_profile: Profile, same_profile: SameProfile, tmp_path: Path
) -> None:
    path = tmp_path / "a.journal"
    sizes = written(small_profile, path)
    payload = path.read_bytes()
    for position in np.random.default_rng(1).integers(16, len(payload), 150).tolist():
        path.write_bytes(payload[:position] + bytes([payload[position] ^ 1]) + payload[position + 1 :])
        reader = read(path)
        n_before = sum(size <= position for size in sizes)
        assert (0 if reader.profile is None else reader.profile.n_read + 1) == n_before, position
        for index, layer in enumerate(reader.profile.layers if reader.profile else ()):
            if layer is not None:
                one = Profile(small_profile.origin, (layer, None, None, None))
                same_profile(one, Profile(small_profile.origin, (small_profile.layers[index], None, None, None)))


def test_records_of_another_run_are_not_taken(small_profile: Profile, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    sizes = written(small_profile, one)
    written(replace(small_profile, origin=replace(small_profile.origin, model="tiny/madel")), other)
    one.write_bytes(one.read_bytes()[: sizes[1]] + other.read_bytes()[sizes[1] :])
    assert read(one).profile.n_read == 1  # type: ignore[union-attr]


def test_a_record_that_claims_more_than_there_can_be_is_not_waited_for(
    small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(small_profile, tmp_path / "a.journal")
    monkeypatch.setattr(journals, "MAX_RECORD_BYTES", 10)
    assert read(tmp_path / "a.journal").is_damaged


def test_a_growing_journal_is_read_on_and_an_unchanged_one_is_not_opened(
    small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.journal"
    journal, reader = Journal(path), JournalReader(path)
    assert reader.read() == []
    journal.begin(replace(small_profile, layers=(None,) * 4))
    journal.add(0, small_profile.layer(0))
    assert reader.read() == [0]
    journal.add(2, small_profile.layer(2))
    assert reader.read() == [2]
    with monkeypatch.context() as patched:
        patched.setattr(journals, "open_regular", lambda _path: pytest.fail("it was opened"))
        assert reader.read() == []
    whole = path.read_bytes()
    journal.add(3, small_profile.layer(3))
    longer = path.read_bytes()
    path.write_bytes(longer[: len(whole) + 100])
    assert reader.read() == []
    path.write_bytes(longer)
    assert reader.read() == [3], "half of a record is waited for"
    journal.remove()
    written(small_profile, path)
    assert reader.read() == [0, 2, 3], "another run's journal is read from its beginning"


def test_other_files_are_no_journals(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"something else that is long enough")
    with pytest.raises(ProfileFileError, match="no journal"):
        read(tmp_path / "a")
    (tmp_path / "b").write_bytes(journals.JOURNAL_MAGIC)
    with pytest.raises(ProfileFileError, match="no layer"):
        read_journal(tmp_path / "b")


@pytest.mark.parametrize("what", ["file", "link"])
def test_nothing_that_is_there_is_written_to(what: str, tmp_path: Path) -> None:
    path, target = tmp_path / "a.journal", tmp_path / "target"
    if what == "file":
        path.write_bytes(b"precious")
    else:
        path.symlink_to(target)
    with pytest.raises(FileExistsError):
        Journal(path)
    assert not target.exists()
    assert what == "link" or path.read_bytes() == b"precious"


def test_only_its_owner_can_read_it(small_profile: Profile, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written(small_profile, tmp_path / "a.journal")
    finally:
        os.umask(before)
    assert (tmp_path / "a.journal").stat().st_mode & 0o777 == 0o600


def test_it_waits_for_the_disk_once_a_second_at_most(
    small_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, synced = [100.0], []
    monkeypatch.setattr(journals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path / "a.journal")
    journal.begin(replace(small_profile, layers=(None,) * 4))
    for step in range(10):
        now[0] = 100.0 + step * 0.25
        journal.add(0, small_profile.layer(0))
    assert len(synced) == 3  # at 100, 101 and 102
    journal.finish(small_profile)
    assert len(synced) == 4


CHILD = """
import sys
from pathlib import Path
from dataclasses import replace
from laminar_tui.profile.journal import Journal
from laminar_tui.profile.profile import Profile
profile = Profile.load(sys.argv[1])
journal = Journal(Path(sys.argv[2]))
journal.begin(replace(profile, layers=(None,) * profile.n_layers))
journal.add(0, profile.layer(0))
journal.add(2, profile.layer(2))
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_leaves_every_layer_and_no_lock(
    small_profile: Profile, same_profile: SameProfile, tmp_path: Path
) -> None:
    small_profile.save(tmp_path / "run.laminar")
    path = tmp_path / "a.journal"
    words: list[Any] = [sys.executable, "-c", CHILD, tmp_path / "run.laminar", path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        assert is_being_written(path)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert not is_being_written(path)
    layers = (small_profile.layers[0], None, small_profile.layers[2], None)
    same_profile(read_journal(path), Profile(small_profile.origin, layers))


def test_one_that_cannot_be_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journals, "_write_all", full)
    with pytest.raises(OSError, match="No space"):
        Journal(tmp_path / "run.partial")
    assert not list(tmp_path.iterdir())
