"""Runs that were cut off: one process finds each, a living one's are left alone, old ones go."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from laminar_tui import recovery
from laminar_tui.errors import UsageError
from laminar_tui.profile.journal import Journal, partial_path
from laminar_tui.profile.profile import Profile
from laminar_tui.recovery import describe, find_cut_off, journal_beside, new_journal, old_path


def keep(journal: Journal, profile: Profile, n_layers: int = 1) -> Path:
    """Write some layers of a profile, and be cut off."""
    write(journal, profile, n_layers)
    journal.close()
    return journal.path


def write(journal: Journal, profile: Profile, n_layers: int) -> None:
    journal.begin(replace(profile, layers=(None,) * profile.n_layers))
    for index in [index for index, layer in enumerate(profile.layers) if layer is not None][:n_layers]:
        journal.add(index, profile.layer(index))


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_that_was_cut_off_is_found_with_its_layers(
    small_profile: Profile, same_profile: Callable[[Profile, Profile], None], tmp_path: Path
) -> None:
    keep(new_journal(tmp_path), small_profile, 2)
    found = find_cut_off(tmp_path)
    assert found is not None
    same_profile(
        found.profile, Profile(small_profile.origin, (small_profile.layers[0], None, small_profile.layers[2], None))
    )
    assert found.sentence().startswith("a run of tiny/model from ")
    assert found.sentence().endswith(" was cut off after 2 of 4 layers")
    found.remove()
    assert names(tmp_path) == []
    assert find_cut_off(tmp_path) is None


def test_it_is_offered_by_one_process_at_a_time(small_profile: Profile, tmp_path: Path) -> None:
    keep(new_journal(tmp_path), small_profile)
    first = find_cut_off(tmp_path)
    assert first is not None
    assert find_cut_off(tmp_path) is None
    first.close()
    again = find_cut_off(tmp_path)
    assert again is not None
    again.close()


def test_a_living_process_s_run_is_left_alone(small_profile: Profile, tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    write(journal, small_profile, 3)
    age(journal.path, recovery.KEPT_SECONDS + 100)
    assert find_cut_off(tmp_path) is None
    assert journal.path.exists()
    journal.close()


def test_the_newest_is_found_and_old_ones_are_thrown_away(small_profile: Profile, tmp_path: Path) -> None:
    old, middle, new = (keep(Journal(tmp_path / f"2026010{day}.journal"), small_profile) for day in (1, 2, 3))
    age(old, recovery.KEPT_SECONDS + 100)
    found = find_cut_off(tmp_path)
    assert found is not None
    assert found.path == new
    assert names(tmp_path) == [middle.name, new.name]
    found.close()


def test_journals_without_a_layer_are_thrown_away_when_nobody_can_be_about_to_fill_them(
    small_profile: Profile, tmp_path: Path
) -> None:
    young = keep(Journal(tmp_path / "2.journal"), small_profile, 0)
    old = keep(Journal(tmp_path / "1.journal"), small_profile, 0)
    (tmp_path / "0.journal").write_bytes(b"no journal at all")
    for path in (old, tmp_path / "0.journal"):
        age(path, recovery.EMPTY_SECONDS + 100)
    assert find_cut_off(tmp_path) is None
    assert names(tmp_path) == [young.name]


def test_names_do_not_repeat(tmp_path: Path) -> None:
    journals = [new_journal(tmp_path) for _ in range(20)]
    assert len({journal.path for journal in journals}) == 20
    for journal in journals:
        journal.remove()


@pytest.mark.parametrize("created", ["", "nonsense", "9999-12-31T23:59:59+00:00", "2026-01-01"])
def test_a_time_that_makes_no_sense_is_no_harm(created: str, small_profile: Profile) -> None:
    profile = replace(small_profile, origin=replace(small_profile.origin, created=created))
    assert describe(profile).endswith("was cut off after 3 of 4 layers")


# -- beside an output ------------------------------------------------------------------------------------------------


def test_two_processes_do_not_capture_into_one_file(tmp_path: Path) -> None:
    output, said = tmp_path / "out.laminar", []
    first = journal_beside(output, said.append)
    with pytest.raises(UsageError, match="another process is capturing into"):
        journal_beside(output, said.append)
    assert first.path == partial_path(output)
    assert first.path.exists()
    assert said == []
    first.remove()


def test_what_an_earlier_capture_left_is_moved_aside_and_said(small_profile: Profile, tmp_path: Path) -> None:
    output, said = tmp_path / "out.laminar", []
    partial = keep(journal_beside(output, said.append), small_profile, 2)
    payload = partial.read_bytes()
    second = journal_beside(output, said.append)
    (sentence,) = said
    assert "was cut off after 2 of 4 layers" in sentence
    assert str(old_path(partial)) in sentence
    assert old_path(partial).read_bytes() == payload
    second.remove()


def test_what_an_earlier_capture_left_before_its_first_layer_is_nothing(tmp_path: Path) -> None:
    output, said = tmp_path / "out.laminar", []
    journal_beside(output, said.append).close()
    journal_beside(output, said.append).remove()
    assert said == []
    assert names(tmp_path) == []


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.parent / "target"), os.mkfifo, Path.mkdir])
def test_what_is_no_regular_file_is_left_alone(make: Callable[[Path], None], tmp_path: Path) -> None:
    output = tmp_path / "out.laminar"
    make(partial_path(output))
    with pytest.raises(UsageError):
        journal_beside(output, lambda _sentence: None)
    assert names(tmp_path) == ["out.laminar.partial"]


def test_a_link_to_somebody_s_journal_is_not_moved(small_profile: Profile, tmp_path: Path) -> None:
    output = tmp_path / "out.laminar"
    partial_path(output).symlink_to(keep(new_journal(tmp_path), small_profile))
    with pytest.raises(UsageError, match="no regular file"):
        journal_beside(output, lambda _sentence: None)
    assert partial_path(output).is_symlink()


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        journal_beside(tmp_path / "no" / "out.laminar", lambda _sentence: None)


def test_a_run_that_was_looked_at_stays_and_is_not_offered_again_until_it_is_old(
    small_profile: Profile, tmp_path: Path
) -> None:
    keep(new_journal(tmp_path), small_profile)
    found = find_cut_off(tmp_path)
    assert found is not None
    aside = found.set_aside()
    aside.close()
    assert find_cut_off(tmp_path) is None
    assert Profile.load(aside.path).n_read == found.profile.n_read
    age(aside.path, recovery.KEPT_SECONDS + 100)
    assert find_cut_off(tmp_path) is None
    assert names(tmp_path) == []
