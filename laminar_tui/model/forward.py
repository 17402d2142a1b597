"""One forward pass of a model: what it takes, the mode in which it runs, and what is said when it does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from laminar_tui.errors import MemoryNeededError, ModelError, PromptError
from laminar_tui.model.memory import NEED_LESS, is_out_of_memory


def forward(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None, **options: bool) -> Any:
    """Run everything up to the LM head, whose logits nobody needs here; the first of what it returns is [.., D].

    Padding must be behind the tokens: in front of them it would move their positions.
    """
    try:
        return model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **options)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        NotImplementedError,
        MemoryError,
    ) as error:
        if is_out_of_memory(error):
            raise MemoryNeededError(
                f"out of memory in the forward pass of {ids.shape[-1]:,} tokens",
                NEED_LESS,
            ) from error
        if _is_own(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        kind = model.config.model_type
        raise ModelError(f"{kind} does not run on the prompt: {reason}", "it may need more than text") from error


def _is_own(error: BaseException) -> bool:
    """Whether an error was raised by this package's own code, in which case it is a bug and no model's fault."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(Path(__file__).parent.parent) in frame.tb_frame.f_code.co_filename


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Leave dropout and gradients out; the model's own mode comes back."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def check_prompt(model: PreTrainedModel, ids: torch.Tensor) -> None:
    """Refuse, before the forward, what a model answers with a device assert or with nonsense.

    Raises:
        PromptError: for no tokens, more than the model has positions for, or ids beyond its vocabulary.
    """
    n_tokens = ids.shape[1]
    if n_tokens == 0:
        raise PromptError("the prompt has no tokens", "give some text")
    limit = context_length(model)
    if limit and limit < n_tokens:
        raise PromptError(
            f"the prompt has {n_tokens:,} tokens, the model takes {limit:,}",
            f"take the first {limit:,} of them (--max-tokens {limit})",
        )
    n_known = model.get_input_embeddings().weight.shape[0]
    unknown = ids[(ids < 0) | (ids >= n_known)]
    if len(unknown):
        raise PromptError(
            f"the prompt holds token id {int(unknown[0])}, the model knows 0 to {n_known - 1:,}",
            "the tokenizer does not belong to this model",
        )


def context_length(model: PreTrainedModel) -> int | None:
    """How many tokens a model has positions for; None without a limit."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(limit) if limit and limit > 0 else None  # a model without a limit says None, 0 or -1


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model wants its token ids.

    Accelerate spreads a model over devices, and offloads parameters: these are on `meta` until they are used, and a
    hook knows where that is.
    """
    embedding = model.get_input_embeddings()
    device: torch.device = embedding.weight.device
    if device.type == "meta" and (hook := getattr(embedding, "_hf_hook", None)) is not None:
        return torch.device(hook.execution_device)
    return device
