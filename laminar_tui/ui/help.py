"""What the screens say about themselves: how to read each picture, and where a profile comes from."""

from datetime import datetime

from rich.text import Text

from laminar_tui.profile.bootstrap import LEVEL, N_DRAWS, N_GROUPS
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.values import EMPTY, LARGE
from laminar_tui.render.columns import Look
from laminar_tui.render.facts import found_words, model_facts
from laminar_tui.render.text import visible
from laminar_tui.ui.keys import KEYS, works_in

READING: dict[str, str] = {
    "overview": """\
Each column is a layer: all attention weights of the chosen population in all of its heads, from 0 (bottom) to 1.
Colour is density: how many of the layer's weights lie there. The scale is logarithmic, or a patch a thousand times
fainter than the bar at zero would not be seen. Empty means that no weight is there; hatched, that nothing was read.
A patch near the top is one or few keys taking nearly all of a query's attention. Which ones? J goes to the topmost
patch, Tab lists the weights from there up with their tokens, and a sentence says what they have in common; Enter opens
one. Press s: if the patch vanishes without the sink, it was the first token, where many heads put attention they have
no use for.""",
    "layer": """\
Each column is one head of this layer, drawn as in the overview. Heads of one layer differ: most put all but a few
weights close to zero, some spread them, some give one key nearly everything. o orders them by a statistic; the numbers
below stay those of the heads.
A head bright at the top with the sink, dark without it, looks at the first token. A head bright at the top in
population `self` looks at itself. Tab lists the tokens behind a patch; Enter opens the head.""",
    "head": """\
The curve is the density of this head's weights: its area is 1, its peak is at the weight that is most common.
Below it the prompt, each token on the colour of the weight that the underlined query token gives it, on a log scale of
three decades; , and . go to another query. Tokens after the query are never seen by it. The numbers are means over the
queries; `no sink` leaves the first token out and divides by the rest. Effective tokens is exp(entropy): over how many
keys a query's attention is really spread. m or Enter shows all queries at once.""",
    "map": """\
Each line is a query token, from the first (top) to the last; each column a key token. Colour is the weight itself, on a
fixed scale: every line sums to 1, and the upper right is empty because no token sees a later one.
A bright first column is a sink. A bright diagonal is a token looking at itself, a line just below it at the token
before. A line parallel to it further down repeats earlier text: that is what an induction head draws. The box names the
heaviest keys of the query under the crosshair, and the queries that look at its key most.""",
    "lines": """\
One curve a layer for `self` and one for `final`, all on one axis: what one would draw first.
The curves lie on one another; which layer does what cannot be read from it. The overview shows the same densities,
one layer a column.""",
}

_IMPORTANCE = """\
Attention is not importance: a weight of 0.8 on a value vector of length zero moves nothing."""
NOT_SAID: dict[str, str] = {
    "overview": f"""\
{_IMPORTANCE} A layer's column mixes its heads: a patch may be one of them. A mean says nothing either: the weights of a
query sum to 1 whatever the model does.""",
    "layer": f"""\
{_IMPORTANCE} Heads that look alike here may look at different tokens: a density says how much, not at what.""",
    "head": f"""\
{_IMPORTANCE} A token's colour is one weight of one query in one head on one prompt; the next layer mixes all heads.""",
    "map": f"""\
{_IMPORTANCE} A pattern seen on one prompt is a guess about the head; another prompt is the test.""",
    "lines": f"""\
{_IMPORTANCE} Curves of different layers have different numbers of weights behind their tails: a bump may be one.""",
}


_BAND = (
    "The dots around the curve, and ±",
    f"""\
Only over several prompts. Prompts are drawn again {N_DRAWS} times, as many as there are, some of them more than once,
and the density is made anew of each draw: the dots are where {100 * LEVEL:.0f} % of such curves pass. Beyond {N_GROUPS}
prompts, groups of prompts are drawn. Where the dots reach down to the edge, a few prompts made the patch. ± behind a
number is its {100 * LEVEL:.0f} % interval over prompts. It does not say what another kind of text would give; of a
handful of prompts, or of windows of one text, it is too narrow.""",
)
_VALUES = (
    "The line `weight × value norm`",
    f"""\
What a head takes from a key is the weight times the key's value vector. Behind each weight stands the length of that
vector, as a multiple of the head's mean over all keys, then the share that their product has in the sum over the keys:
`0.83 × 0.06 → 21 %`. A weight of 0.8 on a vector of next to no length moves nothing: from a weight of {LARGE} on a
length of at most {EMPTY} it is marked `on nothing`. In the sample that comes with the program, the first token's vector
has a fifth of the mean length where a head gives it more than half. It says nothing of directions: vectors can cancel
each other, and what the output projection and later layers make of them is not in it. Not there over several
prompts.""",
)
SECTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "overview": (_BAND,),
    "layer": (_BAND,),
    "head": (_VALUES, _BAND),
}
"""What else stands in a view, by its heading."""


def help_text(view: str) -> Text:
    """How to read this view, what it does not say, and every key that works here."""
    text = Text()
    text.append("How to read this picture\n", "bold")
    text.append(_flowing(READING[view]) + "\n\n")
    text.append("What it does not say\n", "bold")
    text.append(_flowing(NOT_SAID[view]) + "\n\n")
    for heading, paragraph in SECTIONS.get(view, ()):
        text.append(f"{heading}\n", "bold")
        text.append(_flowing(paragraph) + "\n\n")
    text.append("Keys\n", "bold")
    for key in KEYS:
        if works_in(key, view):
            text.append(f"{key.shown:>8}", "bold")
            text.append(f"  {key.description}\n")
    text.append("  ctrl+p", "bold")
    text.append("  every action by name\n")
    return text


def _flowing(paragraph: str) -> str:
    return paragraph.replace("\n", " ")


def _moment(created: str) -> str:
    """A time as a person writes it; as it stands where it is none."""
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M %Z}".rstrip()
    except ValueError:
        return visible(created)


def about_text(profile: Profile, look: Look) -> Text:
    """Where a profile comes from, how it was read, and what was checked."""
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
        ("shown", " · ".join(look.facts()) + f" ({look.method.title})"),
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
