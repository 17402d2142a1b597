"""A hub id, folder or GGUF file -> model and tokenizer.

No code from a repository is run, no pickle is opened, what a config.json says about attention is not followed, and
parameters that are missing or not finite are refused.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from laminar_tui.errors import CancelledError, LaminarError, ModelError, PromptError, UsageError
from laminar_tui.source import Source

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown)."""

_tokenizer_lock = threading.Lock()
"""A fast tokenizer refuses to be used by two threads at once: a run's, and the one that counts while one types."""

DTYPES = ("auto", "float32", "bfloat16", "float16")


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
            raise PromptError("the prompt is empty", "give some text with --prompt, --prompt-file or on standard input")
        text = self._as_message(prompt) if chat else prompt
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        with _tokenizer_lock:  # a template brings its own special tokens
            encoded = self.tokenizer(text, return_offsets_mapping=fast, verbose=False, add_special_tokens=not chat)
        ids = [int(each) for each in encoded["input_ids"]]
        offsets = list(encoded["offset_mapping"]) if fast else []
        if bos and ids[:1] != [self._bos_id()]:  # some put it there by themselves
            ids, offsets = [self._bos_id(), *ids], [(0, 0), *offsets]
        ids = ids[:max_tokens]
        if not ids:
            raise PromptError(
                "the tokenizer makes no tokens of this prompt", "the model's tokenizer files may be missing"
            )
        if fast:
            tokens = _pieces(text, offsets, self.tokenizer.convert_ids_to_tokens(ids))
        else:
            tokens = [self.tokenizer.decode([each]) for each in ids]
        return TokenizedPrompt(tuple(ids), tuple(tokens))

    @property
    def has_bos(self) -> bool:
        """Whether the tokenizer knows a beginning-of-sequence token."""
        return getattr(self.tokenizer, "bos_token_id", None) is not None

    def begins_with_bos(self, ids: Sequence[int]) -> bool:
        """Whether the first of these tokens is the tokenizer's beginning of a sequence."""
        return self.has_bos and list(ids[:1]) == [self._bos_id()]

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def max_tokens(self) -> int | None:
        """How many tokens the model has positions for; None where it does not say."""
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return int(limit) if limit and limit > 0 else None

    def _bos_id(self) -> int:
        if not self.has_bos:
            raise PromptError(
                f"the tokenizer of {self.source.name} has no beginning-of-sequence token", "leave --bos out"
            )
        return int(self.tokenizer.bos_token_id)

    def _as_message(self, prompt: str) -> str:
        if not self.has_chat_template:
            raise PromptError(f"the tokenizer of {self.source.name} has no chat template", "leave --chat out")
        try:
            message = [{"role": "user", "content": prompt}]
            return str(self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # a template is a program of the repository's, and may fail in any way
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise PromptError(f"the chat template of {self.source.name} fails: {reason}", "leave --chat out") from error


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


def load_model(
    source: Source,
    *,
    dtype: str = "auto",
    device: str | None = None,
    device_map: str | None = None,
    on_progress: OnProgress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> LoadedModel:
    """Load a causal LM and its tokenizer.

    Args:
        source: from `laminar_tui.source.find_source`.
        dtype: one of `DTYPES`; `auto` is the checkpoint's own on a GPU, float32 on a CPU.
        device: like `cpu`, `cuda`, `cuda:1`; the first GPU if there is one when left out.
        device_map: handed to accelerate, like `auto`: layers over several devices.
        on_progress: called in this thread while files are fetched and parameters loaded.
        is_cancelled: asked at every step of that.

    Raises:
        UsageError: for a dtype or device that does not exist.
        ModelError: if there is no such model, it is no causal LM, or its parameters are not complete and finite.
        CancelledError: if `is_cancelled` said so.
    """
    target = _find_device(device)
    with _progress(on_progress, is_cancelled or (lambda: False)), _explained(source):
        config = _load_config(source)
        tokenizer = AutoTokenizer.from_pretrained(source.path, **_where(source), trust_remote_code=False)
        model, found = AutoModelForCausalLM.from_pretrained(
            source.path,
            **_where(source),
            config=config,
            dtype=_find_dtype(dtype, target),
            device_map=device_map,
            attn_implementation="eager",
            trust_remote_code=False,
            use_safetensors=None if source.gguf_file else True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    _refuse_incomplete(source, found)
    if device_map is None:
        model = model.to(target)
    _refuse_not_finite(source, model)
    model.eval()
    return LoadedModel(model, tokenizer, source)


def _where(source: Source) -> dict[str, Any]:
    revision = source.revision or "main"
    return {"revision": revision, "gguf_file": source.gguf_file, "local_files_only": _is_cached(source, revision)}


def _is_cached(source: Source, revision: str) -> bool:
    """Whether the hub's cache holds the model: then the hub is not asked, which takes long where it is away."""
    if source.is_local:
        return False
    names = ("config.json", "tokenizer.json", "model.safetensors")
    return all(isinstance(try_to_load_from_cache(source.path, name, revision=revision), str) for name in names)


def _find_device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"cannot use the device '{name}'", reason[:200]) from error
    return device


def _find_dtype(name: str, device: torch.device) -> torch.dtype | str:
    if name not in DTYPES:
        raise UsageError(f"there is no dtype '{name}'", f"choose one of: {', '.join(DTYPES)}")
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, name)  # type: ignore[no-any-return]


def _load_config(source: Source) -> Any:
    """Load the config, drop what it says about attention code, and see that it is a causal LM's."""
    config = AutoConfig.from_pretrained(source.path, **_where(source), trust_remote_code=False)
    config._attn_implementation_internal = None
    if hasattr(config, "auto_map"):
        del config.auto_map
    kind = config.model_type
    named = [name for name in (config.architectures or ()) if isinstance(name, str)]
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{source.name} is no causal language model (its type is {kind})", _CAUSAL_HINT)
    if named and not any("CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name for name in named):
        raise ModelError(f"{source.name} is no causal language model (it is a {named[0]})", _CAUSAL_HINT)
    return config


_CAUSAL_HINT = "take one that continues text, like EleutherAI/pythia-70m"


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turn what transformers and the hub raise about a model into one error that says what to do."""
    try:
        yield
    except LaminarError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, TypeError, SafetensorError) as error:
        raise _explain(source, error) from error


def _explain(source: Source, error: Exception) -> ModelError:
    text = " ".join(str(error).split())
    reason = text if len(text) <= 160 else text[:159] + "…"
    if source.is_local:
        folder = Path(source.path)
        if source.gguf_file and ("not supported" in text or "GGUF" in text):
            return ModelError(f"cannot read {source.gguf_file}: {reason}", "transformers does not read this GGUF file")
        if not source.gguf_file and not (folder / "config.json").is_file():
            return ModelError(f"{source.path} holds no model: there is no config.json", "give the folder of a model")
        return ModelError(f"cannot load {source.name}: {reason}", "see that its files are complete")
    if "trust_remote_code" in text:
        return ModelError(f"{source.name} needs code of its own", "code from a repository is never run")
    if "gated" in text.lower() or "401" in text or "403" in text:
        return ModelError(f"{source.name} is not open to you: {reason}", "ask for access, then set HF_TOKEN")
    if os.environ.get("HF_HUB_OFFLINE") or "couldn't connect" in text.lower() or "offline" in text.lower():
        return ModelError(
            f"{source.name} is not in the local cache, and the hub cannot be reached", "give a folder or a .gguf file"
        )
    if "revision" in text.lower() or "not a valid git identifier" in text:
        return ModelError(f"{source.name} has no revision '{source.revision}'", reason)
    return ModelError(f"cannot load {source.name}: {reason}", "check the id: owner/name, or owner/name@revision")


def _refuse_incomplete(source: Source, found: dict[str, Any]) -> None:
    missing = sorted(str(key) for key in found.get("missing_keys", ()))
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in found.get("mismatched_keys", ()))
    for keys, what in ((missing, "lacks"), (mismatched, "has other shapes for")):
        if keys:
            raise ModelError(
                f"{source.name} {what} {len(keys)} of the model's parameters, {keys[0]} among them",
                "with random numbers in their place nothing would be true; get the complete model",
            )


def _refuse_not_finite(source: Source, model: PreTrainedModel) -> None:
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not torch.isfinite(parameter.sum()) and not parameter.isfinite().all():
            raise ModelError(f"{source.name} has parameters that are not finite: {name}", "the file is damaged")


# -- progress --------------------------------------------------------------------------------------------------------


@contextmanager
def _progress(on_progress: OnProgress | None, is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hear of every progress bar transformers would draw; raising in it stops the load."""

    def hook(_factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "_SilentBar":
        return _SilentBar(on_progress, is_cancelled, *args, **kwargs)

    before = transformers_logging.set_tqdm_hook(hook)
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.set_tqdm_hook(before)


class _SilentBar:
    """What a library takes for a progress bar: it draws nothing and tells how far things are."""

    def __init__(
        self,
        on_progress: OnProgress | None,
        is_cancelled: Callable[[], bool],
        iterable: Any = None,
        *_: Any,
        desc: str | None = None,
        total: float | None = None,
        initial: float = 0,
        **_others: Any,
    ) -> None:
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled
        self._iterable = iterable
        self.desc = desc or "loading"
        self.total = total if total is not None else len(iterable) if hasattr(iterable, "__len__") else 0
        self.n = initial
        self.disable = False
        self.update(0)

    def update(self, n: float | None = 1) -> None:
        """Take note of some more, and stop the work if its user said so."""
        self.n += n or 0
        if self._is_cancelled():
            raise CancelledError("the loading was cancelled")
        if self._on_progress is not None:
            self._on_progress(self.desc, int(self.n), int(self.total or 0))

    def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
        """Take the name of what is being done."""
        del refresh
        self.desc = desc or self.desc

    def __iter__(self) -> Iterator[Any]:
        for each in self._iterable or ():
            yield each
            self.update(1)

    def __enter__(self) -> "_SilentBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to close."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_kwargs: None
