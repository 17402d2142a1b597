"""A model in memory with its tokenizer, and how a prompt becomes tokens."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from laminar_tui.errors import PromptError
from laminar_tui.model.forward import context_length
from laminar_tui.source import Source

_tokenizer_lock = threading.Lock()
"""A fast tokenizer refuses to be used by two threads at once: a run's, and the one that counts while one types."""

BYTES_OF_A_CHARACTER = 4
"""At most, in UTF-8."""
PLAIN = "leave the chat template out"


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as the model gets it: ids, and each token's text (empty for the later bytes of a split character)."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory with its tokenizer."""

    model: PreTrainedModel
    tokenizer: Any
    source: Source

    def tokenize(
        self, prompt: str, max_tokens: int | None = None, *, bos: bool = False, chat: bool = False
    ) -> TokenizedPrompt:
        """Cut a prompt into tokens, the first `max_tokens` of them.

        Args:
            bos: begin with the tokenizer's beginning-of-sequence token, if the tokenizer does not do so by itself.
            chat: wrap the prompt as a user's message in the tokenizer's chat template.

        Raises:
            PromptError: if the prompt is empty, the tokenizer makes nothing of it, or it has no such token or template.
        """
        if not prompt:
            raise PromptError.empty()
        text = self._as_message(prompt) if chat else prompt
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        # A template brings its own special tokens.
        encoded = encode(self.tokenizer, text, return_offsets_mapping=fast, add_special_tokens=not chat)
        ids = [int(each) for each in encoded["input_ids"]]
        offsets = list(encoded["offset_mapping"]) if fast else []
        front = self._missing_bos(ids) if bos else []
        ids, offsets = [*front, *ids][:max_tokens], [*[(0, 0)] * len(front), *offsets]
        if not ids:
            raise PromptError(
                "the tokenizer makes no tokens of this prompt", "the model's tokenizer files may be missing"
            )
        if fast:
            tokens = _pieces(text, offsets, self.tokenizer.convert_ids_to_tokens(ids))
        else:
            tokens = decode_tokens(self.tokenizer, ids)
        return TokenizedPrompt(tuple(ids), tuple(tokens))

    def encode_text(self, text: str, *, special: bool = False) -> list[int]:
        """A text's token ids.

        Args:
            special: with what the tokenizer puts around every text.

        Raises:
            PromptError: if the tokenizer fails on it.
        """
        return [int(each) for each in encode(self.tokenizer, text, add_special_tokens=special)["input_ids"]]

    def leading_ids(self, *, bos: bool = False) -> list[int]:
        """The ids that stand in front of every text: the tokenizer's own, and BOS where it is asked for.

        Raises:
            PromptError: if the tokenizer fails, or has no such token.
        """
        leading = find_leading(self.encode_text("a", special=True), self.encode_text("a"))
        return [*self._missing_bos(leading), *leading] if bos else leading

    @property
    def has_bos(self) -> bool:
        """Whether the tokenizer knows a beginning-of-sequence token."""
        return getattr(self.tokenizer, "bos_token_id", None) is not None

    def begins_with_bos(self, ids: Sequence[int]) -> bool:
        """Whether the first of these tokens is the tokenizer's beginning of a sequence."""
        return self.has_bos and list(ids[:1]) == [self.bos_id()]

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def max_tokens(self) -> int | None:
        """How many tokens the model has positions for; None where it does not say."""
        return context_length(self.model)

    def bos_id(self) -> int:
        """The tokenizer's beginning-of-sequence token.

        Raises:
            PromptError: if it has none.
        """
        if not self.has_bos:
            raise PromptError(
                f"the tokenizer of {self.source.name} has no beginning-of-sequence token", "leave the BOS token out"
            )
        return int(self.tokenizer.bos_token_id)

    def _missing_bos(self, ids: list[int]) -> list[int]:
        """The BOS token that is to be put in front of these ids; none where the tokenizer has put it there."""
        return [] if ids[:1] == [self.bos_id()] else [self.bos_id()]

    def _as_message(self, prompt: str) -> str:
        if not self.has_chat_template:
            raise PromptError(f"the tokenizer of {self.source.name} has no chat template", PLAIN)
        try:
            message = [{"role": "user", "content": prompt}]
            return str(self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # a template is a program of the repository's, and may fail in any way
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise PromptError(f"the chat template of {self.source.name} fails: {reason}", PLAIN) from error


def encode(tokenizer: Any, prompt: str, **options: bool) -> Any:
    """Run a tokenizer.

    Raises:
        PromptError: if the prompt is no text, or the tokenizer fails on it.
    """
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # bytes on the command line that are no text, half a surrogate pair
        raise PromptError("the prompt is no UTF-8 text", "convert it, for example with iconv") from error
    try:
        with _tokenizer_lock:
            return tokenizer(prompt, verbose=False, **options)
    except Exception as error:  # it is made of a stranger's files
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise PromptError(f"the tokenizer fails on this text: {reason}", "try another one") from error


def decode_tokens(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token's text; of a character that several tokens make, the first has it and the others have none.

    It is decoded behind the token before it: alone, some lose the blank that they begin with.
    """

    def decode(some: Sequence[int]) -> str:
        return str(tokenizer.decode(some, clean_up_tokenization_spaces=False))

    texts: list[str] = []
    before: list[int] = []
    group: list[int] = []
    for number, each in enumerate(ids, 1):
        group.append(int(each))
        known, whole = decode(before), decode([*before, *group])
        text = whole.removeprefix(known) if whole.startswith(known) else decode(group)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(group) < BYTES_OF_A_CHARACTER and number < len(ids):
            continue  # the first bytes of a character
        texts += [text, *[""] * (len(group) - 1)]
        before, group = group, []
    return texts


def find_leading(with_special: list[int], without: list[int]) -> list[int]:
    """The ids that a tokenizer puts in front of every text, from one text with its special tokens and without."""
    for n in range(len(with_special) - len(without) + 1):
        if with_special[n : n + len(without)] == without:
            return with_special[:n]
    return []


def _pieces(prompt: str, offsets: list[tuple[int, int]], names: list[str]) -> list[str]:
    """The slice of the prompt each token stands for; its own name for a token that is not from the prompt."""
    pieces, shown = [], 0
    for name, (start, end) in zip(names, offsets, strict=False):
        if start == end:
            pieces.append(name)
        else:
            pieces.append(prompt[max(start, shown) : end])
            shown = max(shown, end)
    return pieces
