"""The common reading of a picture of attention weights, put to the numbers, in plain words. It says:

1. Early and middle layers press almost everything to zero; late layers spread, with satellites at 0.6 to 0.8.
2. The satellites are a few past tokens that matter.
3. This is more than chance.

`claims.py` counts, `verdicts.py` makes the sentences from what was counted, `report_formats.py` writes both down.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from laminar_tui.errors import UsageError
from laminar_tui.profile.claims import (
    SATELLITE,
    Chance,
    Satellites,
    Shares,
    compare_with_null,
    count_shares,
    depth_thirds,
    find_satellites,
    population_pairs,
)
from laminar_tui.profile.nulls import COMPUTED_NULLS
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sinks import sink_keys
from laminar_tui.profile.values import SinkValues, measure_sink_values
from laminar_tui.profile.verdicts import say_chance, say_roles, say_satellites, say_sinks, say_spread

CAVEAT = (
    "A weight says where a head looks, not how much it matters: a weight of 0.8 on a value vector of length zero moves "
    "nothing. Attention is not importance."
)


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
        sink_heads: layer, head, key and share of each of them.
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
    sink_heads: tuple[tuple[int, int, int, float], ...]
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
    known = _gather_nulls(profile, nulls or {})
    thirds = depth_thirds(profile)
    layers = [(index, index) for index, layer in enumerate(profile.layers) if layer is not None]
    shares = tuple(count_shares(profile, *pair, *span) for pair in population_pairs() for span in thirds.values())
    satellites = find_satellites(profile, list(thirds.values()))
    layer_satellites = find_satellites(profile, layers)
    chance = tuple(compare_with_null(each, title, null) for title, null in known.items() for each in shares)
    sinks = [(index, *sink) for index, layer in enumerate(profile.layers) if layer for sink in sink_keys(layer)]
    heads_by_key = Counter(key for _, _, key, _ in sinks)
    chapters = {
        "1. Pressed to zero early, spread out late?": say_spread(shares, thirds),
        "2. Which tokens are the satellites?": say_satellites(profile, satellites, layer_satellites),
        "3. More than chance?": say_chance(profile, known),
        "Sinks": say_sinks(profile, dict(heads_by_key)),
        "Roles": say_roles(profile),
    }
    return Report(
        facts=_facts(profile),
        tokens=profile.origin.tokens,
        thirds=thirds,
        shares=shares,
        layer_shares=tuple(count_shares(profile, *pair, *span) for pair in population_pairs() for span in layers),
        satellites=satellites,
        layer_satellites=layer_satellites,
        chance=chance,
        sinks=dict(sorted(heads_by_key.items())),
        sink_heads=tuple(sinks),
        chapters={title: sentences for title, sentences in chapters.items() if sentences},
        sink_values=measure_sink_values(profile, SATELLITE),
    )


def _gather_nulls(profile: Profile, given: Mapping[str, Profile]) -> dict[str, Profile]:
    """Put the nulls that need no model before those that were given, and leave out what holds no weights."""
    for title, null in given.items():
        if null.n_layers != profile.n_layers:
            raise UsageError(
                f"the null of {title} has {null.n_layers} layers, the profile {profile.n_layers}",
                "make it from the same model: laminar-tui capture SOURCE --null ...",
            )
    computed = {title: make(profile) for title, make in COMPUTED_NULLS.items() if profile.lengths}
    return {title: null for title, null in (computed | dict(given)).items() if null.n_read}


def _facts(profile: Profile) -> dict[str, str]:
    origin = profile.origin
    return {
        "model": origin.model + (f"@{origin.revision}" if origin.revision else ""),
        "architecture": origin.architecture,
        "layers": f"{profile.n_read} of {profile.n_layers}",
        "heads": str(profile.n_heads),
        "tokens": f"{profile.total_tokens:,}" + (f" in {origin.n_prompts:,} prompts" if origin.n_prompts > 1 else ""),
        "dtype": origin.dtype,
        "read by": origin.mechanism,
        "weights": "the model's own" if origin.recipe == "true" else origin.recipe,
    }
