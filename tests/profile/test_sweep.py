"""A sweep's order, its numbers against dense patterns, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep import Place, Sweep, make_sweep, name_profiles, read_step, step_of, sweep_json

Pattern = NDArray[np.float32]
REVISIONS = {"step143000": 5.0, "main": 4.0, "step0": 0.1, "step1000": 1.0}
"""As they are given, with the spread of the scores: training makes patterns sharper."""


@pytest.fixture(scope="module")
def dense(patterns: Callable[..., Pattern]) -> dict[str, list[Pattern]]:
    """Two layers of 3 and 2 heads on 12 tokens at each revision."""
    return {
        name: [patterns(1, 3, 12, spread=spread), patterns(2, 2, 12, spread=spread)]
        for name, spread in REVISIONS.items()
    }


@pytest.fixture(scope="module")
def profiles(dense: dict[str, list[Pattern]], make_profile: Callable[..., Profile]) -> dict[str, Profile]:
    found = {name: make_profile(layers) for name, layers in dense.items()}
    return {name: replace(each, origin=replace(each.origin, revision=name)) for name, each in found.items()}


def sweep_of(profiles: dict[str, Profile], place: Place) -> Sweep:
    return make_sweep([read_step(profile, name, place) for name, profile in profiles.items()], place)


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step0", 0),
        ("step143000", 143000),
        ("STEP-512", 512),
        ("stage2-step1000-tokens5B", 1000),
        ("checkpoint-500", 500),
        ("main", None),
        ("", None),
        ("0123456789abcdef0123456789abcdef01234567", None),
        ("9" * 400, None),
        ("step٣", None),
    ],
)
def test_the_step_in_a_revision(revision: str, step: int | None) -> None:
    assert step_of(revision) == step


def test_revisions_are_ordered_by_their_step_and_those_without_one_come_last(profiles: dict[str, Profile]) -> None:
    sweep = sweep_of(profiles, Place())
    assert sweep.labels == ("0", "1000", "143000", "main")
    twice = sweep_of({"b-step5": profiles["main"], "a-step5": profiles["main"]}, Place())
    assert twice.labels == ("b-step5", "a-step5")
    unnumbered = dict.fromkeys(("final", "main", "early"), profiles["main"])
    assert [step.name for step in sweep_of(unnumbered, Place()).steps] == ["final", "main", "early"]


@pytest.mark.parametrize("sink", ["with", "without", "only"])
@pytest.mark.parametrize("population", ["final", "past", "self"])
@pytest.mark.parametrize(("layer", "head"), [(None, None), (1, None), (0, 2)])
def test_the_numbers_are_those_of_the_weights(
    dense: dict[str, list[Pattern]],
    profiles: dict[str, Profile],
    entries_of_population: Callable[..., NDArray[np.bool_]],
    population: str,
    sink: Any,
    layer: int | None,
    head: int | None,
) -> None:
    entries = entries_of_population(population, sink, 12)
    sweep = sweep_of(profiles, Place(layer, head, population, sink))
    for step in sweep.steps:
        layers = dense[step.name] if layer is None else [dense[step.name][layer]]
        chosen = [one for every in layers for one in (every if head is None else every[[head]])]
        weights = np.concatenate([one[entries] for one in chosen]).astype(np.float16)
        assert int(step.counts.n) == len(weights)
        if len(weights):
            assert step.below == pytest.approx(1 - (weights > np.float16(0.01)).mean(), abs=1e-12)
            assert step.above == pytest.approx((weights > np.float16(0.5)).mean(), abs=1e-12)
        # float32 sums of 11 rows
        assert step.sink_share == pytest.approx(np.mean([one[1:, 0].mean() for one in chosen]), abs=1e-6)
        rows = [row[: q + 1].astype(float) for one in chosen for q, row in enumerate(one) if q]
        assert step.entropy == pytest.approx(np.mean([-(row * np.log(row)).sum() for row in rows]), abs=1e-6)


def test_distances_are_to_the_step_before(dense: dict[str, list[Pattern]], profiles: dict[str, Profile]) -> None:
    from scipy.stats import wasserstein_distance

    sweep = sweep_of(profiles, Place(0, 1))
    final = [dense[step.name][0][1, -1, :-1].astype(np.float16) for step in sweep.steps]
    assert np.isnan(sweep.wasserstein[0])
    assert np.isnan(sweep.jensen_shannon[0])
    for at in (1, 2, 3):
        assert sweep.wasserstein[at] == pytest.approx(wasserstein_distance(final[at - 1], final[at]), abs=1e-9)
    same = sweep_of({"step1": profiles["main"], "step2": profiles["main"]}, Place())
    assert (same.wasserstein[1], same.jensen_shannon[1]) == (0, 0)
    assert sweep.jensen_shannon[1] > 0.1


def test_other_layers_or_heads_are_refused(profiles: dict[str, Profile], small_profile: Profile) -> None:
    with pytest.raises(UsageError, match="other layers or heads"):
        sweep_of({"step0": profiles["main"], "step1": small_profile}, Place())
    with pytest.raises(UsageError, match="no layer 7"):
        sweep_of(profiles, Place(7))
    with pytest.raises(UsageError, match="no head 2"):
        sweep_of(profiles, Place(1, 2))
    with pytest.raises(UsageError, match="nothing to sweep"):
        make_sweep([], Place())


def test_what_is_not_training_is_said(profiles: dict[str, Profile]) -> None:
    assert sweep_of(profiles, Place()).notes() == []
    main = profiles["main"]
    other = replace(main, origin=replace(main.origin, dtype="bfloat16", token_ids=tuple(range(1, 13))))
    notes = sweep_of(profiles | {"main": other}, Place()).notes()
    assert notes == ["not all of one kind: 2 prompts", "not all of one kind: 2 dtypes"]


def test_profiles_are_named_by_what_tells_them_apart(profiles: dict[str, Profile]) -> None:
    origins = [profile.origin for profile in profiles.values()]
    files = ["a", "b", "c", "d"]
    assert name_profiles(origins, files) == list(REVISIONS)
    bare = [replace(origin, revision="") for origin in origins]
    assert name_profiles([*bare[1:], origins[0]], files) == ["main", "main", "main", "step143000"]
    assert name_profiles(bare, files) == files
    folders = [replace(origin, model=f"checkpoint-{at}") for at, origin in enumerate(bare)]
    assert name_profiles(folders, files) == [f"checkpoint-{at}" for at in range(4)]


def test_json_names_the_recipe(profiles: dict[str, Profile]) -> None:
    document = json.loads(sweep_json(sweep_of(profiles, Place())))
    assert {step["recipe"] for step in document["steps"]} == {"true"}


def test_json_has_null_where_there_is_no_number(profiles: dict[str, Profile]) -> None:
    document = json.loads(sweep_json(sweep_of(profiles, Place(0, 1, "self", "only"))))
    assert [row["step"] for row in document["steps"]] == [0, 1000, 143000, None]
    assert {row["n"] for row in document["steps"]} == {0}
    assert {row["below_0.01"] for row in document["steps"]} == {None}
    assert (document["layer"], document["head"], document["sink"]) == (0, 1, "only")
