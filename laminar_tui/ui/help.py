"""What the screens say about themselves: how to read each picture, and where a profile comes from."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from laminar_tui.profile.bootstrap import LEVEL, N_DRAWS, N_GROUPS
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.values import LARGE
from laminar_tui.render.columns import Look
from laminar_tui.render.facts import found_words, model_facts
from laminar_tui.render.text import visible
from laminar_tui.ui.keys import Key, works_in

N_LINES = 5
"""How to read a screen is said in no more lines than these in a terminal of 80 columns."""
IMPORTANCE = "Attention is not importance: a weight of 0.8 on a value vector of length zero moves nothing."

READING: dict[str, str] = {
    "overview": """\
Each column is a layer: the weights of all its heads, from 0 (bottom) to 1. Colour is their density on a log scale (z);
empty: no weight is there. A patch near the top is a few keys that take nearly all of a query's attention: J goes to it,
Tab lists its tokens. If it vanishes with s, it was the first token: a sink.""",
    "layer": """\
Each column is one head of this layer, drawn as in the overview. Most heads put all but a few weights close to zero. One
that is bright at the top with the sink, dark without it (s), looks at the first token; one that is bright there in
population `self`, at itself. Tab lists the tokens, o orders the heads.""",
    "head": """\
The curve is the density of this head's weights; its area is 1. Below it is the prompt: the colour of a token is the
weight that the underlined query gives it, on a log scale of three decades. Tokens after the query are never seen by it.
, and . go to another query, m shows all queries at once.""",
    "map": """\
Each line is a query, each column a key; every line sums to 1. The upper right is empty: no token sees a later one. A
bright first column is a sink, a bright diagonal a token looking at itself, a line just below it at the one before; one
further down repeats earlier text, as an induction head does.""",
    "lines": """\
One curve a layer for `self` and one for `final`, all on one axis: what one would draw first.
The curves lie on one another; which layer does what cannot be read from it. The overview shows the same densities,
one layer a column.""",
}

NOT_SAID: dict[str, str] = {
    "overview": f"""\
{IMPORTANCE} A layer's column mixes its heads: a patch may be one of them. A mean says nothing either: the weights of a
query sum to 1 whatever the model does.""",
    "layer": f"""\
{IMPORTANCE} Heads that look alike here may look at different tokens: a density says how much, not at what.""",
    "head": f"""\
{IMPORTANCE} A token's colour is one weight of one query in one head on one prompt; the next layer mixes all heads.""",
    "map": f"""\
{IMPORTANCE} A pattern seen on one prompt is a guess about the head; another prompt is the test.""",
    "lines": f"""\
{IMPORTANCE} Curves of different layers have different numbers of weights behind their tails: a bump may be one.""",
}

Detail = tuple[str, str]
"""A heading, and what stands under it."""

BAND: Detail = (
    "The dots around the curve, and ±",
    f"""\
Prompts are drawn again {N_DRAWS} times, as many as there are, some of them more than once, and the density is made anew
of each draw: the dots are where {100 * LEVEL:.0f} % of such curves pass. Beyond {N_GROUPS} prompts, groups of prompts
are drawn. Where the dots reach down to the edge, a few prompts made the patch. ± behind a number is its
{100 * LEVEL:.0f} % interval over prompts. It does not say what another kind of text would give; of a handful of
prompts, or of windows of one text, it is too narrow.""",
)
"""Only over several prompts."""
_PICTURE: Detail = (
    "The picture",
    """\
Without the logarithmic scale a patch a thousand times fainter than the bar at zero would not be seen (z changes it).
Hatched means that nothing was read there. Tab lists the weights from the crosshair up with their tokens, and a sentence
says what they have in common; Enter opens one. Many heads put attention they have no use for on the first token.""",
)
_ORDER: Detail = (
    "The order of the heads",
    "o orders the columns by a statistic; the numbers below stay those of the heads.",
)
_NUMBERS: Detail = (
    "The numbers",
    """\
They are means over the queries; `no sink` leaves the first token out and divides by the rest. Effective tokens is
exp(entropy): over how many keys a query's attention is really spread. `48× uniform` (lift) is how many times the weight
is that of a query which spreads its attention evenly over the keys it sees. The curve's peak is at the weight that is
most common.""",
)
_VALUES: Detail = (
    "The line `weight × value norm`",
    f"""\
What a head takes from a key is the weight times the key's value vector. Behind each weight stands the length of that
vector, as a multiple of the head's mean over all keys, then the share that their product has in the sum over the keys:
`0.83 × 0.06 → 21.0 %`. The largest shares stand first: a small weight on a long vector is there too. A weight of 0.8 on
a vector of next to no length moves nothing: a weight of {LARGE} or more whose share is less than half of it is marked
`on little`, and goes before all others. In the sample that comes with the program, the first token's vector has a fifth
of the mean length where a head gives it more than half. V colours tokens and map by these shares and sorts the keys by
them (norm-based analysis, Kobayashi et al. 2020); the matrix of heads has `value shift`: how much of the final token's
attention they move elsewhere. They say nothing of directions: vectors can cancel each other, and what the output
projection and later layers make of them is not in it. Not there over several prompts.""",
)
_BOX: Detail = (
    "The colours and the box",
    """\
Colour is the weight itself, on a fixed scale (with V, its share of weight × value norm). The box names the heaviest
keys of the query under the crosshair, and the queries that look at its key most.""",
)
DETAILS: dict[str, tuple[Detail, ...]] = {
    "overview": (_PICTURE, BAND),
    "layer": (_PICTURE, _ORDER, BAND),
    "head": (_NUMBERS, _VALUES, BAND),
    "map": (_BOX, _VALUES),
}
"""What more there is to say of a view; `help_text` leaves out what is not there."""


def help_text(view: str, profile: Profile | None, keys: Sequence[Key]) -> Text:
    """How to read this view, what it does not say, every key that works here, and what more is to be said.

    Args:
        view: where one is.
        profile: what is shown; bands and value norms are explained where it has them.
        keys: the explorer's.
    """
    absent = {BAND: not has_bands(profile), _VALUES: not _has_values(profile)}
    details = [detail for detail in DETAILS.get(view, ()) if not absent.get(detail)]
    works = [key for key in keys if works_in(key, view)]
    return explain("How to read this picture", READING[view], NOT_SAID[view], works, details)


def explain(heading: str, reading: str, not_said: str, keys: Sequence[Key], details: Sequence[Detail]) -> Text:
    """Put the parts of a screen's help together, what is read first on top."""
    text = Text()
    for title, paragraph in ((heading, reading), ("What it does not say", not_said)):
        text.append(f"{title}\n", "bold")
        text.append(_flowing(paragraph) + "\n\n")
    text.append("Keys\n", "bold")
    for key in keys:
        text.append(f"{key.shown:>8}", "bold")
        text.append(f"  {key.description}\n")
    for title, paragraph in details:
        text.append(f"\n{title}\n", "bold")
        text.append(_flowing(paragraph) + "\n")
    return text


def has_bands(profile: Profile | None) -> bool:
    """Whether curves and numbers can have intervals over prompts."""
    return profile is not None and profile.origin.n_prompts > 1


def _has_values(profile: Profile | None) -> bool:
    return profile is not None and any(layer is not None and layer.value_norms is not None for layer in profile.layers)


def _flowing(paragraph: str) -> str:
    return paragraph.replace("\n", " ")


def _moment(created: str) -> str:
    """A time as a person writes it; as it stands where it is not valid."""
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M %Z}".rstrip()
    except ValueError:
        return visible(created)


def about_text(profile: Profile, look: Look, scope: str = "", settings: str = "") -> Text:
    """Where a profile comes from, how it was read, and what was checked.

    Args:
        scope: in words, of which queries exact weights can be looked at.
        settings: which file of settings is heeded.
    """
    origin = profile.origin
    mechanisms = {
        "tap": "the model family's own attention function, in float32, on chunks of query rows",
        "fast": "plain causal attention in float32 tiles, seen to equal the family's own function on this model",
        "kernel": "plain causal attention by one fused kernel on the GPU, seen to find what the tiles find",
        "hooks": "the weights that the model's attention modules give back, taken from each layer in turn",
    }
    facts = [
        ("model", "  ".join(model_facts(profile))),
        ("architecture", visible(origin.architecture)),
        ("parameters", f"{origin.n_parameters:,}" if origin.n_parameters else "–"),
        ("read by", "; ".join(mechanisms.get(each, visible(each)) for each in origin.mechanism.split(" + "))),
        *([("corpus", visible(origin.corpus))] if origin.corpus else []),
        ("recipe", visible(origin.recipe)),
        ("read", f"{profile.n_read} of {profile.n_layers} layers in {origin.seconds:.1f} s, {_moment(origin.created)}"),
        ("with", ", ".join(f"{visible(name)} {visible(version)}" for name, version in origin.versions.items())),
        *([("exact weights", scope)] if scope else []),
        ("shown", " · ".join(look.facts()) + f" ({look.method.title})"),
        *([("settings", visible(settings))] if settings else []),
    ]
    text = Text()
    for name, value in facts:
        text.append(f"{name:>13}", "bold")
        text.append(f"  {value}\n")
    text.append("\nChecked before the weights were believed\n", "bold")
    if not origin.checks:
        text.append("  nothing yet: the run has not ended\n")
    for check in origin.checks:
        text.append("  ✓ " if check.passed else "  ✗ ", "bold green" if check.passed else "bold red")
        text.append(f"{visible(check.name)}: {found_words(check.found)}\n")
    return text
