"""The exercise's reading of a laminar profile, put to the numbers, in plain words.

1. Early and middle layers press almost everything to zero; late layers spread, with satellites at 0.6 to 0.8.
2. The satellites are a few past tokens that matter.
3. This is more than chance.

Each sentence is made from what was counted, so it says what is true of this profile, for or against the claim.
Texts hold the model's name and tokens as Python writes them (no control or format character); a screen still passes
them through `render.text.visible`.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from laminar_tui.errors import UsageError
from laminar_tui.profile.nulls import independent_scores, uniform
from laminar_tui.profile.parts import POPULATIONS, SinkChoice
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.profile.roles import ROLES
from laminar_tui.profile.sinks import THRESHOLD, sink_heads, sink_keys
from laminar_tui.profile.values import EMPTY, SinkValues, measure_sink_values, why_none

LOW, HIGH = 0.01, 0.5
"""Below and above which the exercise's two sets of weights are looked for."""
SATELLITE = 0.6
"""From here on the exercise speaks of satellites."""
MOST_NAMED = 4
"""How many tokens a sentence names before it counts the others."""
EXERCISE = ("final", "self")
SINKS: tuple[SinkChoice, ...] = ("with", "without")
THIRDS = ("first", "middle", "last")
COMPUTED_NULLS = {"uniform attention": uniform, "independent scores": independent_scores}
"""The nulls that need no model."""
CAVEAT = (
    "A weight says where a head looks, not how much it matters: a weight of 0.8 on a value vector of length zero moves "
    "nothing. Attention is not importance."
)


@dataclass(frozen=True)
class Shares:
    """How many weights of some layers are small and large.

    Attributes:
        population, sink: which weights.
        first_layer, last_layer: of which layers, both included.
        n: how many weights; `below` of them are below 0.01 and `above` above 0.5.
    """

    population: str
    sink: SinkChoice
    first_layer: int
    last_layer: int
    n: int
    below: int
    above: int

    @property
    def share_below(self) -> float:
        """`below` of `n`; NaN for none."""
        return self.below / self.n if self.n else math.nan

    @property
    def share_above(self) -> float:
        """`above` of `n`; NaN for none."""
        return self.above / self.n if self.n else math.nan


@dataclass(frozen=True)
class Satellites:
    """What the final token's large weights on earlier tokens fall on.

    Attributes:
        first_layer, last_layer: of which layers, both included.
        threshold: what a weight has to exceed.
        n: of how many weights.
        keys: key position -> how many of them, the most frequent first.
    """

    first_layer: int
    last_layer: int
    threshold: float
    n: int
    keys: dict[int, int]

    @property
    def n_found(self) -> int:
        """How many weights exceed the threshold."""
        return sum(self.keys.values())

    @property
    def n_first(self) -> int:
        """How many of them are on key 0."""
        return self.keys.get(0, 0)


@dataclass(frozen=True)
class Chance:
    """The same shares, of a null.

    Attributes:
        null: its name.
        shares: of the null.
        lift_below, lift_above: the profile's share divided by the null's; NaN where the null's is zero.
    """

    null: str
    shares: Shares
    lift_below: float
    lift_above: float


@dataclass(frozen=True)
class Report:
    """The claims and the numbers.

    Attributes:
        facts: name -> value, of the model and the run.
        tokens: of the prompt; empty where several prompts were added up.
        thirds: name of the third -> its first and last layer.
        shares: by third, population and sink choice; `layer_shares` by layer.
        satellites: by third and threshold; `layer_satellites` by layer. Empty for several prompts.
        chance: by third, population and null.
        sinks: key position -> how many heads have a sink there.
        chapters: heading -> what the numbers say.
        sink_values: how small the value vectors behind the satellites on key 0 are; None where there are none, or the
            profile does not tell.
    """

    facts: dict[str, str]
    tokens: tuple[str, ...]
    thirds: dict[str, tuple[int, int]]
    shares: tuple[Shares, ...]
    layer_shares: tuple[Shares, ...]
    satellites: tuple[Satellites, ...]
    layer_satellites: tuple[Satellites, ...]
    chance: tuple[Chance, ...]
    sinks: dict[int, int]
    chapters: dict[str, tuple[str, ...]]
    sink_values: SinkValues | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences, in the order of the claims."""
        return tuple(sentence for chapter in self.chapters.values() for sentence in chapter)


def make_report(profile: Profile, nulls: Mapping[str, Profile] | None = None) -> Report:
    """Test the claims on a profile.

    Args:
        profile: at least one layer of it read.
        nulls: title -> profile of a null that needs a model (`model.nulls`); uniform attention and independent scores
            are always there, as far as the profile tells the scores' variance.

    Raises:
        UsageError: if no layer of the profile was read, or a null has another number of layers.
    """
    if not profile.n_read:
        raise UsageError("the profile holds no attention weights", "capture it again, and let it read a layer")
    thirds = depth_thirds(profile)
    computed = {title: make(profile) for title, make in COMPUTED_NULLS.items() if profile.n_tokens}
    for title, null in (nulls or {}).items():
        if null.n_layers != profile.n_layers:
            raise UsageError(
                f"the null of {title} has {null.n_layers} layers, the profile {profile.n_layers}",
                "make it from the same model: laminar-tui capture SOURCE --null ...",
            )
    known = {title: null for title, null in (computed | dict(nulls or {})).items() if null.n_read}
    layers = [(index, index) for index, layer in enumerate(profile.layers) if layer is not None]
    shares = tuple(_shares(profile, *pair, *span) for pair in _pairs() for span in thirds.values())
    satellites = _all_satellites(profile, list(thirds.values()))
    layer_satellites = _all_satellites(profile, layers)
    chance = tuple(_chance(each, title, null) for title, null in known.items() for each in shares)
    heads_by_key = Counter(key for layer in profile.layers if layer for _, key, _ in sink_keys(layer))
    chapters = {
        "1. Pressed to zero early, spread out late?": _first_claim(shares, thirds),
        "2. Which tokens are the satellites?": _second_claim(profile, satellites, layer_satellites),
        "3. More than chance?": _third_claim(profile, shares, chance, known),
        "Sinks": _sink_sentences(profile, dict(heads_by_key)),
        "Roles": _role_sentences(profile),
    }
    return Report(
        _facts(profile),
        profile.origin.tokens,
        thirds,
        shares,
        tuple(_shares(profile, *pair, *span) for pair in _pairs() for span in layers),
        satellites,
        layer_satellites,
        chance,
        dict(sorted(heads_by_key.items())),
        {title: sentences for title, sentences in chapters.items() if sentences},
        measure_sink_values(profile, SATELLITE),
    )


def depth_thirds(profile: Profile) -> dict[str, tuple[int, int]]:
    """Cut the layers that were read into three runs as equal as can be: name -> first and last layer."""
    read = [index for index, layer in enumerate(profile.layers) if layer is not None]
    pieces = [piece for piece in np.array_split(np.array(read, dtype=np.int64), min(3, len(read))) if len(piece)]
    names = THIRDS if len(pieces) == 3 else THIRDS[:1] + THIRDS[2:]
    return {name: (int(piece[0]), int(piece[-1])) for name, piece in zip(names, pieces, strict=False)}


# -- what is counted -------------------------------------------------------------------------------------------------


def _pairs() -> list[tuple[str, SinkChoice]]:
    """Every population with and without the sink; the weights of tokens on themselves have none."""
    return [(name, sink) for name in POPULATIONS for sink in SINKS if name != "self" or sink == "with"]


def _read_between(profile: Profile, first: int, last: int) -> list[LayerProfile]:
    return [layer for layer in profile.layers[first : last + 1] if layer is not None]


def _shares(profile: Profile, population: str, sink: SinkChoice, first: int, last: int) -> Shares:
    n = below = above = 0
    for layer in _read_between(profile, first, last):
        counts = layer.layer_counts(population, sink)
        here = int(counts.n)
        if not here:
            continue
        n += here
        above += round(float(counts.share_above(HIGH)) * here)
        below += here - round(float(counts.share_above(LOW)) * here)  # 0.01 lies between two bins
    return Shares(population, sink, first, last, n, below, above)


def _all_satellites(profile: Profile, spans: Sequence[tuple[int, int]]) -> tuple[Satellites, ...]:
    found = [_satellites(profile, *span, threshold) for threshold in (SATELLITE, HIGH) for span in spans]
    return tuple(each for each in found if each is not None)


def _satellites(profile: Profile, first: int, last: int, threshold: float) -> Satellites | None:
    layers = _read_between(profile, first, last)
    if not layers or any(layer.final_weights is None for layer in layers):
        return None
    keys: Counter[int] = Counter()
    for layer in layers:
        assert layer.final_weights is not None
        keys.update(int(key) for key in np.nonzero(layer.final_weights[:, :-1] > threshold)[1])
    n = sum(int(layer.layer_counts("final").n) for layer in layers)
    return Satellites(first, last, threshold, n, dict(sorted(keys.items(), key=lambda pair: (-pair[1], pair[0]))))


def _chance(shares: Shares, title: str, null: Profile) -> Chance:
    there = _shares(null, shares.population, shares.sink, shares.first_layer, shares.last_layer)
    return Chance(
        title, there, _lift(shares.share_below, there.share_below), _lift(shares.share_above, there.share_above)
    )


def _lift(share: float, chance: float) -> float:
    return share / chance if chance > 0 else math.nan


def _facts(profile: Profile) -> dict[str, str]:
    origin = profile.origin
    return {
        "model": origin.model + (f"@{origin.revision}" if origin.revision else ""),
        "architecture": origin.architecture,
        "layers": f"{profile.n_read} of {profile.n_layers}",
        "heads": str(profile.n_heads),
        "tokens": f"{profile.total_tokens}" + (f" in {origin.n_prompts} prompts" if origin.n_prompts > 1 else ""),
        "dtype": origin.dtype,
        "read by": origin.mechanism,
        "weights": "the model's own" if origin.recipe == "true" else origin.recipe,
    }


# -- words -----------------------------------------------------------------------------------------------------------


def name_key(profile: Profile, key: int) -> str:
    """Name a key by position and token: `key 0 ('The')`."""
    token = profile.origin.tokens[key]
    return f"key {key} ({token!r})" if token else f"key {key} (a part of a character)"


def statement(profile: Profile, layer: int, low: float, high: float, head: int | None = None) -> str:
    """Say in one sentence which tokens the final token's weights in a band fall on.

    Args:
        profile: of one prompt.
        layer, head: which weights; all heads where `head` is None.
        low, high: the band, low < weight <= high (from 0 on for low = 0); on the weights on earlier tokens.

    Raises:
        UsageError: if there is no such layer or head, or it has no attention.
    """
    place = f"layer {layer}" if head is None else f"layer {layer}, head {head}"
    found = profile.layer(layer)
    if head is not None:
        profile.check_head(layer, head)
    if found.final_weights is None:
        return f"{place}: several prompts were added up, so there are no single weights to name"
    weights = found.final_weights[slice(None) if head is None else slice(head, head + 1), :-1]
    chosen = (weights <= high) & ((weights > low) | (low <= 0))
    keys = Counter(int(key) for key in np.nonzero(chosen)[1])
    return f"{place}: {_say_keys(profile, keys, _band(low, high), found, head)}"


def _band(low: float, high: float) -> str:
    if high >= 1:
        return f"above {low:.3g}" if low > 0 else "of any size"
    return f"between {low:.3g} and {high:.3g}" if low > 0 else f"up to {high:.3g}"


def _say_keys(profile: Profile, keys: Counter[int], band: str, layer: LayerProfile, head: int | None) -> str:
    n, first = sum(keys.values()), keys[0]
    if not n:
        of = int(layer.layer_counts("final").n if head is None else layer.head_counts("final").n[head])
        return f"none of the final token's {of:,} weights on earlier tokens is {band}"
    if n == 1:
        return f"the final token's only weight {band} is on {name_key(profile, next(iter(keys)))}"
    what = f"the {n:,} weights {band}" if first in (0, n) and len(keys) == 1 else f"of the {n:,} weights {band}"
    if len(keys) == 1:
        return f"{what} are all {name_key(profile, next(iter(keys)))}"
    others = Counter({key: hits for key, hits in keys.items() if key})
    if first:
        are = "is" if first == 1 else "are"
        rest = "the other" if n - first == 1 else "the others"
        return f"{what}, {first:,} {are} {name_key(profile, 0)}, {rest} {_list_keys(profile, others)}"
    return f"{what}, none is {name_key(profile, 0)}: they are {_list_keys(profile, others)}"


def _list_keys(profile: Profile, keys: Mapping[int, int]) -> str:
    """`key 3 (' of') three times, key 7 ('.') and 2 more keys`: the most frequent first."""
    order = sorted(keys, key=lambda key: (-keys[key], key))
    named = [name_key(profile, key) + (f" {keys[key]} times" if keys[key] > 1 else "") for key in order[:MOST_NAMED]]
    more = len(order) - len(named)
    if more:
        named.append(f"{more} more key{'s' if more > 1 else ''}")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def percent(share: float) -> str:
    """Write a share in sensible digits: `97.2 %`, `0.31 %`, `none`."""
    if math.isnan(share):
        return "-"
    if share == 0:
        return "none"
    value = 100 * share
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"


def _sentence(text: str) -> str:
    """Begin with a capital and leave the rest, tokens above all, as it is."""
    return text[:1].upper() + text[1:]


def _span(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def _first_claim(shares: Sequence[Shares], thirds: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    sentences = []
    for population in EXERCISE:
        for sink in SINKS:
            rows = [each for each in shares if (each.population, each.sink) == (population, sink) and each.n]
            if rows:
                sentences += _say_shares(population, sink, rows, list(thirds))
    return tuple(sentences)


_WHOSE = {"final": "Of the final token's weights on earlier tokens", "self": "Of the tokens' weights on themselves"}


def _say_shares(population: str, sink: SinkChoice, rows: Sequence[Shares], names: Sequence[str]) -> list[str]:
    whose = _WHOSE[population] + (", without those on the first token" if sink == "without" else "")
    if len(rows) == 1:
        row = rows[0]
        return [
            f"{whose} (n = {row.n:,}), {percent(row.share_below)} are below {LOW} and {percent(row.share_above)} "
            f"({row.above:,}) above {HIGH}."
        ]
    below = ", ".join(
        f"{percent(row.share_below)} in the {name} third ({_span(row.first_layer, row.last_layer)}, n = {row.n:,})"
        for name, row in zip(names, rows, strict=False)
    )
    above = ", ".join(f"{percent(row.share_above)} ({row.above:,})" for row in rows)
    return [
        f"{whose}, below {LOW} are {below}. Above {HIGH} are, in the same order, {above}. {_say_order(rows, names)}"
    ]


def _say_order(rows: Sequence[Shares], names: Sequence[str]) -> str:
    """Say whether late layers spread out, and where the large weights are."""
    below = [row.share_below for row in rows]
    if below[-1] == min(below) < max(below):
        spread = f"The last third has the smallest share below {LOW}: it spreads out most"
    else:
        least = names[below.index(min(below))]
        spread = f"The smallest share below {LOW}, so the widest spread, is in the {least} third, not in the last"
    if not any(row.above for row in rows):
        return f"{spread}; nowhere is a weight above {HIGH}."
    above = [row.share_above for row in rows]
    where = " and the ".join(name for name, share in zip(names, above, strict=False) if share == max(above))
    return f"{spread}; the largest share above {HIGH} is in the {where} third."


def _second_claim(
    profile: Profile, satellites: Sequence[Satellites], by_layer: Sequence[Satellites]
) -> tuple[str, ...]:
    if not satellites:
        return ("Several prompts were added up: which tokens single weights fall on is not in the profile.",)
    sentences = [_say_satellites(profile, by_layer, threshold) for threshold in (SATELLITE, HIGH)]
    sentences += _say_sink_values(profile, by_layer)
    sentences += [
        f"{_sentence(statement(profile, each.first_layer, SATELLITE, 1.0))}."
        for each in by_layer
        if each.threshold == SATELLITE and each.n_found
    ]
    return tuple(sentences)


def _say_sink_values(profile: Profile, by_layer: Sequence[Satellites]) -> list[str]:
    """Say how much the sink's satellites can move, where there are any."""
    found = measure_sink_values(profile, SATELLITE)
    if found is None:
        has_any = any(each.n_first for each in by_layer if each.threshold == SATELLITE)
        return [f"{_sentence(why)}."] if has_any and (why := why_none(profile)) else []
    weights = "weight" if found.n == 1 else "weights"
    return [
        f"The value vectors that the {found.n:,} {weights} above {SATELLITE} on {name_key(profile, 0)} multiply have "
        f"{found.norm:.2g} of their heads' mean length (median), {found.n_on_nothing:,} of them at most {EMPTY}: with "
        f"it, a weight of {found.weight:.2g} is {percent(found.share)} of what its query takes in (medians)."
    ]


def _say_satellites(profile: Profile, by_layer: Sequence[Satellites], threshold: float) -> str:
    keys: Counter[int] = Counter()
    for each in by_layer:
        if each.threshold == threshold:
            keys.update(each.keys)
    n = sum(each.n for each in by_layer if each.threshold == threshold)
    found, first = sum(keys.values()), keys[0]
    if not found:
        return f"None of the final token's {n:,} weights on earlier tokens, in all layers, is above {threshold}."
    others = {key: hits for key, hits in keys.items() if key}
    rest = f"; not on it: {_list_keys(profile, others)}" if others else ""
    whole = f"{found:,} of the final token's {n:,} weights on earlier tokens, in all layers, are above {threshold}"
    return f"{whole}; of these on {name_key(profile, 0)}: {first:,} ({percent(first / found)}){rest}."


def _heads(n: int) -> str:
    return "1 head" if n == 1 else f"{n:,} heads"


def _third_claim(
    profile: Profile, shares: Sequence[Shares], chance: Sequence[Chance], known: Mapping[str, Profile]
) -> tuple[str, ...]:
    sentences = []
    for title in known:
        for sink in SINKS:
            ours = [each for each in shares if (each.population, each.sink) == ("final", sink)]
            theirs = [
                each.shares
                for each in chance
                if each.null == title and (each.shares.population, each.shares.sink) == ("final", sink)
            ]
            sentences.append(_say_chance(title, sink, _total(ours), _total(theirs)))
    if not profile.n_tokens:
        sentences.append(
            "The prompts differ in length, so uniform attention and independent scores, which are drawn for one "
            "length, are left out."
        )
    elif "independent scores" not in known:
        sentences.append(
            "The profile does not tell the variance of its scores, so there is no null of independent scores; capture "
            "it again for one."
        )
    if profile.origin.recipe != "true":
        sentences.append(f"The profile itself is a control: {profile.origin.recipe}.")
    return tuple(sentences)


def _total(rows: Sequence[Shares]) -> Shares:
    first, last = rows[0], rows[-1]
    return Shares(
        first.population,
        first.sink,
        first.first_layer,
        last.last_layer,
        sum(row.n for row in rows),
        sum(row.below for row in rows),
        sum(row.above for row in rows),
    )


def _say_chance(title: str, sink: SinkChoice, ours: Shares, theirs: Shares) -> str:
    """Compare the share of the final token's weights above 0.5 with a null's."""
    without = ", without those on the first token," if sink == "without" else ""
    model = f"{percent(ours.share_above)} of the final token's weights{without} are above {HIGH} ({ours.above:,} of "
    model += f"{ours.n:,})"
    expected = f"{percent(theirs.share_above)} of {theirs.n:,}"
    small = f"below {LOW} are {percent(ours.share_below)} against {percent(theirs.share_below)}"
    if not theirs.above:
        verdict = "more than this null ever gives" if ours.above else "no more than this null gives"
        return f"Against {title}: {model}, in the null {expected}: {verdict}; {small}."
    lift = ours.share_above / theirs.share_above
    times = f"{lift:.2g} times as many" if lift else "fewer than by this chance"
    return f"Against {title}: {model}, in the null {expected}: {times}; {small}."


def _sink_sentences(profile: Profile, heads_by_key: Mapping[int, int]) -> tuple[str, ...]:
    n_heads = sum(layer.n_heads for layer in profile.layers if layer is not None)
    found = sink_heads(profile)
    n_found = int(found.sum())
    sentences = [
        f"{n_found:,} of {n_heads:,} heads ({percent(n_found / n_heads)}) have a sink: a key that gets more than "
        f"{THRESHOLD} of the attention of the queries that may see it, on average."
    ]
    if n_found:
        layers = [index for index in range(profile.n_layers) if found[index].any()]
        sentences.append(f"They are in {_list_layers(layers)}.")
    if heads_by_key:
        by_hits = sorted(heads_by_key, key=lambda key: (-heads_by_key[key], key))
        named = [f"{name_key(profile, key)} ({_heads(heads_by_key[key])})" for key in by_hits[:MOST_NAMED]]
        more = len(by_hits) - len(named)
        sentences.append(f"By the number of heads, they are at {', '.join(named)}{f', {more} more' if more else ''}.")
    lost = profile.statistics["off_sequence"]
    if np.nanmax(lost, initial=0.0) > 1e-3:
        sentences.append(f"On average {percent(float(np.nanmean(lost)))} of a query's attention goes to no key at all.")
    return tuple(sentences)


def _list_layers(layers: Sequence[int]) -> str:
    """`layers 1, 3 to 7 and 9`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    text = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"layer {text}" if len(layers) == 1 else f"layers {text}"


def _role_sentences(profile: Profile) -> tuple[str, ...]:
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
            f"{_sentence(ROLES[name].title)}: {n:,} of {len(ranking):,} heads are above {roles.thresholds[name]:.2g}; "
            f"the highest is layer {best.layer} head {best.head} with {best.score:.2f}."
        )
    return tuple(sentences)


# -- formats ---------------------------------------------------------------------------------------------------------


def report_json(report: Report) -> str:
    """Write a report as JSON: sentences, and every number they are made of."""
    document = asdict(report)
    document["chapters"] = {title: list(sentences) for title, sentences in report.chapters.items()}
    for name in ("shares", "layer_shares"):
        document[name] = [_share_object(each) for each in getattr(report, name)]
    document["chance"] = [asdict(each) | {"shares": _share_object(each.shares)} for each in report.chance]
    document["caveat"] = CAVEAT
    return json.dumps(_plain(document), allow_nan=False)


def _share_object(shares: Shares) -> dict[str, Any]:
    return asdict(shares) | {"share_below": shares.share_below, "share_above": shares.share_above}


def _plain(value: Any) -> Any:
    """JSON has no NaN and no keys but text."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report_markdown(report: Report) -> str:
    """Write a report as Markdown: the claims, the sentences, the tables."""
    blocks = [f"# Attention weights of {_escaped(report.facts['model'])}"]
    blocks.append("\n".join(f"* {name}: {_escaped(value)}" for name, value in report.facts.items()))
    for title, sentences in report.chapters.items():
        blocks.append(f"## {title}")
        blocks.append("\n".join(f"* {_escaped(sentence)}" for sentence in sentences))
    blocks += ["## The numbers", _shares_table(report), _chance_table(report)]
    if report.layer_satellites:
        blocks.append(_satellites_table(report))
    return "\n\n".join([*blocks, CAVEAT]) + "\n"


def _escaped(text: str) -> str:
    """Take the meaning from what Markdown would read as markup, and keep names on one line."""
    one_line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#" else each for each in one_line)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shares_table(report: Report) -> str:
    rows = [
        [
            each.population,
            each.sink,
            _span(each.first_layer, each.last_layer),
            f"{each.n:,}",
            f"{percent(each.share_below)} ({each.below:,})",
            f"{percent(each.share_above)} ({each.above:,})",
        ]
        for each in report.shares
        if each.n
    ]
    return _table(["population", "sink", "layers", "n", f"below {LOW}", f"above {HIGH}"], rows)


def _chance_table(report: Report) -> str:
    rows = [
        [
            each.null,
            each.shares.population,
            each.shares.sink,
            _span(each.shares.first_layer, each.shares.last_layer),
            f"{each.shares.n:,}",
            percent(each.shares.share_below),
            _times(each.lift_below),
            percent(each.shares.share_above),
            _times(each.lift_above),
        ]
        for each in report.chance
        if each.shares.n
    ]
    head = ["null", "population", "sink", "layers", "n", f"below {LOW}", "lift", f"above {HIGH}", "lift"]
    return _table(head, rows)


def _times(lift: float) -> str:
    return "-" if math.isnan(lift) else f"{lift:.2g}"


def _satellites_table(report: Report) -> str:
    by_layer = {(each.first_layer, each.threshold): each for each in report.layer_satellites}
    layers = sorted({layer for layer, _ in by_layer})
    rows = []
    for layer in layers:
        row = [str(layer), f"{by_layer[layer, SATELLITE].n:,}"]
        for threshold in (SATELLITE, HIGH):
            here = by_layer[layer, threshold]
            others = [f"{key}: {_escaped(repr(report.tokens[key]))}" for key in here.keys if key]
            row += [str(here.n_found), str(here.n_first), ", ".join(others) or "-"]
        rows.append(row)
    head = ["layer", "n"]
    for threshold in (SATELLITE, HIGH):
        head += [f"above {threshold}", "on key 0", "other keys"]
    return _table(head, rows)
