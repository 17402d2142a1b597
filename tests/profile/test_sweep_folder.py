"""A folder of profiles is a sweep: which folders are, what is read from them, and when a profile is read again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from laminar_tui.errors import ProfileFileError, UsageError
from laminar_tui.profile import sweep_folder
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep import Place, make_sweep, read_step, sweep_measures
from laminar_tui.profile.sweep_folder import SavedSweep, find_profiles, holds_sweep

REVISIONS = {"step1000": 2.0, "main": 4.0, "step20": 0.2}


@pytest.fixture(scope="module")
def dense(patterns: Callable[..., np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Two layers of 3 heads on 12 tokens at each revision."""
    return {name: [patterns(1, 3, 12, spread), patterns(2, 3, 12, spread)] for name, spread in REVISIONS.items()}


@pytest.fixture(scope="module")
def profiles(dense: dict[str, list[np.ndarray]], make_profile: Callable[..., Profile]) -> dict[str, Profile]:
    made = {name: make_profile(layers) for name, layers in dense.items()}
    return {name: replace(each, origin=replace(each.origin, revision=name)) for name, each in made.items()}


@pytest.fixture
def folder(profiles: dict[str, Profile], tmp_path: Path) -> Path:
    for name, profile in profiles.items():
        profile.save(tmp_path / f"{name}.laminar")
    return tmp_path


def always() -> bool:
    return True


def test_which_folders_are_sweeps(folder: Path) -> None:
    assert holds_sweep(folder)
    assert not holds_sweep(folder / "main.laminar")
    assert not holds_sweep(folder / "nowhere")
    (folder / "main.laminar").unlink()
    assert holds_sweep(folder)
    (folder / "step20.laminar").unlink()
    assert not holds_sweep(folder), "one profile is none"
    (folder / "sweep.json").write_text("{}")
    assert holds_sweep(folder), "a sweep that has just begun"
    (folder / "config.json").write_text("{}")
    assert not holds_sweep(folder), "a model's folder"


def test_it_is_what_make_sweep_makes_of_the_profiles(folder: Path, profiles: dict[str, Profile]) -> None:
    saved = SavedSweep.of_folder(folder)
    place = Place(1, 2, "past", "without")
    read = saved.read(place, always)
    assert read is not None
    sweep, files = read
    expected = make_sweep([read_step(each, name, place) for name, each in profiles.items()], place)
    assert [step.name for step in sweep.steps] == ["step20", "step1000", "main"]
    assert [saved.paths[at].stem for at in files] == ["step20", "step1000", "main"]
    np.testing.assert_array_equal(sweep.jensen_shannon, expected.jensen_shannon)
    for found, wanted in zip(sweep.steps, expected.steps, strict=True):
        np.testing.assert_array_equal(found.counts.hits, wanted.counts.hits)


def test_its_numbers_are_those_of_the_dense_weights(folder: Path, dense: dict[str, list[np.ndarray]]) -> None:
    read = SavedSweep.of_folder(folder).read(Place(1), always)
    assert read is not None
    measures = {measure.name: measure for measure in sweep_measures(read[0])}
    for at, name in enumerate(("step20", "step1000", "main")):
        pattern = dense[name][1].astype(np.float64)
        assert measures["sink_share"].values[at] == pytest.approx(pattern[:, 1:, 0].mean(), abs=1e-6)
        previous = np.mean([pattern[:, q, q - 1] for q in range(1, 12)])
        assert measures["previous_token"].values[at] == pytest.approx(previous, abs=1e-6)
        final = pattern[:, -1, :-1]
        assert measures["above"].values[at] == pytest.approx((final > 0.5).mean(), abs=1e-9)
        assert measures["mean"].values[at] == pytest.approx(final.mean(), abs=1e-6)
    assert np.isnan(measures["wasserstein"].values[0])
    assert measures["sink_share"].is_share


def test_the_last_step_is_the_latest_in_training(folder: Path) -> None:
    assert SavedSweep.of_folder(folder).last().origin.revision == "step1000"


@pytest.mark.parametrize(("most", "n_reads"), [(2**30, 3), (0, 6)])
def test_profiles_stay_in_memory_only_while_they_are_small(
    folder: Path, monkeypatch: pytest.MonkeyPatch, most: int, n_reads: int
) -> None:
    monkeypatch.setattr(sweep_folder, "MOST_KEPT_BYTES", most)
    read: list[Path] = []
    really = sweep_folder.read_profile
    monkeypatch.setattr(sweep_folder, "read_profile", lambda path: read.append(path) or really(path))
    saved = SavedSweep.of_folder(folder)
    saved.read(Place(), always)
    saved.read(Place(0), always)
    assert len(read) == n_reads


def test_what_is_not_wanted_any_more_is_not_read(folder: Path) -> None:
    answers = iter([True, False])
    assert SavedSweep.of_folder(folder).read(Place(), lambda: next(answers)) is None


def test_a_damaged_profile_is_named(folder: Path) -> None:
    (folder / "step20.laminar").write_bytes(b"x" * 100)
    with pytest.raises(ProfileFileError, match=r"step20\.laminar"):
        SavedSweep.of_folder(folder).read(Place(), always)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert find_profiles(tmp_path) == []
    with pytest.raises(UsageError, match="no profile of a sweep"):
        SavedSweep.of_folder(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        SavedSweep.of_folder(tmp_path / "nowhere")
