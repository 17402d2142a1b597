"""Profiles added up: exactly, in any order, with the spread over the prompts; and the file of an unfinished run."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student

import laminar_tui
from laminar_tui.errors import ProfileFileError, UsageError
from laminar_tui.profile import corpus_progress
from laminar_tui.profile.corpus_progress import Progress, combine, describe, read_progress, write_progress
from laminar_tui.profile.file import parse_profile, profile_bytes
from laminar_tui.profile.merge import ProfileSums, cut_digits, join_digits, merge
from laminar_tui.profile.parts import PARTS, POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import Check, Profile
from laminar_tui.profile.spread import share_name, student_quantile
from laminar_tui.profile.statistics import STATISTICS

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]
SameProfile = Callable[[Profile, Profile], None]


@pytest.fixture(scope="module")
def prompts(patterns: Patterns, make_profile: MakeProfile) -> list[Profile]:
    """One model (2 heads, no attention, 3 heads) on prompts of 9, 4, 9, 1, 12 tokens; some weights underflow to 0."""
    lengths = (9, 4, 9, 1, 12)
    found = [make_profile([patterns(n, 2, T, 90.0), None, patterns(n + 50, 3, T)]) for n, T in enumerate(lengths)]
    assert sum(part.zeros.sum() for each in found for part in each.layer(0).parts.values()) > 10
    return found


def as_one(profile: Profile) -> Profile:
    """Without the times, which are no counts."""
    return replace(profile, origin=replace(profile.origin, created="", seconds=0.0))


def test_digits_add_up_to_the_exact_sum_in_any_order() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (400, 3)) * 10.0 ** rng.integers(-9, 5, (400, 3))
    digits = sum(cut_digits(row) for row in values)
    np.testing.assert_array_equal(digits, sum(cut_digits(row) for row in values[::-1]))
    exact = [float(sum(Fraction(value) for value in column)) for column in values.T]
    np.testing.assert_allclose(join_digits(digits), exact, rtol=4e-16)
    assert any(math.fsum(column) != sum(column) for column in values.T), "plain sums would not do"


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, 1e-13 / 3, -1e-9 / 7, 32768.1, 6.7e7 / 3, 1e30 / 3, 1e60 / 7])
def test_one_number_comes_back_as_it_was(value: float) -> None:
    assert join_digits(cut_digits(np.array([value])))[0] == value


def test_what_is_beyond_all_sense_is_held_at_a_limit() -> None:
    assert join_digits(cut_digits(np.array([1e300, -1e300]))).tolist() == [2.0**220, -(2.0**220)]


def test_the_order_of_the_prompts_changes_no_bit(prompts: list[Profile], same_profile: SameProfile) -> None:
    results = [merge(order) for order in list(permutations(prompts))[::17]]
    for other in results[1:]:
        same_profile(as_one(results[0]), as_one(other))
        assert profile_bytes(as_one(results[0])) == profile_bytes(as_one(other))


def test_counts_add_and_numbers_are_means(prompts: list[Profile]) -> None:
    merged = laminar_tui.merge(prompts)
    assert merged.layers[1] is None
    for index in (0, 2):
        layer = merged.layer(index)
        for part in PARTS:
            found, each = layer.parts[part], [prompt.layer(index).parts[part].unpack() for prompt in prompts]
            np.testing.assert_array_equal(found.unpack().hits, sum(counts.hits for counts in each))
            np.testing.assert_array_equal(found.zeros, sum(counts.zeros for counts in each))
            for name in ("total", "total_sq"):  # what is below the last digit of 2^-96 is rounded away
                expected = sum(getattr(counts, name) for counts in each)
                np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-14, atol=5 * 2.0**-96)
        for name in STATISTICS:
            values = np.stack([prompt.layer(index).statistics[name] for prompt in prompts])
            np.testing.assert_allclose(layer.statistics[name], np.nanmean(values, axis=0), rtol=1e-13, atol=2.0**-96)
        assert layer.final_weights is None
        assert layer.key_shares is None, "prompts of different lengths have no keys in common"


def test_key_shares_are_means_where_the_prompts_have_one_length(prompts: list[Profile]) -> None:
    pair = [prompts[0], prompts[2]]
    merged = merge(pair)
    shares = [prompt.layer(0).key_shares for prompt in pair]
    # Both are rounded to float32, whose step near 1 is 6e-8.
    np.testing.assert_allclose(merged.layer(0).key_shares, np.mean(shares, axis=0), atol=1e-7)
    assert (merged.n_tokens, merge(prompts).n_tokens) == (9, 0)
    assert parse_profile(profile_bytes(merged)).layer(0).key_shares is not None


def test_the_origin_says_how_much_was_read(prompts: list[Profile]) -> None:
    failed = [Check("a", True, "fine"), Check("a", False, "1.2"), Check("a", False, "1.3")]
    checked = [
        replace(each, origin=replace(each.origin, checks=(check,)))
        for each, check in zip(prompts, failed, strict=False)
    ]
    origin = merge(checked).origin
    assert (origin.n_prompts, origin.n_tokens, origin.tokens) == (3, 22, ())
    assert origin.failed_checks == (Check("a", False, "not in 2 of 3 prompts; in prompt 1: 1.2"),)
    assert merge(prompts[:2]).origin.checks == (Check("rows sum to 1", True, "in each of 2 prompts"),)


def test_profiles_that_were_added_up_can_be_added_up(prompts: list[Profile]) -> None:
    whole, halves = merge(prompts), merge([merge(prompts[:2]), merge(prompts[2:])])
    assert (halves.origin.n_prompts, halves.total_tokens) == (5, 35)
    for part in PARTS:
        np.testing.assert_array_equal(halves.layer(0).parts[part].hits, whole.layer(0).parts[part].hits)
    one, other = whole.layer(2).spread, halves.layer(2).spread
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.n, other.n)
    # Means and deviations are rounded once more on the way; what is left of a deviation of nothing is 1e-8 of the mean.
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(other.std, one.std, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "another"}, "models"),
        ({"recipe": "literal"}, "recipes"),
        ({"revision": "main"}, "revisions"),
    ],
)
def test_another_model_or_recipe_is_refused(prompts: list[Profile], change: dict[str, str], said: str) -> None:
    other = replace(prompts[1], origin=replace(prompts[1].origin, **change))
    with pytest.raises(UsageError, match=said):
        merge([prompts[0], other])


def test_other_layers_or_heads_are_refused(
    prompts: list[Profile], patterns: Patterns, make_profile: MakeProfile
) -> None:
    for layers in ([2, 0, 2], [2, 3, 3], [2, 0, 3, 3], [2, 0]):
        other = make_profile([patterns(1, n, 5) if n else None for n in layers])
        with pytest.raises(UsageError, match="heads"):
            merge([prompts[0], other])
    with pytest.raises(UsageError, match="nothing"):
        merge([])


# -- the spread ------------------------------------------------------------------------------------------------------


def test_the_spread_is_that_of_the_prompts_numbers(
    patterns: Patterns, make_profile: MakeProfile, entries_of_population: Any
) -> None:
    dense = [patterns(seed, 2, 6 + 3 * seed, 5.0) for seed in range(4)]
    merged = merge([make_profile([pattern]) for pattern in dense])
    spread = merged.layer(0).spread
    assert spread is not None
    for population in POPULATIONS:
        for sink in SINK_CHOICES if population != "self" else ("with",):
            chosen = [p[:, entries_of_population(population, sink, p.shape[1])] for p in dense]
            for share, number in {
                "mean": lambda w: w.mean(dtype=np.float64),
                "below": lambda w: (w.astype(np.float16) < 0.01).mean(),
                "above": lambda w: (w.astype(np.float16) > 0.5).mean(),
            }.items():
                rows = np.array([[number(w[0]), number(w[1]), number(w)] for w in chosen])
                n, mean, std = spread.of(share_name(share, population, sink))
                assert n.tolist() == [4, 4, 4]
                np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-6)  # sums of float32 squares
                np.testing.assert_allclose(std, rows.std(axis=0, ddof=1), rtol=1e-5, atol=1e-9)


def test_the_interval_holds_the_truth_as_often_as_it_says(patterns: Patterns, make_profile: MakeProfile) -> None:
    drawn = [make_profile([patterns(seed, 2, 8, 1.0)]) for seed in range(240)]
    truth = np.mean([each.layer(0).statistics["entropy"] for each in drawn])
    hits = []
    for first in range(0, 240, 6):
        spread = merge(drawn[first : first + 6]).layer(0).spread
        assert spread is not None
        low, high = spread.interval("entropy", 0.8)
        hits += list((low[:2] <= truth) & (truth <= high[:2]))
    # 80 intervals at 80 %: the binomial's standard deviation is 4.5 %, and three of them are allowed.
    assert 0.665 < np.mean(hits) < 0.935


def test_students_quantile_is_scipys() -> None:
    freedom = np.array([1, 2, 3, 5, 10, 100, 10_000])
    for p in (0.6, 0.9, 0.975, 0.995):
        np.testing.assert_allclose(student_quantile(p, freedom), student.ppf(p, freedom), rtol=0.02)
        np.testing.assert_allclose(student_quantile(p, freedom[3:]), student.ppf(p, freedom[3:]), rtol=2e-3)
    assert np.isnan(student_quantile(0.975, np.array([0, -1]))).all()


def test_the_spread_comes_back_from_a_file(prompts: list[Profile]) -> None:
    merged = merge(prompts)
    loaded = parse_profile(profile_bytes(merged))
    for index in (0, 2):
        one, other = merged.layer(index).spread, loaded.layer(index).spread
        assert one is not None
        assert other is not None
        assert one.names == other.names
        for name in ("n", "mean", "std"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert parse_profile(profile_bytes(prompts[0])).layer(0).spread is None
    with pytest.raises(UsageError, match="nothing-like-it"):
        merged.layer(0).spread.of("nothing-like-it")  # type: ignore[union-attr]


def test_a_file_of_before_there_were_corpora_loads(prompts: list[Profile], monkeypatch: pytest.MonkeyPatch) -> None:
    from laminar_tui.profile import file

    def old_header(profile: Profile) -> str:
        header = json.loads(header_of(profile))
        for name in ("n_prompts", "n_tokens", "prompt_length", "lengths", "corpus"):
            del header["origin"][name]
        return json.dumps(header)

    header_of = file._pack_header
    monkeypatch.setattr(file, "_pack_header", old_header)
    loaded = parse_profile(profile_bytes(prompts[0]))
    assert (loaded.origin.n_prompts, loaded.total_tokens, loaded.n_tokens) == (1, 9, 9)


def test_the_lengths_of_the_prompts_are_kept(prompts: list[Profile]) -> None:
    lengths = ((1, 1), (4, 1), (9, 2), (12, 1))
    assert merge(prompts).origin.lengths == lengths
    assert merge([merge(prompts[:2]), merge(prompts[2:])]).origin.lengths == lengths
    assert parse_profile(profile_bytes(merge(prompts))).lengths == dict(lengths)
    assert (prompts[0].origin.lengths, prompts[0].lengths) == ((), {9: 1})
    older = merge(prompts[:2])
    older = replace(older, origin=replace(older.origin, lengths=()))
    assert parse_profile(profile_bytes(older)).lengths == {}
    assert merge([older, *prompts[2:]]).origin.lengths == (), "rather none than some"
    of_one_length = merge([prompts[0], prompts[2]])
    assert replace(of_one_length, origin=replace(of_one_length.origin, lengths=())).lengths == {9: 2}


@pytest.mark.parametrize(
    "lengths",
    [((9, 2),), ((9, 1), (4, 1)), ((0, 1), (13, 1)), ((4, 1), (9, 0), (9, 1)), ((13, 1), (2**40, 1))],
)
def test_lengths_that_make_no_sense_are_refused(prompts: list[Profile], lengths: Any) -> None:
    merged = merge(prompts[:2])
    with pytest.raises(ProfileFileError, match="damaged"):
        parse_profile(profile_bytes(replace(merged, origin=replace(merged.origin, lengths=lengths))))


# -- an unfinished run -----------------------------------------------------------------------------------------------


def run_over(profiles: list[Profile]) -> Progress:
    progress = Progress(settings={"model": "tiny", "window": 4})
    for number, profile in enumerate(profiles):
        progress.sums.add(profile, number)
        progress.see([number, 2, 3])
    return progress


@pytest.mark.parametrize("n", range(6))
def test_a_run_goes_on_as_if_it_had_not_stopped(prompts: list[Profile], n: int, tmp_path: Path) -> None:
    whole = run_over(prompts)
    write_progress(run_over(prompts[:n]), tmp_path / "partial")
    progress = read_progress(tmp_path / "partial")
    assert (progress.n_seen, progress.settings) == (n, whole.settings)
    for number in range(n, len(prompts)):
        progress.sums.add(prompts[number], number)
        progress.see([number, 2, 3])
    assert progress.digest == whole.digest
    assert profile_bytes(progress.sums.profile("c")) == profile_bytes(whole.sums.profile("c"))


def test_an_unfinished_run_of_before_lengths_were_kept_goes_on_without(
    prompts: list[Profile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_lengths(sums: ProfileSums) -> dict[str, Any]:
        described = describe(sums)
        del described["lengths"], described["origin"]["lengths"]
        return described

    with monkeypatch.context() as patched:
        patched.setattr(corpus_progress, "describe", without_lengths)
        write_progress(run_over(prompts[:2]), tmp_path / "partial")
    progress = read_progress(tmp_path / "partial")
    progress.sums.add(prompts[2], 2)
    assert (progress.sums.profile().origin.n_prompts, progress.sums.profile().lengths) == (3, {})


def test_a_damaged_file_of_an_unfinished_run_is_refused(prompts: list[Profile], tmp_path: Path) -> None:
    path = tmp_path / "partial"
    write_progress(run_over(prompts[:2]), path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:40], b"", whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:], b"x" + whole[1:]):
        path.write_bytes(damaged)
        with pytest.raises(ProfileFileError, match="partial"):
            read_progress(path)


@pytest.mark.parametrize("magic", [b"laminar-partial 1\n", b"laminar-partial 12\n"])
def test_an_unfinished_run_of_another_version_is_not_called_damaged(
    prompts: list[Profile], tmp_path: Path, magic: bytes
) -> None:
    path = tmp_path / "out.progress"
    write_progress(run_over(prompts[:2]), path)
    path.write_bytes(magic + path.read_bytes()[len(corpus_progress.MAGIC) :])
    with pytest.raises(ProfileFileError, match="was written by another version of laminar-tui") as refused:
        read_progress(path)
    assert "go on with the version that began the run, or remove the file" in refused.value.hint


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_processes_together_have_what_one_has(prompts: list[Profile], n: int) -> None:
    """The layout that `model.parallel` fills by adding arrays over processes, filled here by adding them in a loop."""
    shares = [ProfileSums() for _ in range(n)]
    for number, profile in enumerate(prompts):
        shares[number % n].add(profile, number)
    total = combine([json.loads(json.dumps(describe(share))) for share in shares])
    for index, layer in enumerate(total.layers):
        own = [share.layers[index] for share in shares if share.layers]
        for each in own if layer is not None else ():
            layer.add_hits(*each.settle_hits())
            arrays = each.arrays() if each.length == layer.length else each.arrays() | {"shares": layer.shares}
            layer.set_arrays({name: old + arrays[name] for name, old in layer.arrays().items()})
    expected = run_over(prompts).sums.profile("c")
    assert profile_bytes(as_one(total.profile("c"))) == profile_bytes(as_one(expected))
