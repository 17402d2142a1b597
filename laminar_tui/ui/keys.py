"""Every key, once: the bindings, the line of keys, the help, the palette and the README's table are made of this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from textual.binding import Binding
from textual.keys import key_to_character


@dataclass(frozen=True)
class Key:
    """A key and what it does.

    Attributes:
        id: the name a user's settings may remap it by.
        keys: Textual's names of the keys, divided by commas.
        shown: as it is written on the screen.
        action: of the explorer, with its argument.
        label: a word or two for the line of keys; empty for a key that is not in it.
        description: one sentence for the help.
        views: where it works; empty for everywhere.
        rank: which keys stay in a narrow line: the lowest ones.
        named_in: where the label is in the line, if not wherever the key works.
    """

    id: str
    keys: str
    shown: str
    action: str
    description: str
    label: str = ""
    views: tuple[str, ...] = ()
    rank: int = 9
    named_in: tuple[str, ...] = ()


_PICTURES = ("overview", "layer")
_HEADS = ("layer", "head", "map")
_COLUMNS = ("overview", "layer", "head", "map")
_CURVES = ("overview", "layer", "head")
_TOKENS = ("head", "map")
_DENSITIES = ("overview", "layer", "head", "lines")

KEYS: tuple[Key, ...] = (
    Key("previous", "h,left", "h ←", "column(-1)", "previous column: layer, head, or key token", "", _COLUMNS),
    Key("next", "l,right", "l →", "column(1)", "next column: layer, head, or key token", "", _COLUMNS),
    Key("previous8", "H", "H", "column(-8)", "eight columns back", "", _COLUMNS),
    Key("next8", "L", "L", "column(8)", "eight columns on", "", _COLUMNS),
    Key("down", "j,down", "j ↓", "row(1)", "crosshair, or the list of entries, down", "", (*_PICTURES, "map")),
    Key("up", "k,up", "k ↑", "row(-1)", "crosshair, or the list of entries, up", "", (*_PICTURES, "map")),
    Key("filled_down", "J", "J", "filled(-1)", "down to the next row with weights; round to the top", "", _PICTURES),
    Key("filled_up", "K", "K", "filled(1)", "up to the next row with weights; round to the bottom", "", _PICTURES),
    Key("first", "g,home", "g Home", "to_column(0)", "first column", "", _COLUMNS),
    Key("last", "G,end", "G End", "to_column(-1)", "last column", "", _COLUMNS),
    Key("in", "enter", "Enter", "go_in", "open what is under the cursor; an entry's head", "Open", _CURVES, 1),
    Key("out", "escape,backspace", "Esc", "go_out", "stop the run; else go back", "Back", (), 2),
    Key(
        "listing",
        "tab",
        "Tab",
        "change('listing')",
        "the entries behind the cell, to walk over",
        "Tokens",
        _PICTURES,
        2,
    ),
    Key("reach", "v", "v", "change('reach')", "entries from the crosshair up, or of its row only", "", _PICTURES),
    Key(
        "values",
        "V",
        "V",
        "change('values')",
        "weights, or each one times the norm of its value vector (its share)",
        "Values",
        _TOKENS,
        6,
    ),
    Key("previous_query", "comma", ",", "query(-1)", "previous query token", "", _TOKENS),
    Key("next_query", "full_stop", ".", "query(1)", "next query token", "Query", _TOKENS, 2),
    Key("previous_layer", "left_square_bracket", "[", "layer_step(-1)", "previous layer", "", _COLUMNS),
    Key("next_layer", "right_square_bracket", "]", "layer_step(1)", "next layer", "Layer", _COLUMNS, 9),
    Key("previous_head", "left_curly_bracket", "{", "head_step(-1)", "previous head", "", _HEADS),
    Key("next_head", "right_curly_bracket", "}", "head_step(1)", "next head", "Head", ("map",), 7),
    Key("overview", "1", "1", "view('overview')", "the overview: all layers"),
    Key("layer", "2", "2", "view('layer')", "the heads of the layer under the cursor"),
    Key("head", "3", "3", "view('head')", "the head under the cursor"),
    Key("lines", "4", "4", "view('lines')", "all layers' curves over one another"),
    Key("compare", "5", "5", "compare", "compare with what M has marked, or with chance", "Compare", (), 8, _PICTURES),
    Key("mark", "M", "M", "mark", "mark this profile as A of a comparison"),
    Key("heads", "6", "6", "heads", "every head: a matrix and a sorted table of any number", "Heads", (), 5, _PICTURES),
    Key(
        "report",
        "7",
        "7",
        "report",
        "the report: what the profile says in words and tables",
        "Report",
        (),
        8,
        _PICTURES,
    ),
    Key("sweep", "8", "8", "sweep", "the sweep that is open: a model over its training"),
    Key("open", "O", "O", "open", "open another model, profile or sweep", "Open", (), 9),
    Key("map", "m", "m", "view('map')", "the map of the head under the cursor: query by key", "Map", _CURVES, 5),
    Key("find", "slash", "/", "find", "go to: 20, 20.7, L20H7, >0.6, 18>.6, a token's text", "Find", (), 3),
    Key("find_next", "n", "n", "find_next(1)", "next token that was found"),
    Key("find_previous", "N", "N", "find_next(-1)", "previous token that was found"),
    Key("population", "p", "p", "population(1)", "next population of weights", "Population", _CURVES, 4),
    Key("population_back", "P", "P", "population(-1)", "previous population", "", _CURVES),
    Key("sink", "s", "s", "change('sink')", "the sink (first token): with, without, alone", "Sink", _DENSITIES, 3),
    Key("estimator", "d", "d", "change('estimator')", "density estimator", "Density", _DENSITIES, 8),
    Key("axis", "a", "a", "change('axis')", "weight axis linear or log10", "Axis", _DENSITIES, 5),
    Key("zoom_in", "plus,equals_sign", "+", "change('zoom_in')", "zoom into the weight axis", "Zoom", _DENSITIES, 8),
    Key("zoom_out", "minus", "-", "change('zoom_out')", "zoom out of the weight axis", "", _DENSITIES),
    Key("zoom_off", "0", "0", "change('zoom_off')", "the whole weight axis", "", _DENSITIES),
    Key("order", "o", "o", "change('order')", "order the heads by another statistic", "Order", ("layer",), 4),
    Key(
        "scale", "z", "z", "change('scale')", "colour scale (and the curve's y axis): log, sqrt, linear", "Scale", (), 6
    ),
    Key("per_column", "Z", "Z", "change('per_column')", "colours per column or for all", "", _PICTURES),
    Key("color_map", "c", "c", "change('color_map')", "colour map", "Colours", _COLUMNS, 9),
    Key("reverse", "C", "C", "change('reverse')", "colour map reversed", "", _COLUMNS),
    Key("curve_mode", "u", "u", "change('mode')", "curves in braille, quadrants or ASCII", "", _DENSITIES),
    Key("pin", "space", "Space", "change('pin')", "pin the curve, or let it go: up to three", "Pin", _CURVES, 6),
    Key("prompt", "e", "e", "edit_prompt", "type another prompt and run it", "Prompt", (), 5),
    Key("again", "r", "r", "run_again", "run the model again"),
    Key("write", "w", "w", "write", "write the profile to a file", "Write", (), 7),
    Key("export", "x", "x", "export", "export: npz, json, csv, svg or png, by the name's ending", "Export", (), 9),
    Key("screenshot", "S", "S", "screenshot", "the screen as SVG, or the figure as PNG", "", ()),
    Key("copy", "y", "y", "copy", "copy the line of numbers", "Copy", (), 8),
    Key("copy_table", "Y", "Y", "copy_table", "copy the table behind the screen, with tabs between its columns"),
    Key("about", "i", "i", "about", "about this profile: where it comes from, what was checked", "", (), 8),
    Key("log", "grave_accent", "`", "log", "the log's last lines", "Log", (), 9),
    Key("theme", "t", "t", "theme", "dark or light theme"),
    Key("alone", "f", "f", "change('alone')", "the picture alone, or with what is beside it", "", (*_PICTURES, "map")),
    Key("palette", "colon,ctrl+p", ": ctrl+p", "palette", "every action by name"),
    Key("redraw", "ctrl+l", "ctrl+l", "redraw", "paint the screen again"),
    Key("suspend", "ctrl+z", "ctrl+z", "suspend", "back to the shell for a while; its fg comes back here"),
    Key("cancel", "ctrl+c", "ctrl+c", "interrupt", "stop the run; a second time quits"),
    Key("help", "question_mark,f1", "?", "help", "explain this screen", "Help", (), 0),
    Key("quit", "q,ctrl+q", "q", "quit", "quit", "Quit", (), 0),
)


EARLY = frozenset({"open", "prompt", "log", "help", "quit"})
"""Ids of the keys in the line that do something before any layer is read."""
NOT_EARLY = frozenset(key.id for key in KEYS) - EARLY


def bindings() -> list[Binding]:
    """Make Textual's bindings; none of them is left to Textual's footer."""
    return [
        Binding(key.keys, key.action, key.description, show=False, id=key.id, tooltip=key.description) for key in KEYS
    ]


def remap(keys: Sequence[Key], keymap: Mapping[str, str]) -> tuple[Key, ...]:
    """Put a user's keys in the place of those that a table has.

    Args:
        keys: a table.
        keymap: Textual's names of keys with commas between, by the id of what they do.
    """
    return tuple(
        replace(key, keys=keymap[key.id], shown=_write_keys(keymap[key.id])) if key.id in keymap else key
        for key in keys
    )


def _write_keys(names: str) -> str:
    """Write the first two of some keys as they stand on the screen."""
    return " ".join(_SHOWN.get(name) or key_to_character(name) or name for name in names.split(",")[:2])


_SHOWN = {
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "enter": "Enter",
    "escape": "Esc",
    "backspace": "Backspace",
    "tab": "Tab",
    "space": "Space",
    "home": "Home",
    "end": "End",
    "pageup": "PgUp",
    "pagedown": "PgDn",
}
"""Keys that are not written as the character that they type."""


def works_in(key: Key, view: str) -> bool:
    """Whether a key does something in a view."""
    return not key.views or view in key.views


def is_named_in(key: Key, view: str) -> bool:
    """Whether a key may stand in a view's line of keys."""
    return bool(key.label) and works_in(key, view) and (not key.named_in or view in key.named_in)


def key_line(
    view: str, width: int, without: frozenset[str] = frozenset(), keys: Sequence[Key] = KEYS
) -> list[tuple[str, str]]:
    """Choose the keys and labels for one line: as many as fit, the most important ones, in their order.

    Args:
        view: where one is.
        width: in cells.
        without: ids of keys that can do nothing now.
        keys: the explorer's.
    """
    shown = [key for key in keys if is_named_in(key, view) and key.id not in without]
    kept: list[Key] = []
    for key in sorted(shown, key=lambda each: each.rank):
        if sum(len(each.shown) + len(each.label) + 3 for each in [*kept, key]) <= width:
            kept.append(key)
    return [(key.shown, key.label) for key in shown if key in kept]


def find_key(action: str, parameters: tuple[object, ...]) -> Key | None:
    """The key of an action as Textual names it: its name, and what it is called with."""
    called = f"{action}({', '.join(map(repr, parameters))})" if parameters else action
    return next((key for key in KEYS if key.action == called), None)
