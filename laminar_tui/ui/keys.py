"""Every key, once: the bindings, the line of keys, the help, the palette and the README's table are made of this."""

from dataclasses import dataclass

from textual.binding import Binding


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
    """

    id: str
    keys: str
    shown: str
    action: str
    description: str
    label: str = ""
    views: tuple[str, ...] = ()
    rank: int = 9


_PICTURES = ("overview", "layer")
_COLUMNS = ("overview", "layer", "head")

KEYS: tuple[Key, ...] = (
    Key("previous", "h,left", "h ←", "column(-1)", "previous column: layer or head", "", _COLUMNS),
    Key("next", "l,right", "l →", "column(1)", "next column: layer or head", "", _COLUMNS),
    Key("previous8", "H", "H", "column(-8)", "eight columns back", "", _COLUMNS),
    Key("next8", "L", "L", "column(8)", "eight columns on", "", _COLUMNS),
    Key("down", "j,down", "j ↓", "weight(-1)", "crosshair down the weight axis", "", _PICTURES),
    Key("up", "k,up", "k ↑", "weight(1)", "crosshair up the weight axis", "", _PICTURES),
    Key("first", "g,home", "g Home", "to_column(0)", "first column", "", _COLUMNS),
    Key("last", "G,end", "G End", "to_column(-1)", "last column", "", _COLUMNS),
    Key("in", "enter", "Enter", "go_in", "open what is under the cursor", "Open", _PICTURES, 1),
    Key("out", "escape,backspace", "Esc", "go_out", "stop the run; else go back", "Back", (), 2),
    Key("previous_layer", "left_square_bracket", "[", "layer_step(-1)", "previous layer", "", _COLUMNS),
    Key("next_layer", "right_square_bracket", "]", "layer_step(1)", "next layer", "Next layer", _COLUMNS, 8),
    Key("overview", "1", "1", "view('overview')", "the overview: all layers"),
    Key("layer", "2", "2", "view('layer')", "the heads of the layer under the cursor"),
    Key("head", "3", "3", "view('head')", "the head under the cursor"),
    Key("lines", "4", "4", "view('lines')", "all layers' curves over one another", "Lines", ("overview",), 8),
    Key("compare", "5", "5", "compare", "compare with what M has marked, or with chance", "Compare", _PICTURES, 8),
    Key("mark", "M", "M", "mark", "mark this profile as A of a comparison"),
    Key("heads", "6", "6", "heads", "every head: a matrix and a sorted table of any number", "Heads", _PICTURES, 8),
    Key("report", "7", "7", "report", "the report: what the profile says in words and tables"),
    Key("open", "O", "O", "open", "open another model or profile"),
    Key("population", "p", "p", "population(1)", "next population of weights", "Population", _COLUMNS, 3),
    Key("population_back", "P", "P", "population(-1)", "previous population", "", _COLUMNS),
    Key("sink", "s", "s", "sink", "the sink (first token): with, without, alone", "Sink", (), 3),
    Key("estimator", "d", "d", "estimator", "density estimator", "Density", (), 5),
    Key("axis", "a", "a", "axis", "weight axis linear or log10", "Axis", (), 4),
    Key("scale", "z", "z", "scale", "colour scale (and the curve's y axis): log, sqrt, linear", "Scale", (), 6),
    Key("per_column", "Z", "Z", "per_column", "colours per column or for all", "", _PICTURES),
    Key("color_map", "c", "c", "color_map", "colour map", "Colours", (), 7),
    Key("reverse", "C", "C", "reverse", "colour map reversed"),
    Key("curve_mode", "u", "u", "mode", "curves in braille, quadrants or ASCII"),
    Key("prompt", "e", "e", "edit_prompt", "type another prompt and run it", "Prompt", (), 4),
    Key("again", "r", "r", "run_again", "run the model again"),
    Key("write", "w", "w", "write", "write the profile to a file", "Write", (), 6),
    Key("about", "i", "i", "about", "about this profile: where it comes from, what was checked", "", (), 8),
    Key("theme", "t", "t", "theme", "dark or light theme"),
    Key("redraw", "ctrl+l", "ctrl+l", "redraw", "paint the screen again"),
    Key("suspend", "ctrl+z", "ctrl+z", "suspend", "back to the shell for a while; its fg comes back here"),
    Key("cancel", "ctrl+c", "ctrl+c", "interrupt", "stop the run; a second time quits"),
    Key("help", "question_mark,f1", "?", "help", "explain this screen", "Help", (), 0),
    Key("quit", "q,ctrl+q", "q", "quit", "quit", "Quit", (), 0),
)


def bindings() -> list[Binding]:
    """Make Textual's bindings; none of them is left to Textual's footer."""
    return [
        Binding(key.keys, key.action, key.description, show=False, id=key.id, tooltip=key.description) for key in KEYS
    ]


def works_in(key: Key, view: str) -> bool:
    """Whether a key does something in a view."""
    return not key.views or view in key.views


def key_line(view: str, width: int, without: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """Choose the keys and labels for one line: as many as fit, the most important ones, in the order of `KEYS`.

    Args:
        view: where one is.
        width: in cells.
        without: ids of keys that can do nothing now.
    """
    shown = [key for key in KEYS if key.label and works_in(key, view) and key.id not in without]
    kept: list[Key] = []
    for key in sorted(shown, key=lambda each: each.rank):
        if sum(len(each.shown) + len(each.label) + 3 for each in [*kept, key]) <= width:
            kept.append(key)
    return [(key.shown, key.label) for key in shown if key in kept]
