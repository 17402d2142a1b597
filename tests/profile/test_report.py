"""The report: sentences that are made from what was counted, for or against the claims."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.claims import SATELLITE, Chance, depth_thirds, find_satellites
from laminar_tui.profile.merge import ProfileSums, merge, merge_layers
from laminar_tui.profile.nulls import uniform
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import CAVEAT, make_report
from laminar_tui.profile.report_formats import report_json, report_markdown
from laminar_tui.profile.roles import ROLES, Roles
from laminar_tui.profile.sinks import SHORTEST_PROMPT
from laminar_tui.profile.verdicts import _say_null, _say_order, say_roles, say_sinks
from laminar_tui.profile.wording import statement
from laminar_tui.run import SAMPLE_PROFILE

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="module")
def sample() -> Profile:
    """SmolLM2-135M on a paragraph; made before there was a statistic for the scores' variance."""
    return Profile.load(SAMPLE_PROFILE)


def final_on(pattern: NDArray[np.float32], weights: dict[tuple[int, int], float]) -> NDArray[np.float32]:
    """Give the last query of some heads a large weight on a key."""
    pattern = pattern.copy()
    for (head, key), weight in weights.items():
        pattern[head, -1] *= (1 - weight) / (1 - pattern[head, -1, key])
        pattern[head, -1, key] = weight
    return pattern


@pytest.fixture(scope="module")
def six(patterns: Patterns, make_profile: MakeProfile) -> Profile:
    """Six layers of four heads on 40 tokens: calm ones, then the sink in layer 4, and another key in layer 5."""
    calm = [patterns(seed, 4, 40, spread=0.1) for seed in range(6)]
    calm[3] = final_on(calm[3], {(0, 39): 0.9})  # its own weight, which is on no earlier token
    calm[4] = final_on(calm[4], {(0, 0): 0.7, (2, 0): 0.9})
    calm[5] = final_on(calm[5], {(0, 0): 0.7, (1, 7): 0.8, (2, 7): 0.65, (3, 9): 0.55})
    made = make_profile(list(calm))
    words = tuple(f" w{position}" for position in range(40))
    return replace(made, origin=replace(made.origin, tokens=words))


# -- which tokens ----------------------------------------------------------------------------------------------------


def test_a_weight_that_rounding_makes_larger_than_one_is_named(six: Profile) -> None:
    weights = six.layer(4).final_weights
    assert weights is not None
    weights = weights.copy()
    weights[2, 0] = np.float32(1) + np.finfo(np.float32).eps
    layers = [*six.layers]
    layers[4] = replace(six.layer(4), final_weights=weights)
    rounded = Profile(six.origin, tuple(layers))
    assert statement(rounded, 4, 0.6, 1.0) == statement(six, 4, 0.6, 1.0)
    (found,) = (each for each in find_satellites(rounded, [(4, 4)]) if each.threshold == 0.6)
    assert found.n_found == 2


def test_the_satellites_of_smollm2_in_layer_18_are_the_first_token(sample: Profile) -> None:
    found = statement(sample, 18, 0.6, 1.0)
    assert found == "layer 18: the 6 weights above 0.6 are all key 0 ('Photos')"
    weights = sample.layer(18).final_weights
    assert weights is not None
    heads, keys = np.nonzero(weights > 0.6)
    assert (len(heads), set(keys)) == (6, {0})
    assert "Layer 18: the 6 weights above 0.6 are all key 0 ('Photos')." in make_report(sample).sentences


@pytest.mark.parametrize(
    ("layer", "low", "high", "head", "expected"),
    [
        (4, 0.6, 1.0, None, "layer 4: the 2 weights above 0.6 are all key 0 (' w0')"),
        (4, 0.6, 1.0, 2, "layer 4, head 2: the final token's only weight above 0.6 is on key 0 (' w0')"),
        (4, 0.6, 0.8, None, "layer 4: the final token's only weight between 0.6 and 0.8 is on key 0 (' w0')"),
        (0, 0.6, 1.0, None, "layer 0: none of the final token's 156 weights on earlier tokens is above 0.6"),
        (0, 0.6, 1.0, 1, "layer 0, head 1: none of the final token's 39 weights on earlier tokens is above 0.6"),
        (
            5,
            0.6,
            1.0,
            None,
            "layer 5: of the 3 weights above 0.6, 1 is key 0 (' w0'), the others key 7 (' w7') 2 times",
        ),
        (
            5,
            0.5,
            0.66,
            None,
            "layer 5: of the 2 weights between 0.5 and 0.66, none is key 0 (' w0'): they are key 7 (' w7') and "
            "key 9 (' w9')",
        ),
    ],
)
def test_a_statement_names_the_tokens(
    layer: int, low: float, high: float, head: int | None, expected: str, six: Profile
) -> None:
    assert statement(six, layer, low, high, head) == expected


def test_a_statement_counts_every_weight_of_the_band(six: Profile) -> None:
    found = statement(six, 0, 0.0, 1.0)
    assert "of the 156 weights of any size, 4 are key 0" in found
    assert "34 more keys" in found


def test_tokens_keep_to_their_line(six: Profile) -> None:
    odd = replace(six, origin=replace(six.origin, tokens=("\x1b]52;\n\u202e", *six.origin.tokens[1:])))
    assert statement(odd, 4, 0.6, 1.0).isprintable()
    for line in report_markdown(make_report(odd)).splitlines():
        assert line.isprintable()
    empty = replace(six, origin=replace(six.origin, tokens=("", *six.origin.tokens[1:])))
    assert "key 0 (a part of a character)" in statement(empty, 4, 0.6, 1.0)


def test_no_layer_and_no_head(six: Profile) -> None:
    with pytest.raises(UsageError):
        statement(six, 6, 0.6, 1.0)
    with pytest.raises(UsageError):
        statement(six, 0, 0.6, 1.0, 4)


# -- the claims ------------------------------------------------------------------------------------------------------


def test_shares_are_those_of_the_dense_weights(patterns: Patterns, make_profile: MakeProfile) -> None:
    dense = [patterns(seed, 3, 30, spread=seed) for seed in range(1, 7)]
    report = make_report(make_profile(list(dense)))
    assert report.thirds == {"first": (0, 1), "middle": (2, 3), "last": (4, 5)}
    for row in report.shares:
        weights = np.concatenate(dense[row.first_layer : row.last_layer + 1]).astype(np.float16)
        q, k = np.indices((30, 30))
        chosen = {"final": (q == 29) & (k < q), "self": (q == k) & (q > 0), "past": k < q, "all": (k <= q) & (q > 0)}
        entries = weights[:, chosen[row.population] & ((k > 0) | (row.sink == "with"))]
        assert (row.n, row.below, row.above) == (entries.size, (entries < 0.01).sum(), (entries > 0.5).sum())
    assert len(report.shares) == 7 * 3


def test_the_reading_is_confirmed_where_it_is_true(patterns: Patterns, make_profile: MakeProfile) -> None:
    """Sharp early and middle layers, calm late ones with a few large weights: the common reading's picture."""
    sharp = [patterns(seed, 4, 60, spread=4.0) for seed in range(4)]
    sharp = [final_on(each, dict.fromkeys(((head, 5) for head in range(4)), 0.3)) for each in sharp]
    late = [final_on(patterns(seed, 4, 60, spread=0.1), {(0, 0): 0.7}) for seed in range(2)]
    sentences = make_report(make_profile([*sharp, *late])).sentences
    assert "The last third has the smallest share below 0.01: it spreads out most" in sentences[0]
    other = make_report(make_profile([*late, *sharp])).sentences
    assert "The smallest share below 0.01, so the widest spread, is in the first third, not in the last" in other[0]


def test_the_satellites_are_counted_over_all_layers(six: Profile) -> None:
    report = make_report(six)
    sentence = next(each for each in report.sentences if "are above 0.6;" in each)
    assert sentence.startswith("5 of the final token's 936 weights on earlier tokens, in all layers, are above 0.6; ")
    assert "on key 0 (' w0'): 3 (60.0 %); not on it: key 7 (' w7') 2 times." in sentence
    last = next(each for each in report.satellites if (each.first_layer, each.threshold) == (4, SATELLITE))
    assert (last.n_found, last.n_first, last.keys) == (5, 3, {0: 3, 7: 2})


def test_chance_is_a_share_of_the_nulls(six: Profile) -> None:
    report = make_report(six, {"random parameters": uniform(six)})
    assert {each.null for each in report.chance} == {"uniform attention", "independent scores", "random parameters"}
    for each in report.chance:
        ours = next(
            row
            for row in report.shares
            if (row.population, row.sink, row.first_layer)
            == (each.shares.population, each.shares.sink, each.shares.first_layer)
        )
        if each.shares.above:
            assert each.lift_above == pytest.approx(ours.share_above / each.shares.share_above)
        else:
            assert np.isnan(each.lift_above)
    found = [each for each in report.sentences if each.startswith("Against uniform attention")]
    assert "are above 0.5 (6 of 936), in the null 0 % of 936: more than this null gave" in found[0]
    assert "(3 of 912)" in found[1]


@pytest.mark.parametrize(
    ("above", "said"),
    [(17, ": 0.17 times as many;"), (280, ": 2.8 times as many;"), (0, ": fewer;")],
)
def test_fewer_than_chance_is_said_in_words(
    patterns: Patterns, make_profile: MakeProfile, above: int, said: str
) -> None:
    some = make_report(make_profile([patterns(1, 4, 20)])).shares[0]
    ours, theirs = replace(some, n=1000, above=above), replace(some, n=1000, above=100)
    assert said in _say_null("with", ours, Chance("chance", theirs, 1.0, ours.share_above / theirs.share_above))


def test_independent_scores_of_a_head_without_order_are_no_lift(patterns: Patterns, make_profile: MakeProfile) -> None:
    """The profile is itself a draw of such scores: about once as many."""
    profile = make_profile([patterns(seed, 8, 80, spread=3.0) for seed in range(9)])
    chance = [
        each
        for each in make_report(profile).chance
        if (each.null, each.shares.population, each.shares.sink) == ("independent scores", "past", "with")
    ]
    assert len(chance) == 3
    for each in chance:
        assert each.lift_above == pytest.approx(1, abs=0.15)
        assert each.lift_below == pytest.approx(1, abs=0.05)


def test_a_profile_that_does_not_tell_its_variance_says_so(six: Profile) -> None:
    layers = tuple(replace(layer, statistics={}, final_weights=None) for layer in six.layers if layer is not None)
    report = make_report(replace(six, layers=layers))
    assert {each.null for each in report.chance} == {"uniform attention"}
    assert any("does not tell the variance of its scores" in each for each in report.sentences)


def test_a_control_is_called_one(six: Profile) -> None:
    sentences = make_report(uniform(six)).sentences
    assert "The profile itself is a control: null: uniform attention." in sentences


def test_several_prompts_have_no_single_weights(six: Profile) -> None:
    layers = tuple(merge_layers([layer, layer]) for layer in six.layers if layer is not None)
    merged = replace(six, layers=layers)
    report = make_report(merged)
    assert report.satellites == ()
    assert any("Several prompts were added up" in each for each in report.sentences)
    assert "several prompts were added up" in statement(merged, 0, 0.6, 1.0)
    assert report_markdown(report)


def test_prompts_that_differ_in_length_have_computed_chance(patterns: Patterns, make_profile: MakeProfile) -> None:
    corpus = merge([make_profile([patterns(n, 2, n)]) for n in (7, 12)])
    report = make_report(corpus)
    assert {each.null for each in report.chance} == {"uniform attention", "independent scores"}
    assert report.facts["tokens"] == "19 in 2 prompts"
    assert any(each.startswith("The prompts have 2 lengths. Uniform attention is counted") for each in report.sentences)
    ours, null = (next(each.n for each in rows) for rows in (report.shares, [report.chance[0].shares]))
    assert ours == null == 2 * (6 + 11)


def test_a_lift_over_several_prompts_has_the_interval_of_its_share(
    patterns: Patterns, make_profile: MakeProfile
) -> None:
    sums = ProfileSums()
    for n in range(12):
        sums.add(make_profile([patterns(n, 6, 20 + n, 2.0 + n / 3), patterns(n + 50, 6, 20 + n, 1.0 + n / 3)]), n)
    report = make_report(sums.profile("c"))
    found = [each for each in report.chance if each.null == "independent scores" and each.shares.population == "past"]
    for each in found:
        ours = next(
            row
            for row in report.shares
            if (row.population, row.sink, row.first_layer)
            == (each.shares.population, each.shares.sink, each.shares.first_layer)
        )
        assert ours.interval_above is not None
        assert each.interval_above == pytest.approx([end / each.shares.share_above for end in ours.interval_above])
        assert each.interval_above[0] < each.lift_above < each.interval_above[1]
    sentence = next(each for each in report.sentences if each.startswith("Against independent scores"))
    assert re.search(r" times as many \(95 % over the prompts: [\d.]+ to [\d.]+\);", sentence)
    assert re.search(r"\| [\d.]+ \[[\d.]+ to [\d.]+\] \|", report_markdown(report))
    assert json.loads(report_json(report))["chance"][0]["interval_above"] is None, "uniform attention has none so large"
    assert json.loads(report_json(report))["chance"][-1]["interval_above"][0] > 0
    few = make_report(merge([make_profile([patterns(n, 6, 20)]) for n in range(3)]))
    assert not any(each.interval_above for each in few.chance)
    assert "over the prompts" not in " ".join(few.sentences)


def test_prompts_of_unknown_lengths_have_no_computed_chance(patterns: Patterns, make_profile: MakeProfile) -> None:
    """Files of before the lengths were kept."""
    corpus = merge([make_profile([patterns(n, 2, n)]) for n in (7, 12)])
    corpus = replace(corpus, origin=replace(corpus.origin, lengths=()))
    report = make_report(corpus)
    assert report.chance == ()
    assert any("does not tell their lengths" in each for each in report.sentences)
    assert report_markdown(report)
    null = make_profile([patterns(9, 2, 3)])
    assert {each.null for each in make_report(corpus, {"shuffled": null}).chance} == {"shuffled"}


def test_a_null_of_another_model_is_refused(six: Profile, small_profile: Profile) -> None:
    with pytest.raises(UsageError, match="has 4 layers, the profile 6"):
        make_report(six, {"random parameters": small_profile})


def test_an_empty_profile_is_refused(six: Profile) -> None:
    with pytest.raises(UsageError, match="no attention weights"):
        make_report(Profile(six.origin, (None,) * 6))


def test_thirds_are_of_the_layers_that_attend(small_profile: Profile, six: Profile) -> None:
    assert depth_thirds(small_profile) == {"first": (0, 0), "middle": (2, 2), "last": (3, 3)}
    assert depth_thirds(Profile(six.origin, (None, *six.layers[1:3]))) == {"first": (1, 1), "last": (2, 2)}
    assert depth_thirds(Profile(six.origin, six.layers[:1])) == {"first": (0, 0)}
    for n in (1, 2):
        assert make_report(Profile(six.origin, six.layers[:n])).sentences


def test_a_short_prompt_tells_no_sinks(patterns: Patterns, make_profile: MakeProfile) -> None:
    short, enough = (make_profile([patterns(0, 4, n)]) for n in (SHORTEST_PROMPT - 1, SHORTEST_PROMPT))
    assert say_sinks(short, {})[0].startswith("The prompt is too short to tell sinks")
    assert "have a sink" in say_sinks(enough, {})[0]
    assert say_sinks(enough, {0: 40, 3: 9})[-1].endswith("; a head may have several.")


def test_sinks_and_roles_are_told(six: Profile, sample: Profile) -> None:
    sentences = make_report(sample).chapters["Sinks"]
    assert sentences[0].startswith("182 of 270 heads (67.4 %) have a sink")
    assert "key 0 ('Photos') (148 heads)" in sentences[2]
    scores = {name: np.linspace(0, 0.9, 24).reshape(6, 4) for name in ROLES}
    roles = Roles(scores, dict.fromkeys(ROLES, 0.5), 40, 8)
    told = make_report(replace(six, roles=roles)).chapters["Roles"]
    assert told[0] == "The scores were measured on 40 random tokens that repeat, not on this prompt."
    of_several = replace(six, roles=roles, origin=replace(six.origin, n_prompts=50))
    assert say_roles(of_several)[0].endswith("random tokens that repeat, not on these prompts.")
    assert told[2] == "Induction: 11 of 24 heads are above 0.5; the highest is layer 5 head 3 with 0.90."
    assert "Roles" not in make_report(six).chapters


# -- formats ---------------------------------------------------------------------------------------------------------


def test_json_holds_every_number(six: Profile, patterns: Patterns, make_profile: MakeProfile) -> None:
    report = make_report(six)
    document = json.loads(report_json(report))
    assert document["shares"][0]["n"] == report.shares[0].n
    assert document["shares"][0]["share_below"] == pytest.approx(report.shares[0].share_below)
    assert document["satellites"][2]["keys"] == {"0": 3, "7": 2}
    assert [each for chapter in document["chapters"].values() for each in chapter] == list(report.sentences)
    assert document["caveat"] == CAVEAT
    half = patterns(1, 2, 40, spread=0.1) / 2
    half[0, :, 0] += 0.5
    half[1, :5, 0], half[1, 5:, 5] = 0.5, 0.5
    listed = json.loads(report_json(make_report(make_profile([None, half]))))["sink_heads"]
    assert [each[:3] for each in listed] == [[1, 0, 0], [1, 1, 5]]
    assert [each[3] for each in listed] == pytest.approx([half[0, :, 0].mean(), half[1, 5:, 5].mean()], abs=1e-6)


def test_markdown_has_the_sentences_and_the_tables(six: Profile) -> None:
    report = make_report(six)
    text = report_markdown(report)
    assert text.count("Attention is not importance") == 1
    assert text.count("\n* ") == len(report.sentences) + len(report.facts)
    for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in rows.splitlines()}) == 1, rows


def test_markup_in_tokens_is_no_markup(six: Profile) -> None:
    odd = replace(six, origin=replace(six.origin, tokens=("<b>|*_`", *six.origin.tokens[1:]), model="a_b|*c*"))
    text = report_markdown(make_report(odd))
    assert "\\<b\\>\\|\\*\\_\\`" in text
    assert "<b>" not in text
    assert text.startswith("# Attention weights of a\\_b\\|\\*c\\*@step1000\n")


def test_equal_shares_are_said_to_be_equal(six: Profile) -> None:
    rows = [row for row in make_report(six).shares if (row.population, row.sink) == ("self", "with")]
    names = ["first", "middle", "last"]
    same = [replace(row, n=10, below=0, above=0) for row in rows]
    assert _say_order(same, names).startswith("The share below 0.01 is the same in all thirds;")
    ends = [replace(row, n=10, below=below, above=0) for row, below in zip(rows, (0, 1, 0), strict=True)]
    assert "is in the first and the last third;" in _say_order(ends, names)
    early = [replace(row, n=10, below=below, above=0) for row, below in zip(rows, (0, 0, 1), strict=True)]
    assert "is in the first and the middle third, not in the last;" in _say_order(early, names)


def test_nothing_is_not_compared_with_chance(patterns: Patterns, make_profile: MakeProfile) -> None:
    told = make_report(make_profile([patterns(layer, 2, 2) for layer in range(3)])).sentences
    assert not any("of 0)" in each or "- against -" in each for each in told)
