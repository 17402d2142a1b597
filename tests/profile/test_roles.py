"""The roles of heads: their order, who has one, and that they come back from a file."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from forged import rebuilt
from safetensors.numpy import load as load_tensors

from laminar_tui.errors import ProfileFileError
from laminar_tui.profile.file import parse_profile, profile_bytes
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import ROLES, RankedHead, Roles


@pytest.fixture
def roles() -> Roles:
    """Of a profile of 3, no, 2 and 3 heads."""
    rng = np.random.default_rng(0)
    scores = {name: rng.random((4, 3)) for name in ROLES}
    for table in scores.values():
        table[1] = table[2, 2] = np.nan
    scores["induction"][3, 1] = 1.5
    thresholds = {name: role.threshold or 0.4 for name, role in ROLES.items()}
    return Roles(scores, thresholds, 40, 8, 3)


def test_heads_are_ranked_by_score(roles: Roles) -> None:
    ranking = roles.ranking("induction")
    assert ranking[0] == RankedHead(1, 3, 1, 1.5)
    assert [each.rank for each in ranking] == list(range(1, 9))
    assert [each.score for each in ranking] == sorted((each.score for each in ranking), reverse=True)


def test_a_head_has_the_roles_above_the_threshold(roles: Roles) -> None:
    expected = {name for name, table in roles.scores.items() if table[3, 1] > roles.thresholds[name]}
    assert set(roles.of(3, 1)) == expected
    assert roles.of(3, 1)[0] == "induction"
    assert not roles.has("induction")[1].any()
    assert roles.of(1, 0) == []


def test_roles_come_back_from_a_file(roles: Roles, small_profile: Profile, same_profile: Callable[..., None]) -> None:
    saved = replace(small_profile, roles=roles)
    loaded = parse_profile(profile_bytes(saved))
    same_profile(loaded, saved)
    assert loaded.roles is not None
    assert list(loaded.roles.scores) == list(ROLES)
    for name in ROLES:
        np.testing.assert_array_equal(loaded.roles.scores[name], roles.scores[name])
    assert (loaded.roles.thresholds, loaded.roles.period) == (roles.thresholds, 40)
    assert (loaded.roles.n_sequences, loaded.roles.seed) == (8, 3)


def test_a_file_without_roles_has_none(small_profile: Profile) -> None:
    payload = profile_bytes(small_profile)
    assert not any(name.startswith("role/") for name in load_tensors(payload))
    assert parse_profile(payload).roles is None


def test_one_more_layer_keeps_the_roles(roles: Roles, small_profile: Profile) -> None:
    assert replace(small_profile, roles=roles).with_layer(1, small_profile.layer(0)).roles is roles


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update({"role/induction": np.zeros(1)}),  # would be spread over all heads
        lambda tensors: tensors.update({"role/induction": np.zeros(9)}),
        lambda tensors: tensors.update({"role/induction": np.zeros(8, np.float32)}),
        lambda tensors: tensors.update({"role/induction": np.zeros((8, 1))}),
    ],
)
def test_roles_that_do_not_fit_the_heads_are_refused(change: Any, roles: Roles, small_profile: Profile) -> None:
    with pytest.raises(ProfileFileError, match="damaged: ValueError: the roles do not fit"):
        parse_profile(rebuilt(replace(small_profile, roles=roles), change_tensors=change))


@pytest.mark.parametrize("fields", [[], {}, {"thresholds": 3, "period": 1, "n_sequences": 1, "seed": 0}])
def test_a_header_that_is_wrong_about_roles_is_refused(fields: Any, roles: Roles, small_profile: Profile) -> None:
    payload = rebuilt(replace(small_profile, roles=roles), lambda header: header.update({"roles": fields}))
    with pytest.raises(ProfileFileError, match="damaged"):
        parse_profile(payload)


def test_a_role_of_a_later_version_is_left_out(roles: Roles, small_profile: Profile) -> None:
    saved = replace(small_profile, roles=roles)
    loaded = parse_profile(rebuilt(saved, change_tensors=lambda each: each.update({"role/later": np.zeros(8)})))
    assert loaded.roles is not None
    assert list(loaded.roles.scores) == list(ROLES)
