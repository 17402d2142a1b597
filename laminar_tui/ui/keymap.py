"""A user's own keys: from what the settings say to what Textual is told, refused where a key would do two things."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from textual.keys import KEY_NAME_REPLACEMENTS, Keys, _character_to_key, key_to_character

from laminar_tui.errors import UsageError
from laminar_tui.ui.keys import KEYS, Key, remap

NAMES = {each.value for each in Keys} | {"space", "pageup", "pagedown"}
"""What keys without a character of their own are called."""
MODIFIERS = ("ctrl", "alt", "shift", "super")


def make_keymap(asked: Mapping[str, str], path: Path) -> dict[str, str]:
    """Check what the settings say of keys, and write it as Textual does.

    Args:
        asked: keys with commas between, by the id of what they do.
        path: of the settings, for what is said of them.

    Raises:
        UsageError: for an id or a key that does not exist, and for a key that would do two things on one screen.
    """
    if not asked:
        return {}
    tables = _tables()
    ids = {key.id for keys in tables.values() for key in keys}
    for name in asked:
        if name not in ids:
            raise UsageError(
                f"{path}: [keys] has '{name}', which nothing is called", f"choose from: {', '.join(sorted(ids))}"
            )
    keymap = {name: ",".join(_name_key(each, path) for each in keys.split(",")) for name, keys in asked.items()}
    for screen, keys in tables.items():
        _check_unique(screen, remap(keys, keymap), path)
    return keymap


def _tables() -> dict[str, Sequence[Key]]:
    """The keys of each screen on which no text is typed."""
    from laminar_tui.ui.compare import COMPARE_KEYS
    from laminar_tui.ui.heads import HEADS_KEYS
    from laminar_tui.ui.report import REPORT_KEYS
    from laminar_tui.ui.sweep import SWEEP_KEYS

    return {
        "the explorer": KEYS,
        "heads": HEADS_KEYS,
        "compare": COMPARE_KEYS,
        "report": REPORT_KEYS,
        "sweep": SWEEP_KEYS,
    }


def _name_key(typed: str, path: Path) -> str:
    """Give Textual's name of a key; `?` and `question_mark` are the same."""
    typed = typed.strip()
    *modifiers, key = typed.split("+") if len(typed) > 1 else [typed]
    known = len(key) == 1 or key in NAMES or key in KEY_NAME_REPLACEMENTS.values() or key_to_character(key) is not None
    if not key or not known or not set(modifiers) <= set(MODIFIERS):
        raise UsageError(f"{path}: there is no key '{typed}'", "write it like b, B, ctrl+b, f2, space, pageup or comma")
    return "+".join([*modifiers, _character_to_key(key) if len(key) == 1 else key])


def _check_unique(screen: str, keys: Sequence[Key], path: Path) -> None:
    taken: dict[str, str] = {}
    for key in keys:
        for name in key.keys.split(","):
            other = taken.setdefault(name, key.id)
            if other != key.id:
                raise UsageError(
                    f"{path}: the key {name} would be both {other} and {key.id} ({screen})",
                    "give one of them another key",
                )
