"""Everything a user can run into: what happened, what to do next, and the exit code that says so to a script."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the command line."""

    DONE = 0
    USAGE = 2
    UNTRUSTED = 3
    BAD_PROFILE = 4
    INTERRUPTED = 130


class LaminarError(Exception):
    """Something the user can do something about.

    Args:
        message: what happened, with the value that caused it.
        hint: what to do next; may be empty.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(hint)  # below the message where a script ends with a traceback


class UsageError(LaminarError):
    """A wrong argument: an unknown name, a layer out of range, a file that cannot be read."""


class PromptError(LaminarError):
    """A prompt that this model cannot take: empty, too long, ids beyond the vocabulary."""

    @classmethod
    def empty(cls) -> "PromptError":
        """Say that there is no text."""
        return cls("the prompt is empty", "give some text (--prompt, --prompt-file, or standard input)")


class ModelError(LaminarError):
    """A model that cannot be had or cannot be read: not found, not a causal LM, parameters missing."""

    exit_code = ExitCode.UNTRUSTED


class UntrustedWeightsError(LaminarError):
    """The weights that were read failed a check, so nothing is shown as if they were true."""

    exit_code = ExitCode.UNTRUSTED


class ProfileFileError(LaminarError):
    """A profile file that is damaged, of an unknown version, or no profile at all."""

    exit_code = ExitCode.BAD_PROFILE


class CancelledError(LaminarError):
    """The capture was stopped by its user; the layers read before are kept by the caller."""

    exit_code = ExitCode.INTERRUPTED


class MemoryNeededError(LaminarError):
    """More memory is needed than there is: estimated before a run, or found out in it."""


class NetworkError(ModelError):
    """A model that is not in the cache and that the hub does not hand out: away, refused, unknown, or too slow."""


class NotHereError(ModelError):
    """A model that is not in the cache, where the hub is not to be asked without its user's word."""


class PeerError(LaminarError):
    """Another process of a run that several share has failed, is gone, or reads something else."""

    exit_code = ExitCode.INTERRUPTED
