"""What is said in words beside a picture: the model, what is shown, a head's numbers."""

import math
import re
from collections.abc import Sequence

from rich.cells import cell_len

from laminar_tui.profile.profile import Origin, Profile
from laminar_tui.profile.roles import ROLES
from laminar_tui.profile.sinks import THRESHOLD, sink_keys
from laminar_tui.profile.statistics import STATISTICS
from laminar_tui.profile.wording import part, percent
from laminar_tui.render.columns import Columns
from laminar_tui.render.numbers import limit, number
from laminar_tui.render.prompt import token_name
from laminar_tui.render.text import visible

HEAD_NUMBERS = (
    "entropy",
    "sink_share",
    "effective_tokens",
    "gini",
    "previous_token",
    "self",
    "distance",
    "off_sequence",
    "rest.entropy",
    "rest.effective_tokens",
    "rest.gini",
    "rest.previous_token",
    "rest.self",
    "rest.distance",
)
"""The statistics that the app shows, in this order, of which a low screen has the first three; all are exported."""
MOST_SINKS = 3
"""How many sinks of a head are named."""

WIDEST_INTERVAL = 13
"""Characters of a number with its interval: what a box of numbers has room for."""


def recipe_facts(origin: Origin) -> list[str]:
    """Say of a control or a null that it is one: first of all, so that it is never what there is no room for."""
    if origin.is_null:
        return [f"NULL: {visible(origin.null_title)}"]
    return [f"CONTROL '{visible(origin.recipe)}': not the model's weights"] if origin.is_control else []


def model_facts(profile: Profile, *place: str) -> list[str]:
    """Name what is no model's weights, the place in the model, model, size, prompt and device."""
    origin = profile.origin
    name = visible(origin.model) + (f"@{visible(origin.revision)}" if origin.revision else "")
    heads = f" × {profile.n_heads}H" if profile.n_heads else ""
    return [
        *recipe_facts(origin),
        *place,
        name,
        f"{profile.n_layers}L{heads}",
        size_words(profile),
        visible(f"{origin.dtype} {origin.device}"),
    ]


def found_words(found: str) -> str:
    """Make what a check found harmless; profiles of earlier versions have their numbers as a computer writes them."""
    return visible(re.sub(r"\b(?:off|moved|within)(?: by)? (\d\.\de[+-]\d\d)(?: of it)?", _found_part, found))


def _found_part(found: re.Match[str]) -> str:
    off, is_within = float(found[1]), found[0].startswith("within")
    if off == 0:
        return "exactly" if is_within else "not changed at all"
    return f"{'within' if is_within else 'changed by'} {part(off)}"


def size_words(profile: Profile) -> str:
    """Say how much was read: `115 tokens`, `40 prompts, 81,920 tokens`."""
    n_prompts = profile.origin.n_prompts
    prompts = f"{n_prompts:,} prompts, " if n_prompts > 1 else ""
    return f"{prompts}{profile.total_tokens:,} tokens"


def picture_facts(columns: Columns) -> list[str]:
    """Say what a picture shows, the most important first: population, sink, estimator, n of a column, colours."""
    sizes = columns.n[columns.measured]
    look = columns.look
    if len(sizes) == 0:
        n = "nothing read yet"
    elif sizes.min() == sizes.max():
        n = f"n = {sizes[0]:,}"
    else:
        n = f"n = {sizes.min():,}–{sizes.max():,}"
    return [*look.facts(), n, f"{look.scale} colours" + (" per column" if look.per_column else "")]


def join_fitting(facts: Sequence[str], separator: str, width: int) -> str:
    """Join as many whole facts as fit, at least the first."""
    line = facts[0] if facts else ""
    for fact in facts[1:]:
        if cell_len(line) + len(separator) + cell_len(fact) > width:
            break
        line += separator + fact
    return line


def over_words(profile: Profile) -> str:
    """Say what a head's numbers are means over: `over 117 queries`; query 0, which sees itself alone, is none of them.

    The Gini coefficients are over fewer queries, and what leaves the sink out over those that leave it anything.
    """
    if profile.origin.n_prompts > 1:
        return f"over {profile.origin.n_prompts:,} prompts, ± 95 %"
    n = max(0, profile.n_tokens - 1)
    return f"over {n:,} {'query' if n == 1 else 'queries'}"


def sink_lines(profile: Profile, layer: int, head: int, *, ascii_only: bool = False) -> list[tuple[str, str]]:
    """Name the keys that are sinks of a head, the strongest first: `sink 0 Photos`, and its share."""
    found = sorted((-share, key) for at, key, share in sink_keys(profile.layer(layer)) if at == head)
    tokens = profile.origin.tokens
    lines = []
    for share, key in found[:MOST_SINKS]:
        name = f" {token_name(tokens[key], ascii_only=ascii_only)}" if tokens else ""
        lines.append((f"sink {key}{name}", number(-share)))
    more = len(found) - len(lines)
    return [*lines, (f"{more} more sink{'s' if more > 1 else ''}", f"above {THRESHOLD}")] if more else lines


def role_lines(profile: Profile, layer: int, head: int, *, ascii_only: bool = False) -> list[tuple[str, str]]:
    """A head's role scores with its rank among all heads and the threshold, the roles that it has first."""
    roles = profile.roles
    if roles is None:
        return []
    lines = [("roles: score, rank, threshold", "")]
    has = roles.of(layer, head)
    for name in [*has, *(name for name in roles.scores if name not in has)]:
        score, threshold = float(roles.scores[name][layer, head]), roles.thresholds.get(name, math.nan)
        if name in ROLES and math.isfinite(score):
            sign = ">" if name in has else "<=" if ascii_only else "≤"
            rule = f" {sign}{threshold:.2g}" if math.isfinite(threshold) else ""
            lines.append((ROLES[name].title, f"{score:.2f} #{roles.rank(name, layer, head):,}{rule}"))
    return lines if len(lines) > 1 else []


def statistics_lines(
    profile: Profile, layer: int, head: int | None = None, *, ascii_only: bool = False
) -> list[tuple[str, str]]:
    """A head's numbers, its sinks and roles, or a layer's: the means over its heads.

    Over several prompts each number stands with its interval.
    """
    read = profile.layer(layer)
    values = read.statistics
    lines = []
    for name in HEAD_NUMBERS:
        if name not in values:
            continue
        value = float(values[name][head]) if head is not None else read.mean_statistic(name)
        if name == "off_sequence" and not value > 1e-3:
            continue
        statistic = STATISTICS[name]
        text = percent(value) if statistic.is_share else f"{number(value)} {statistic.unit}".strip()
        half = half_interval(profile, layer, head, name)
        lines.append((statistic.title, with_interval(value, half, is_share=statistic.is_share) or text))
        if name == "sink_share" and head is not None:
            lines += sink_lines(profile, layer, head, ascii_only=ascii_only)
    return lines if head is None else [*lines, *role_lines(profile, layer, head, ascii_only=ascii_only)]


def half_interval(profile: Profile, layer: int, head: int | None, name: str) -> float:
    """Half the 95 % interval of a statistic's mean over prompts, of a head or a layer; NaN for one prompt."""
    spread = profile.layer(layer).spread
    if spread is None or name not in spread.names:
        return math.nan
    low, high = spread.interval(name)
    at = -1 if head is None else head
    return float(high[at] - low[at]) / 2


def with_interval(value: float, half: float, *, is_share: bool = False) -> str:
    """Write a number with half its interval: `2.01 ± 0.12`, `6.3 ± 0.4 %`; nothing where there is none, or no room."""
    if not (math.isfinite(value) and math.isfinite(half)):
        return ""
    unit = " %" if is_share else ""
    value, half = (100 * value, 100 * half) if is_share else (value, half)
    texts = (f"{_with_half(value, half, digits)}{unit}" for digits in (2, 1))
    return next((text for text in texts if len(text) <= WIDEST_INTERVAL), "")


def _with_half(value: float, half: float, digits: int) -> str:
    """Write both with the decimals that the half interval has in so many digits: what is beyond it means nothing."""
    if half <= 0 or half >= 1000 or half < 1e-4:
        return f"{number(value)} ± {limit(half)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(float(f"{half:.{digits - 1}e}"))))
    return f"{value:,.{decimals}f} ± {half:,.{decimals}f}"
