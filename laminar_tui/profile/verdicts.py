"""What the numbers say of each claim, in sentences that hold for this profile, for or against."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from laminar_tui.profile.claims import (
    SATELLITE,
    SINKS,
    Chance,
    Satellites,
    Shares,
    compare_with_null,
    count_shares,
)
from laminar_tui.profile.counts import HIGH, LOW
from laminar_tui.profile.parts import SinkChoice
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import ROLES
from laminar_tui.profile.sinks import SHORTEST_PROMPT, THRESHOLD, are_judged, sink_heads
from laminar_tui.profile.values import measure_sink_values, why_none
from laminar_tui.profile.wording import (
    MOST_NAMED,
    between,
    capitalized,
    list_keys,
    list_layers,
    name_key,
    name_layers,
    percent,
    statement,
    times,
)

CLAIMED = ("final", "self")
"""The populations that the claims are about."""
_WHOSE = {"final": "Of the final token's weights on earlier tokens", "self": "Of the tokens' weights on themselves"}


def say_spread(shares: Sequence[Shares], thirds: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Say how much is pressed to zero in each third of the depth, and where the large weights are.

    Args:
        shares: of the thirds, in order; other populations than the claims' are passed over.
        thirds: name -> first and last layer.
    """
    sentences = []
    for population in CLAIMED:
        for sink in SINKS:
            rows = [each for each in shares if (each.population, each.sink) == (population, sink) and each.n]
            if rows:
                sentences += _say_shares(population, sink, rows, list(thirds))
    return tuple(sentences)


def _say_shares(population: str, sink: SinkChoice, rows: Sequence[Shares], names: Sequence[str]) -> list[str]:
    whose = _WHOSE[population] + (", without those on the first token" if sink == "without" else "")
    if len(rows) == 1:
        row = rows[0]
        return [
            f"{whose} (n = {row.n:,}), {percent(row.share_below)} are below {LOW} and {percent(row.share_above)} "
            f"({row.above:,}) above {HIGH}."
        ]
    below = ", ".join(
        f"{percent(row.share_below)} in the {name} third "
        f"({name_layers(row.first_layer, row.last_layer)}, n = {row.n:,})"
        for name, row in zip(names, rows, strict=False)
    )
    above = ", ".join(f"{percent(row.share_above)} ({row.above:,})" for row in rows)
    return [
        f"{whose}, below {LOW} are {below}. Above {HIGH} are, in the same order, {above}. {_say_order(rows, names)}"
    ]


def _say_order(rows: Sequence[Shares], names: Sequence[str]) -> str:
    """Say whether late layers spread out, and where the large weights are."""
    below = [row.share_below for row in rows]
    least = [name for name, share in zip(names, below, strict=False) if share == min(below)]
    if min(below) == max(below):
        spread = f"The share below {LOW} is the same in all thirds"
    elif least == [names[len(rows) - 1]]:
        spread = f"The last third has the smallest share below {LOW}: it spreads out most"
    else:
        but = "" if names[len(rows) - 1] in least else ", not in the last"
        spread = f"The smallest share below {LOW}, so the widest spread, is in the {' and the '.join(least)} third{but}"
    if not any(row.above for row in rows):
        return f"{spread}; nowhere is a weight above {HIGH}."
    above = [row.share_above for row in rows]
    where = " and the ".join(name for name, share in zip(names, above, strict=False) if share == max(above))
    return f"{spread}; the largest share above {HIGH} is in the {where} third."


def say_satellites(
    profile: Profile, satellites: Sequence[Satellites], by_layer: Sequence[Satellites]
) -> tuple[str, ...]:
    """Say which tokens the final token's large weights fall on, and whether these tokens have anything to move.

    Args:
        satellites: of runs of layers, empty for several prompts.
        by_layer: the same, layer by layer.
    """
    if not satellites:
        return ("Several prompts were added up: which tokens single weights fall on is not in the profile.",)
    sentences = [_say_above(profile, by_layer, threshold) for threshold in (SATELLITE, HIGH)]
    sentences += _say_sink_values(profile, by_layer)
    sentences += [
        f"{capitalized(statement(profile, each.first_layer, SATELLITE, 1.0))}."
        for each in by_layer
        if each.threshold == SATELLITE and each.n_found
    ]
    return tuple(sentences)


def _say_above(profile: Profile, by_layer: Sequence[Satellites], threshold: float) -> str:
    keys: Counter[int] = Counter()
    for each in by_layer:
        if each.threshold == threshold:
            keys.update(each.keys)
    n = sum(each.n for each in by_layer if each.threshold == threshold)
    found, first = sum(keys.values()), keys[0]
    if not found:
        return f"None of the final token's {n:,} weights on earlier tokens, in all layers, is above {threshold}."
    others = {key: hits for key, hits in keys.items() if key}
    rest = f"; not on it: {list_keys(profile, others)}" if others else ""
    whole = f"{found:,} of the final token's {n:,} weights on earlier tokens, in all layers, are above {threshold}"
    return f"{whole}; of these on {name_key(profile, 0)}: {first:,} ({percent(first / found)}){rest}."


def _say_sink_values(profile: Profile, by_layer: Sequence[Satellites]) -> list[str]:
    """Say how much the sink's satellites can move, where there are any."""
    found = measure_sink_values(profile, SATELLITE)
    if found is None:
        has_any = any(each.n_first for each in by_layer if each.threshold == SATELLITE)
        return [f"{capitalized(why)}."] if has_any and (why := why_none(profile)) else []
    if found.n == 1:
        return [
            f"The value vector that the only weight above {SATELLITE} on {name_key(profile, 0)} multiplies has "
            f"{found.norm:.2g} of its head's mean length: with it, a weight of {found.weight:.2g} is "
            f"{percent(found.share)} of what its query takes in."
        ]
    return [
        f"The value vectors that the {found.n:,} weights above {SATELLITE} on {name_key(profile, 0)} multiply have "
        f"{found.norm:.2g} of their heads' mean length (median): with it, a weight of {found.weight:.2g} is "
        f"{percent(found.share)} of what its query takes in (medians); for {found.n_on_little:,} of them that is less "
        f"than half of the weight."
    ]


def say_chance(profile: Profile, known: Mapping[str, Profile]) -> tuple[str, ...]:
    """Compare the final token's large weights with each null (title -> null), and say which nulls there are none of."""
    sentences = []
    for title, null in known.items():
        for sink in SINKS:
            ours = count_shares(profile, "final", sink, 0, profile.n_layers - 1)
            found = compare_with_null(ours, title, null)
            if ours.n and found.shares.n:
                sentences.append(_say_null(sink, ours, found))
    if not profile.lengths:
        sentences.append(
            "The prompts differ in length and the profile, made by an older version, does not tell their lengths, so "
            "uniform attention and independent scores are left out; capture the corpus again for them."
        )
    elif "independent scores" not in known:
        sentences.append(
            "The profile does not tell the variance of its scores, so there is no null of independent scores; capture "
            "it again for one."
        )
    elif len(profile.lengths) > 1:
        sentences.append(
            f"The prompts have {len(profile.lengths):,} lengths. Uniform attention is counted for all of them; "
            "independent scores are drawn for some of the queries, evenly spread over those of all prompts."
        )
    if profile.origin.recipe != "true":
        sentences.append(f"The profile itself is a control: {profile.origin.recipe}.")
    return tuple(sentences)


def _say_null(sink: SinkChoice, ours: Shares, chance: Chance) -> str:
    """Compare the share of the final token's weights above 0.5 with a null's."""
    title, theirs = chance.null, chance.shares
    without = ", without those on the first token," if sink == "without" else ""
    model = f"{percent(ours.share_above)} of the final token's weights{without} are above {HIGH} ({ours.above:,} of "
    model += f"{ours.n:,})"
    expected = f"{percent(theirs.share_above)} of {theirs.n:,}"
    small = f"below {LOW} are {percent(ours.share_below)} against {percent(theirs.share_below)}"
    if not theirs.above:
        verdict = "more than this null gave" if ours.above else "no more than this null gave"
        return f"Against {title}: {model}, in the null {expected}: {verdict}; {small}."
    many = f"{times(chance.lift_above)} times as many" if chance.lift_above else "fewer"
    if chance.interval_above is not None:
        many += f" (95 % over the prompts: {between(chance.interval_above)})"
    return f"Against {title}: {model}, in the null {expected}: {many}; {small}."


def say_sinks(profile: Profile, heads_by_key: Mapping[int, int]) -> tuple[str, ...]:
    """Say how many heads have a sink, and where; `heads_by_key` is how many at each key position."""
    n_heads = sum(layer.n_heads for layer in profile.layers if layer is not None)
    if not are_judged(profile):
        return (
            f"The prompt is too short to tell sinks: below {SHORTEST_PROMPT} tokens key 0 gets a large share whatever "
            "the model does.",
        )
    found = sink_heads(profile)
    n_found = int(found.sum())
    have = "has" if n_found == 1 else "have"
    sentences = [
        f"{n_found:,} of {n_heads:,} heads ({percent(n_found / n_heads)}) {have} a sink: a key that gets more than "
        f"{THRESHOLD} of the attention of the queries that may see it, on average."
    ]
    if n_found:
        layers = [index for index in range(profile.n_layers) if found[index].any()]
        sentences.append(f"They are in {list_layers(layers)}.")
    if heads_by_key:
        by_hits = sorted(heads_by_key, key=lambda key: (-heads_by_key[key], key))
        named = [f"{name_key(profile, key)} ({_heads(heads_by_key[key])})" for key in by_hits[:MOST_NAMED]]
        more = len(by_hits) - len(named)
        several = "; a head may have several" if sum(heads_by_key.values()) > n_found else ""
        listed = f"{', '.join(named)}{f', {more} more keys' if more else ''}"
        sentences.append(f"By the number of heads, they are at {listed}{several}.")
    lost = profile.statistics["off_sequence"]
    if np.nanmax(lost, initial=0.0) > 1e-3:
        sentences.append(f"On average {percent(float(np.nanmean(lost)))} of a query's attention goes to no key at all.")
    return tuple(sentences)


def _heads(n: int) -> str:
    return "1 head" if n == 1 else f"{n:,} heads"


def say_roles(profile: Profile) -> tuple[str, ...]:
    """Say how many heads have each role; nothing where roles were not measured."""
    roles = profile.roles
    if roles is None:
        return ()
    sentences = []
    for name in roles.scores:
        ranking = roles.ranking(name)
        if not ranking or name not in ROLES:
            continue
        best, n = ranking[0], int(roles.has(name).sum())
        sentences.append(
            f"{capitalized(ROLES[name].title)}: {n:,} of {len(ranking):,} heads {'is' if n == 1 else 'are'} above "
            f"{roles.thresholds[name]:.2g}; the highest is layer {best.layer} head {best.head} with {best.score:.2f}."
        )
    these = "this prompt" if profile.origin.n_prompts == 1 else "these prompts"
    where = f"The scores were measured on {roles.period} random tokens that repeat, not on {these}."
    return (where, *sentences) if sentences else ()
