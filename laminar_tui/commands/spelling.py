"""A word that is nearly a command: what was meant, instead of a search for a model of that name."""

from collections.abc import Iterable
from difflib import get_close_matches

from laminar_tui.errors import LaminarError, UsageError
from laminar_tui.source import as_path

NEAR = 0.75
"""How alike two words are (2 × letters in common / letters of both) of which one is taken for a slip of the other."""


def refuse_misspelt(word: str, commands: Iterable[str]) -> None:
    """Refuse a first word that is no source and nearly a command.

    Raises:
        UsageError: with the command that was meant.
    """
    meant = get_close_matches(word, [each for each in commands if each], n=1, cutoff=NEAR)
    if not word.isalpha() or not meant or _exists(word):
        return
    raise UsageError(
        f"there is no command '{word}', and nothing of that name to open",
        f"did you mean: laminar-tui {meant[0]}? A model of that name on the hub is {word}@main",
    )


def _exists(word: str) -> bool:
    """Whether there is such a file or folder, or such a model in the hub's cache."""
    from laminar_tui.model.cache import cached_models

    try:
        return as_path(word).exists() or any(model.repo_id == word for model in cached_models())
    except LaminarError:
        return True  # what is wrong with it as a name is said where it is opened
