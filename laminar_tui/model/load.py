"""A hub id, folder or GGUF file -> model and tokenizer.

No code from a repository is run, no pickle is opened unless that is allowed, what a config.json says about attention,
kernels and code is not followed, what does not fit into memory is refused before it is loaded, and so are parameters
that are missing or not finite.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate.utils import align_module_device
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from laminar_tui.errors import LaminarError, MemoryNeededError, ModelError, UsageError
from laminar_tui.model.estimate import Estimate, estimate, max_memory_of_devices, refuse_too_large, skeleton
from laminar_tui.model.files import check_folder
from laminar_tui.model.hub import find_on_hub
from laminar_tui.model.hub_calls import TIMEOUT
from laminar_tui.model.loaded import LoadedModel, encode
from laminar_tui.model.memory import is_out_of_memory
from laminar_tui.model.progress import OnProgress, hear_progress
from laminar_tui.source import Source, find_source

MOST_LAYERS = 4096
"""More would take minutes to build before anything could be found wrong."""
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Terms:
    """On what terms a model is taken.

    Attributes:
        prompt: what it is to run on, for the estimate.
        max_tokens: how much of the prompt.
        max_memory: bytes that a device may give; None for all that is free.
        timeout: seconds without progress after which the hub is given up.
        allow_pickle: whether to open parameters in a format that can run code.
        keep_bytes: how much is kept for questions after a run, for the estimate.
        n_tokens: in place of the prompt's, for the estimate: the longest window that a corpus can have; 0 for none.
        cached_only: take nothing from the hub that is not in its cache.
        n_beside: how many processes of this machine load the model, this one included.
        n_models: how many of its size will be in memory together: 2 where one of random parameters comes beside it.
    """

    prompt: str = ""
    max_tokens: int | None = None
    max_memory: int | None = None
    timeout: float = TIMEOUT
    allow_pickle: bool = False
    keep_bytes: int = 0
    n_tokens: int = 0
    cached_only: bool = False
    n_beside: int = 1
    n_models: int = 1


def load_model(
    source: Source | str,
    *,
    dtype: str = "auto",
    device: str | None = None,
    device_map: str | dict[str, int | str] | None = None,
    terms: Terms | None = None,
    on_progress: OnProgress | None = None,
    on_estimate: Callable[[Estimate], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> LoadedModel:
    """Load a causal LM and its tokenizer.

    Args:
        source: a hub id (with `@revision` for a revision), a folder, a .gguf file; or from `source.find_source`.
        dtype: one of `DTYPES`; `auto` is the checkpoint's own on a GPU, float32 on a CPU.
        device: like `cpu`, `cuda`, `cuda:1`; the first GPU if there is one when left out.
        device_map: handed to accelerate, like `auto`: layers over several devices; or module -> device.
        terms: on what terms it is taken.
        on_progress: called in this thread while files are fetched and parameters loaded.
        on_estimate: called in this thread, before parameters are fetched and loaded, with what the run needs.
        is_cancelled: asked at every step of that.

    Raises:
        UsageError: for a source, dtype or device that does not exist.
        NetworkError: if the hub does not hand the model out.
        ModelError: if there is no such model, it is no causal LM, or its parameters are not complete and finite.
        MemoryNeededError: if it does not fit into what is free.
        CancelledError: if `is_cancelled` said so.
    """
    source = find_source(source) if isinstance(source, str) else source
    target = find_device(device)
    terms = terms or Terms()
    wanted = _find_dtype(dtype, target)
    place = _find_place(source, terms, on_progress, is_cancelled)
    with hear_progress(on_progress, is_cancelled or (lambda: False)), _explained(source):
        config = _load_config(source, place.folder)
        tokenizer = AutoTokenizer.from_pretrained(
            place.folder, gguf_file=source.gguf_file, local_files_only=True, trust_remote_code=False
        )
        needs = estimate(
            skeleton(config, source.name),
            _count_tokens(tokenizer, terms),
            dtype=wanted if isinstance(wanted, torch.dtype) else config.dtype or torch.float32,
            device=target,
            checkpoint=place.checkpoint,
            is_gguf=source.gguf_file is not None,
            keep_bytes=terms.keep_bytes,
        )
    needs = replace(needs, parameters=terms.n_models * needs.parameters)
    if on_estimate is not None:
        on_estimate(needs)
    refuse_too_large(
        source.name,
        needs,
        target,
        max_memory=terms.max_memory,
        device_map=device_map,
        n_beside=terms.n_beside,
    )
    place.fetch_parameters()
    with hear_progress(on_progress, is_cancelled or (lambda: False)), _explained(source):
        model, found = _load_parameters(source, place.folder, config, wanted, device_map, terms)
    _refuse_incomplete(source, found)
    if device_map is None:
        model = model.to(target)
    _refuse_not_finite(source, model)
    model.eval()
    return LoadedModel(model, tokenizer, source)


def _load_parameters(
    source: Source,
    folder: Path,
    config: Any,
    dtype: torch.dtype | str,
    device_map: str | dict[str, int | str] | None,
    terms: Terms,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Let transformers read the parameters, and nothing that is code; what it says of them comes back too."""
    bounds = None if terms.max_memory is None or device_map is None else max_memory_of_devices(terms.max_memory)
    loaded: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=source.gguf_file,
        local_files_only=True,
        config=config,
        dtype=dtype,
        device_map=device_map,
        max_memory=bounds,
        attn_implementation="eager",
        trust_remote_code=False,
        use_kernels=False,
        use_safetensors=None if source.gguf_file or terms.allow_pickle else True,
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused afterwards, by name
    )
    return loaded


@dataclass(frozen=True)
class _Place:
    """Where a model's files are, or will be."""

    folder: Path
    checkpoint: int
    fetch_parameters: Callable[[], None] = lambda: None


def _find_place(
    source: Source, terms: Terms, on_progress: OnProgress | None, is_cancelled: Callable[[], bool] | None
) -> _Place:
    if source.is_local:
        folder = Path(source.path)
        if source.gguf_file is None and not (folder / "config.json").exists():
            raise ModelError(f"{source.path} holds no model: there is no config.json", "give the folder of a model")
        return _Place(folder, check_folder(folder, source.name, source.gguf_file, allow_pickle=terms.allow_pickle))
    found = find_on_hub(
        source.path,
        source.revision,
        on_progress=on_progress,
        is_cancelled=is_cancelled,
        timeout=terms.timeout,
        allow_pickle=terms.allow_pickle,
        cached_only=terms.cached_only,
    )
    here = check_folder(found.folder, source.name, None, allow_pickle=terms.allow_pickle)
    return _Place(found.folder, found.checkpoint or here, found.fetch_parameters)


def _count_tokens(tokenizer: Any, terms: Terms) -> int:
    """How many tokens the prompt has: 1 at least, since an empty one is refused elsewhere."""
    n_tokens = terms.n_tokens or (len(encode(tokenizer, terms.prompt)["input_ids"]) if terms.prompt else 1)
    return max(1, min(n_tokens, terms.max_tokens or n_tokens))


def find_device(name: str | None) -> torch.device:
    """Say which device a name means.

    Raises:
        UsageError: if it does not exist, or cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        float(torch.zeros(1, device=device))  # `meta` has room for anything, and holds nothing
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"cannot use the device '{name}': {reason[:200]}", f"here there is {_devices()}") from error
    return device


def _devices() -> str:
    """What `--device` can name here, in words."""
    names = [f"cuda:{at}" for at in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ", ".join(["cpu", *names]) + ("" if names else " only: leave the device out")


def _find_dtype(name: str, device: torch.device) -> torch.dtype | str:
    if name not in DTYPES:
        raise UsageError(f"there is no dtype '{name}'", f"choose one of: {', '.join(DTYPES)}")
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, name)  # type: ignore[no-any-return]


def _load_config(source: Source, folder: Path) -> Any:
    """Load the config, drop what it says about code and kernels, and see that it is a causal LM's."""
    config = AutoConfig.from_pretrained(
        folder, gguf_file=source.gguf_file, local_files_only=True, trust_remote_code=False
    )
    for each in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        if each is not None:
            each._attn_implementation_internal = None
            each._experts_implementation_internal = None
            for name in _CODE_SETTINGS:
                each.__dict__.pop(name, None)
    _refuse_unknown_quantization(source, getattr(config, "quantization_config", None))
    kind = config.model_type
    n_layers = getattr(config.get_text_config(), "num_hidden_layers", None) or 0
    if not (isinstance(n_layers, int) and 0 <= n_layers <= MOST_LAYERS):
        raise ModelError(f"{source.name} says that it has {n_layers} layers", "its config.json is damaged")
    named = [name for name in (config.architectures or ()) if isinstance(name, str)]
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{source.name} is no causal language model (its type is {kind})", _CAUSAL_HINT)
    if named and not any("CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name for name in named):
        raise ModelError(f"{source.name} is no causal language model (it is a {named[0]})", _CAUSAL_HINT)
    return config


_CODE_SETTINGS = ("auto_map", "custom_pipelines", "use_kernels", "kernel_config", "allow_all_kernels")
"""What a config may say about code that is to be fetched and run."""


def _refuse_unknown_quantization(source: Source, settings: Any) -> None:
    """Only the ways of quantizing that transformers brings are followed: others would need code."""
    if settings is None:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    method = getattr(method, "value", method)
    is_bits = isinstance(settings, dict) and (settings.get("load_in_8bit") or settings.get("load_in_4bit"))
    if not is_bits and not (isinstance(method, str) and method in {*AUTO_QUANTIZER_MAPPING, "bitsandbytes"}):
        raise ModelError(f"{source.name} is quantized in a way that is not known: {method}", _NO_CODE)


_NO_CODE = "code from a repository is never run"
_CAUSAL_HINT = "take one that continues text, like EleutherAI/pythia-70m"


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turn what transformers and the hub raise about a model into one error that says what to do."""
    try:
        yield
    except LaminarError:
        raise
    except Exception as error:  # a stranger's files make the libraries raise anything, plain Exception among it
        raise _explain(source, error) from error


def _explain(source: Source, error: Exception) -> LaminarError:
    text = " ".join(str(error).split())
    reason = text if len(text) <= 160 else text[:159] + "…"
    if is_out_of_memory(error):
        return MemoryNeededError(f"out of memory while {source.name} was loaded", "take bfloat16 (--dtype) or a GPU")
    if isinstance(error, UnpicklingError):
        return ModelError(f"the pickle of {source.name} holds more than numbers", _NO_CODE)
    if "trust_remote_code" in text or "custom code" in text:
        return ModelError(f"{source.name} needs code of its own", _NO_CODE)
    if source.gguf_file and ("not supported" in text or "GGUF" in text):
        return ModelError(f"cannot read {source.gguf_file}: {reason}", "transformers does not read this GGUF file")
    return ModelError(f"cannot load {source.name}: {reason}", "see that its files are complete")


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
    for place, module in model.named_modules():
        with align_module_device(module):  # parameters that accelerate offloaded are on `meta` until they are used
            for name, parameter in module.named_parameters(place, recurse=False):
                if parameter.is_floating_point() and not _is_finite(parameter):
                    raise ModelError(f"{source.name} has parameters that are not finite: {name}", "the file is damaged")


def _is_finite(parameter: torch.Tensor) -> bool:
    if str(parameter.dtype).startswith("torch.float4"):  # has neither infinities nor NaN
        return True
    if parameter.element_size() == 1:  # torch adds up none of these
        return all(bool(piece.float().isfinite().all()) for piece in torch.split(parameter.flatten(), _PIECE))
    return bool(torch.isfinite(parameter.sum()) or parameter.isfinite().all())


_PIECE = 2**24
"""Numbers of one byte that are widened at a time: 64 MB."""
