"""The band of a density over prompts: against resampling the prompts one by one, and through merging and files."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import gaussian_kde, norm
from scipy.stats import t as student

from laminar_tui.errors import ProfileFileError
from laminar_tui.profile import file
from laminar_tui.profile.bootstrap import (
    FEWEST_GROUPS,
    GROUPED_PARTS,
    N_GROUPS,
    N_SLICES,
    SLICE_STARTS,
    Groups,
    density_interval,
    draw_shares,
    share_below,
    share_interval,
    slice_counts,
)
from laminar_tui.profile.claims import count_shares
from laminar_tui.profile.counts import BIN_VALUES, Counts, count_weights
from laminar_tui.profile.density import ESTIMATORS, split_density
from laminar_tui.profile.file import parse_profile, profile_bytes
from laminar_tui.profile.merge import ProfileSums, merge
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.profile.report_formats import report_markdown

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]
N_PROMPTS = 12


@pytest.fixture(scope="module")
def dense(patterns: Patterns) -> list[NDArray[np.float32]]:
    """Patterns of one layer of 3 heads on 12 prompts of one length that differ: [n_heads, query, key] each."""
    return [patterns(n, 3, 40, 1.0 + 0.25 * n) for n in range(N_PROMPTS)]


@pytest.fixture(scope="module")
def prompts(dense: list[NDArray[np.float32]], make_profile: MakeProfile) -> list[Profile]:
    """The prompts' profiles; each says something else."""
    made = [make_profile([pattern]) for pattern in dense]
    return [replace(each, origin=replace(each.origin, token_ids=(n, *range(39)))) for n, each in enumerate(made)]


@pytest.fixture(scope="module")
def merged(prompts: list[Profile]) -> Profile:
    """The prompts added up, each with its number."""
    return add_up(prompts)


def add_up(prompts: list[Profile]) -> Profile:
    sums = ProfileSums()
    for number, each in enumerate(prompts):
        sums.add(each, number)
    return sums.profile("corpus")


def groups_of(profile: Profile) -> Groups:
    groups = profile.layer(0).groups
    assert groups is not None
    return groups


def n_used(groups: Groups) -> int:
    """How many groups hold prompts."""
    return int((groups.counts.sum(axis=(0, 2, 3)) > 0).sum())


def test_slices_cut_both_axes() -> None:
    assert (np.diff(SLICE_STARTS) > 0).all()
    starts = BIN_VALUES[SLICE_STARTS]
    assert starts[0] == 0
    np.testing.assert_allclose(np.diff(starts[starts >= 1 / 32]), 1 / 32, rtol=0.02)  # float16
    decades = np.log10(starts[(starts > 5e-6) & (starts <= 1 / 32)])
    assert np.diff(decades).max() < 0.3


def test_the_share_above_a_half_is_without_the_half() -> None:
    """The interval's draws of groups that are all the same are the share itself: half of the weights are above 0.5."""
    groups = np.zeros((FEWEST_GROUPS, N_SLICES), np.int64)
    counts = Counts.empty()
    for weight, n in ((0.5, 3), (float(np.nextafter(np.float16(0.5), np.float16(1))), 5), (0.0099, 2)):
        place = int(np.searchsorted(BIN_VALUES, weight, side="right")) - 1
        counts.hits[place] += n
        groups[:, np.searchsorted(SLICE_STARTS, place, side="right") - 1] += n
    assert share_interval(groups, 0.5, 1.0) == pytest.approx([float(counts.share_above(0.5))] * 2)
    assert share_interval(groups, 0.0, 0.01) == pytest.approx([1 - float(counts.share_above(0.01))] * 2)
    assert float(counts.share_above(0.5)) == 0.5


def test_a_group_holds_its_prompts_weights(merged: Profile, dense: list[NDArray[np.float32]]) -> None:
    """Each population's weights in each slice, counted from the dense weights of the prompt that is the group."""
    groups = groups_of(merged)
    assert (groups.counts.shape, n_used(groups)) == ((3, N_GROUPS, len(GROUPED_PARTS), N_SLICES), N_PROMPTS)
    edges = [*BIN_VALUES[SLICE_STARTS], 2.0]
    query, key = np.indices((40, 40))
    chosen = {
        ("final", "with"): (query == 39) & (key < 39),
        ("self", "with"): (query == key) & (query > 0),
        ("past", "without"): (key > 0) & (key < query),
        ("all", "only"): (key == 0) & (query > 0),
    }
    for (population, sink), entries in chosen.items():
        for head in (None, 1):
            found = groups.of(population, sink, head)  # type: ignore[arg-type]
            for number, pattern in enumerate(dense):
                weights = pattern[slice(None) if head is None else [head]][:, entries].astype(np.float16)
                np.testing.assert_array_equal(found[number], np.histogram(weights, edges)[0])
            assert not found[N_PROMPTS:].any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_parts_of_a_density_add_up_to_it(estimator: str, merged: Profile) -> None:
    counts = merged.layer(0).layer_counts("past")
    whole = ESTIMATORS[estimator].function(counts)
    parts = split_density(counts, SLICE_STARTS, estimator, float(whole.bandwidth))
    edges = np.linspace(whole.low, whole.high, 101)
    expected = whole.mean(edges)
    # A quarter of the nodes: what lies between two of them is split between their cells.
    np.testing.assert_allclose(parts.mean(edges).sum(axis=0), expected, atol=2e-3 * expected.max())


@pytest.mark.parametrize("head", [None, 2])
def test_the_band_is_that_of_prompts_drawn_again(
    head: int | None, merged: Profile, dense: list[NDArray[np.float32]]
) -> None:
    """The oracle knows no counts: scipy's estimate of the weights of prompts that were drawn, bandwidth held fixed."""
    layer = merged.layer(0)
    counts = layer.layer_counts("past") if head is None else layer.head_counts("past")[head]
    bandwidth = float(ESTIMATORS["gaussian"].function(counts).bandwidth)
    points = np.linspace(0.02, 0.98, 49)
    edges = np.append(points - 0.01, 0.99)
    found = density_interval(groups_of(merged).of("past", "with", head), counts, "gaussian", bandwidth, edges)
    assert found is not None

    query, key = np.indices((40, 40))
    heads = slice(None) if head is None else [head]
    weights = [pattern[heads][:, key < query].ravel() for pattern in dense]
    everything = np.concatenate(weights)
    alone = np.stack([gaussian_kde(each, bandwidth / each.std(ddof=1))(points) for each in weights])
    rng = np.random.default_rng(7)
    drawn = np.stack([alone[rng.integers(0, N_PROMPTS, N_PROMPTS)].mean(axis=0) for _ in range(4000)])
    density = gaussian_kde(everything, bandwidth / everything.std(ddof=1))(points)
    below = norm.cdf(-np.sqrt(N_PROMPTS / (N_PROMPTS - 1)) * student.ppf(0.975, N_PROMPTS - 1))
    assert below < 0.025
    expected = np.quantile(drawn, [below, 1 - below], axis=0) / density
    # A band's end of 500 draws is uncertain by some 5 % of its width, and within a slice the shape is that of all.
    width = expected[1] - expected[0]
    few = density < 0.02 * density.max()  # at a handful of weights a slice is wider than what it holds
    error = np.abs(found - expected) / width
    assert np.median(error[:, ~few]) < 0.06
    assert error[:, ~few].max() < 0.3
    assert np.median(error) < 0.15


def test_twice_as_many_prompts_of_the_same_kind_narrow_the_band(prompts: list[Profile]) -> None:
    widths = []
    for whole in (add_up(prompts), add_up([*prompts, *prompts])):
        counts = whole.layer(0).layer_counts("all")
        interval = density_interval(groups_of(whole).of("all"), counts, "reflected", 0.02, np.linspace(0, 1, 31))
        assert interval is not None
        assert (interval[0] <= 1).all()
        assert (interval[1] >= 1).all()
        widths.append(float(np.mean(interval[1] - interval[0])))
    # 1 / sqrt 2, and less expanded with twice as many; the ends of 500 draws are uncertain by some 5 %.
    expanded = [student.ppf(0.975, n - 1) * np.sqrt(n / (n - 1)) for n in (12, 24)]
    assert widths[1] / widths[0] == pytest.approx(0.5**0.5 * expanded[1] / expanded[0], rel=0.12)


def test_equal_prompts_have_no_band(prompts: list[Profile]) -> None:
    whole = add_up([prompts[0]] * 6)
    counts = whole.layer(0).layer_counts("past")
    interval = density_interval(groups_of(whole).of("past"), counts, "reflected", 0.02, np.linspace(0, 0.5, 31))
    np.testing.assert_allclose(interval, 1.0, rtol=1e-12)


def test_too_few_groups_give_none(merged: Profile) -> None:
    groups = groups_of(merged).of("past")
    assert draw_shares(groups[: FEWEST_GROUPS - 1]) is None
    assert draw_shares(groups[:FEWEST_GROUPS]) is not None
    assert density_interval(groups[:2], Counts.empty(), "log", np.nan, np.linspace(-8, 0, 9)) is None


def test_groups_do_not_depend_on_the_order_and_add(prompts: list[Profile]) -> None:
    whole = groups_of(merge(prompts)).counts
    np.testing.assert_array_equal(groups_of(merge(prompts[::-1])).counts, whole)
    halves = merge([merge(prompts[:5]), merge(prompts[5:])])
    np.testing.assert_array_equal(groups_of(halves).counts, whole)
    assert whole.sum() == slice_counts(merge(prompts).layer(0).parts).sum()


def test_more_prompts_than_groups_share_them(prompts: list[Profile]) -> None:
    many = add_up([prompts[n % N_PROMPTS] for n in range(40)])
    one, other = groups_of(many).counts[:, 0].sum(), groups_of(many).counts[:, 20].sum()
    assert (n_used(groups_of(many)), one) == (N_GROUPS, 2 * other)


def test_groups_come_back_from_a_file(merged: Profile, prompts: list[Profile]) -> None:
    found = groups_of(parse_profile(profile_bytes(merged)))
    np.testing.assert_array_equal(found.counts, groups_of(merged).counts)
    assert parse_profile(profile_bytes(prompts[0])).layer(0).groups is None
    assert merge([merged, prompts[0]]).layer(0).groups is not None


def test_a_file_without_groups_or_with_other_slices_loads_without(
    merged: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(merged, layers=(replace(merged.layer(0), groups=None),))
    assert parse_profile(profile_bytes(old)).layer(0).groups is None
    monkeypatch.setattr(file, "SLICE_STARTS", SLICE_STARTS[:-1])
    later = profile_bytes(merged)
    monkeypatch.undo()
    assert parse_profile(later).layer(0).groups is None


def test_groups_that_do_not_fit_the_counts_are_refused(merged: Profile) -> None:
    wrong = groups_of(merged).counts.copy()
    wrong[0, 0, 1, 3] += 1
    changed = replace(merged, layers=(replace(merged.layer(0), groups=Groups(wrong)),))
    with pytest.raises(ProfileFileError, match="groups do not hold"):
        parse_profile(profile_bytes(changed))


@pytest.mark.parametrize("population", POPULATIONS)
def test_every_population_can_be_drawn(population: str, merged: Profile) -> None:
    for sink in SINK_CHOICES:
        groups = groups_of(merged).of(population, sink)
        assert groups.sum() == int(merged.layer(0).layer_counts(population, sink).n)


def test_a_density_of_one_weight_has_a_band_of_nothing() -> None:
    groups = np.zeros((N_GROUPS, N_SLICES), np.int64)
    groups[:5, -1] = 1
    counts = count_weights(np.ones(5, np.float32))
    interval = density_interval(groups, counts, "reflected", 0.0, np.linspace(0, 1, 11))
    assert interval is not None
    np.testing.assert_array_equal(interval[np.isfinite(interval)], 1.0)
    assert np.isfinite(interval[:, -1]).all()


@pytest.mark.parametrize("n", [6, 32])
def test_the_interval_holds_the_truth_as_often_as_it_says(n: int) -> None:
    """Prompts of 1,000 weights, a beta-distributed share of them in one slice; 300 such corpora."""
    rng = np.random.default_rng(n)
    held = 0
    for _ in range(300):
        inside = rng.binomial(1000, rng.beta(2, 8, n))
        drawn = draw_shares(np.stack([inside, 1000 - inside], axis=1))
        assert drawn is not None
        low, high = np.quantile(drawn[:, 0], [share_below(n), 1 - share_below(n)])
        held += bool(low <= 0.2 <= high)
    # 95 %, but for a skewed share of few prompts; 300 corpora are uncertain by 2.5 %.
    assert 0.86 < held / 300 < 0.99


def test_a_reports_shares_have_the_interval_of_prompts_drawn_again(
    merged: Profile, dense: list[NDArray[np.float32]]
) -> None:
    """From the dense weights of each prompt: shares of prompts drawn with replacement, the percentiles taken apart."""
    found = count_shares(merged, "past", "without", 0, 0)
    query, key = np.indices((40, 40))
    chosen = (key > 0) & (key < query)
    counts = np.array([[(p[:, chosen] < 0.01).sum(), (p[:, chosen] > 0.5).sum(), p[:, chosen].size] for p in dense])
    random = np.random.default_rng(1)
    drawn = np.array([counts[random.integers(0, N_PROMPTS, N_PROMPTS)].sum(axis=0) for _ in range(4000)])
    tail = norm.cdf(-student.ppf(0.975, N_PROMPTS - 1) * np.sqrt(N_PROMPTS / (N_PROMPTS - 1)))
    for interval, column in ((found.interval_below, 0), (found.interval_above, 1)):
        assert interval is not None
        expected = np.quantile(drawn[:, column] / drawn[:, 2], [tail, 1 - tail])
        # Of 500 draws the outer percentiles are known to about a tenth of the interval.
        np.testing.assert_allclose(interval, expected, atol=0.15 * (expected[1] - expected[0]))
        assert interval[1] > interval[0]
    table = report_markdown(make_report(merged))
    assert "bootstrap" in table
    assert f"{found.interval_below[0]:.1%}".replace("%", " %") in table  # type: ignore[index]


def test_a_single_prompt_has_no_interval(prompts: list[Profile]) -> None:
    assert count_shares(prompts[0], "past", "with", 0, 0).interval_below is None
    assert "bootstrap" not in report_markdown(make_report(prompts[0]))
