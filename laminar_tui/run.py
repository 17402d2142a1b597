"""The story of one run: what was asked for goes in, events come out on the way, a profile at the end.

It is not called `capture.py`: `laminar_tui.capture` is the library's function, and a module of that name would take its
place as soon as it is imported. torch and transformers are imported by the functions that
need them.
"""

import gc
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from laminar_tui.errors import UsageError
from laminar_tui.profile.patterns import PatternSource
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.source import as_path, find_source

if TYPE_CHECKING:
    from laminar_tui.model.check import Verdict
    from laminar_tui.model.estimate import Estimate
    from laminar_tui.model.loaded import LoadedModel, TokenizedPrompt
    from laminar_tui.model.patterns import KeptPatterns

ASSETS = Path(str(files("laminar_tui"))) / "assets"
BUNDLED_MODEL = ASSETS / "model"
BUNDLED_NAME = "laminar-small"
SAMPLE_PROFILE = ASSETS / "sample.laminar"
MOST_PROMPT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        source: a hub id, folder or GGUF file; empty for the bundled model.
        prompt: the text; None for the bundled one.
        revision, dtype, device, device_map: as in `model.load.load_model`.
        max_tokens: cut the prompt after so many tokens.
        recipe: `true`, or a control in `model.recipes.RECIPES`.
        bos, chat: as in `model.loaded.LoadedModel.tokenize`.
        null: empty, or a name in `model.nulls.NULLS`: run the model so that chance shows.
        roles: also measure what the heads do on repeated random tokens.
        max_memory: bytes that a device may give; None for all that is free.
        timeout: seconds without progress after which the hub is given up.
        allow_pickle: whether to open parameters in a format that can run code.
        tokens, token_ids: the prompt as it was cut, in place of cutting the text; empty to cut it.
        cached_only: take nothing from the hub that is not in its cache.
    """

    source: str = ""
    prompt: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    device_map: str | None = None
    max_tokens: int | None = None
    recipe: str = "true"
    bos: bool = False
    chat: bool = False
    null: str = ""
    roles: bool = False
    max_memory: int | None = None
    timeout: float = 60.0
    allow_pickle: bool = False
    tokens: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()
    cached_only: bool = False

    def text(self) -> str:
        """The prompt, or the bundled one."""
        return bundled_prompt() if self.prompt is None else self.prompt


def request_of(profile: Profile) -> Request:
    """What a profile was read from, asked for once more: its model, revision and dtype, and its very tokens.

    Raises:
        UsageError: if the profile does not hold that.
    """
    origin = profile.origin
    if not origin.token_ids:
        raise UsageError("of several prompts no tokens are kept, so they cannot be run again", "O opens a model")
    if origin.is_null:
        raise UsageError("a null is no run of a model that could be loaded", "O opens a model")
    source = find_source(origin.model) if origin.model != BUNDLED_NAME else None
    return Request(
        source=origin.model if source else "",
        prompt="".join(origin.tokens),
        revision=origin.revision or None if source and not source.is_local else None,
        dtype=origin.dtype,
        recipe=origin.recipe,
        tokens=origin.tokens,
        token_ids=origin.token_ids,
        cached_only=True,
    )


@dataclass(frozen=True)
class Step:
    """What is being done, and how far it is: `done` of `total`, and in words `more`; a total of 0 is unknown."""

    name: str
    done: int = 0
    total: int = 0
    more: str = ""


@dataclass(frozen=True, eq=False)
class Started:
    """The forward pass begins: the profile with no layer read yet; of another process's corpus, what it has so far."""

    profile: Profile


@dataclass(frozen=True, eq=False)
class LayerRead:
    """A layer was read."""

    index: int
    layer: LayerProfile


Event = Step | Started | LayerRead
OnEvent = Callable[[Event], None]
IsCancelled = Callable[[], bool]


def bundled_prompt() -> str:
    """The prompt that comes with the bundled model."""
    return (ASSETS / "prompt.txt").read_text(encoding="utf-8").strip()


def load(
    request: Request,
    on_event: OnEvent,
    is_cancelled: IsCancelled,
    *,
    keeps_patterns: bool = False,
    n_tokens: int = 0,
    n_beside: int = 1,
    say_needs: "Callable[[Estimate], str]" = str,
) -> "LoadedModel":
    """Find and load the model that was asked for.

    Args:
        keeps_patterns: whether questions will be asked after its runs, which takes memory.
        n_tokens, n_beside: as in `model.load.Terms`.
        say_needs: puts the estimate into words.

    Raises:
        LaminarError: what was wrong with the source, the model or the device.
    """
    source = find_source(request.source or str(BUNDLED_MODEL), request.revision)
    on_event(Step("starting torch and transformers"))
    from laminar_tui.model.load import Terms, load_model
    from laminar_tui.model.patterns import KEEP_BYTES

    terms = Terms(
        request.text(),
        request.max_tokens,
        request.max_memory,
        request.timeout,
        request.allow_pickle,
        KEEP_BYTES if keeps_patterns else 0,
        n_tokens or len(request.token_ids),
        request.cached_only,
        n_beside,
        2 if request.null == "random" else 1,
    )
    on_event(Step(f"loading {source.name}" if request.source else "loading the bundled model"))
    return load_model(
        source,
        dtype=request.dtype,
        device=request.device,
        device_map=request.device_map,
        terms=terms,
        on_progress=lambda name, done, total: on_event(Step(name, done, total)),
        on_estimate=lambda needs: on_event(Step(say_needs(needs))),
        is_cancelled=is_cancelled,
    )


def read(
    loaded: "LoadedModel",
    request: Request,
    on_event: OnEvent,
    is_cancelled: IsCancelled,
    keep: "KeptPatterns | None" = None,
) -> Profile:
    """Run a loaded model on the prompt and read every weight.

    Args:
        keep: answers questions for exact weights afterwards.

    Raises:
        LaminarError: what was wrong with the prompt, the model, or what was read.
    """
    import torch

    from laminar_tui.model.capture import capture, choose_mechanism, empty_profile
    from laminar_tui.model.estimate import plan_capture
    from laminar_tui.model.fast import AT_LEAST_TOKENS
    from laminar_tui.model.forward import check_prompt, input_device

    on_event(Step("tokenizing"))
    prompt = _tokenize(loaded, request)
    null_recipe = ""
    if request.null:
        loaded, prompt, null_recipe = _take_null(loaded, prompt, request, on_event)
    ids = torch.tensor([prompt.ids])
    check_prompt(loaded.model, ids)
    wanted = keep.keep_bytes if keep is not None else 0
    mechanism = None
    if len(prompt.ids) >= AT_LEAST_TOKENS:  # a shorter one is looked at by `capture`, once
        on_device = ids.to(input_device(loaded.model))
        mechanism, _ = choose_mechanism(loaded.model, request.recipe, on_device, is_cancelled)
    name = loaded.source.name
    plan = plan_capture(name, loaded.model, len(prompt.ids), request.max_memory, wanted, mechanism)
    if keep is not None:
        keep.keep_bytes = plan.keep_bytes

    def named(profile: Profile) -> Profile:
        name = loaded.source.name if request.source else BUNDLED_NAME
        revision, recipe = loaded.source.revision or "", null_recipe or profile.origin.recipe
        return replace(profile, origin=replace(profile.origin, model=name, revision=revision, recipe=recipe))

    start = named(empty_profile(loaded.model, ids, prompt.tokens))
    on_event(Started(start))
    on_event(Step("forward", 0, start.n_layers))

    def on_layer(index: int, layer: LayerProfile) -> None:
        on_event(LayerRead(index, layer))
        on_event(Step("forward", index + 1, start.n_layers))

    profile = named(
        capture(
            loaded.model,
            ids,
            tokens=prompt.tokens,
            recipe=request.recipe,
            on_layer=on_layer,
            is_cancelled=is_cancelled,
            chunk_weights=plan.chunk_weights,
            keep=keep,
        )
    )
    return with_roles(profile, loaded, on_event, is_cancelled) if request.roles else profile


def _tokenize(loaded: "LoadedModel", request: Request) -> "TokenizedPrompt":
    """Cut the prompt into tokens, unless it came cut."""
    from laminar_tui.model.loaded import TokenizedPrompt

    if request.token_ids:
        return TokenizedPrompt(request.token_ids, request.tokens)
    return loaded.tokenize(request.text(), request.max_tokens, bos=request.bos, chat=request.chat)


def with_roles(profile: Profile, loaded: "LoadedModel", on_event: OnEvent, is_cancelled: IsCancelled) -> Profile:
    """Measure what a model's heads do on repeated random tokens, and put it into a profile.

    Raises:
        ModelError: if the model takes too few tokens.
        CancelledError: if `is_cancelled` said so.
    """
    from laminar_tui.model.roles import measure_roles

    def on_sequence(done: int, total: int) -> None:
        on_event(Step("measuring roles on repeated random tokens", done, total))

    roles = measure_roles(loaded.model, loaded.tokenizer, is_cancelled=is_cancelled, on_sequence=on_sequence)
    return replace(profile, roles=roles)


def _take_null(
    loaded: "LoadedModel", prompt: "TokenizedPrompt", request: Request, on_event: OnEvent
) -> "tuple[LoadedModel, TokenizedPrompt, str]":
    """Put another model, or another order of the tokens, in the place of what was asked for; and what to call it.

    Raises:
        UsageError: for a null that does not exist, or one together with a recipe.
    """
    from laminar_tui.model.nulls import apply_null, find_null

    null = find_null(request.null)
    if request.recipe != "true":
        raise UsageError("a null has no recipe", "leave --recipe out")
    on_event(Step(f"making the null: {null.title}"))
    return *apply_null(null, loaded, prompt), null.recipe


@dataclass(frozen=True)
class PromptFacts:
    """What a tokenizer says of a prompt.

    Attributes:
        n_tokens: how many tokens it becomes, those of BOS and template included.
        max_tokens: how many the model takes; None where it does not say.
        has_bos, has_chat: whether the tokenizer has such a token, such a template.
        begins_with_bos: the first token is BOS, asked for or not.
    """

    n_tokens: int
    max_tokens: int | None
    has_bos: bool
    has_chat: bool
    begins_with_bos: bool = False


class Session:
    """Runs requests one after another and keeps the model for the next prompt.

    Args:
        keeps_patterns: whether exact weights can be asked for after a run; it costs memory.

    Attributes:
        patterns: answers such questions; None before the first run has ended, and during the next one.
    """

    def __init__(self, keeps_patterns: bool = True) -> None:
        self.patterns: PatternSource | None = None
        self._keeps_patterns = keeps_patterns
        self._loaded: LoadedModel | None = None
        self._loaded_for: tuple[object, ...] = ()

    def run(self, request: Request, on_event: OnEvent, is_cancelled: IsCancelled) -> Profile:
        """Load the model unless it is the one in memory, and read it on the prompt.

        Raises:
            LaminarError: what was wrong with the source, the model, the prompt, or what was read.
        """
        wanted = _model_of(request)
        self.patterns = None  # it holds on to the model, and to queries and keys that may not fit beside new ones
        if self._loaded is None or wanted != self._loaded_for:
            self._loaded = None  # before the next one is loaded: two may not fit
            if self._loaded_for:
                _free_circles()
            self._loaded_for = wanted
            self._loaded = load(request, on_event, is_cancelled, keeps_patterns=self._keeps_patterns)
        if not self._keeps_patterns:
            return read(self._loaded, request, on_event, is_cancelled)

        from laminar_tui.model.patterns import KeptPatterns

        kept = KeptPatterns()
        profile = read(self._loaded, request, on_event, is_cancelled, kept)
        self.patterns = kept
        return profile

    def run_null(self, request: Request, null: str, on_event: OnEvent, is_cancelled: IsCancelled) -> Profile:
        """Run the model in memory so that chance shows; the last run's exact weights can be asked for as before.

        Args:
            request: the one whose model is in memory.
            null: a name in `model.nulls.NULLS`.
            on_event, is_cancelled: as of `run`.

        Raises:
            LaminarError: if another model is in memory, there is no room for the null, or `is_cancelled` said so.
        """
        if self._loaded is None or _model_of(request) != self._loaded_for:
            raise UsageError("the model is no longer in memory", "r runs it again")
        try:
            return read(self._loaded, replace(request, null=null, roles=False), on_event, is_cancelled)
        finally:
            _free_circles()  # the model of random parameters is as large as the first one

    def measure_roles(self, profile: Profile, on_event: OnEvent, is_cancelled: IsCancelled) -> Profile:
        """Put what the loaded model's heads do into a profile of that model.

        Raises:
            UsageError: if no model is loaded, or not the profile's.
            ModelError, CancelledError: as `with_roles`.
        """
        loaded, origin = self._loaded, profile.origin
        if loaded is None:
            raise UsageError("no model is loaded", "its roles can be measured after a run")
        name, revision = (loaded.source.name if self._loaded_for[0] else BUNDLED_NAME), loaded.source.revision or ""
        if (name, revision) != (origin.model, origin.revision) or origin.is_null:
            raise UsageError("the model that is loaded is not the one of this profile", "run it again first")
        return with_roles(profile, loaded, on_event, is_cancelled)

    def prompt_facts(self, request: Request) -> PromptFacts | None:
        """Count a prompt's tokens with the loaded tokenizer; None while the request's model is not loaded.

        Raises:
            PromptError: if the tokenizer makes nothing of it.
        """
        loaded = self._loaded
        if loaded is None or _model_of(request) != self._loaded_for:
            return None
        prompt = _tokenize(loaded, replace(request, max_tokens=None))
        return PromptFacts(
            len(prompt.ids),
            loaded.max_tokens,
            loaded.has_bos,
            loaded.has_chat_template,
            loaded.begins_with_bos(prompt.ids),
        )


def _model_of(request: Request) -> tuple[object, ...]:
    """All of a request that says which model is loaded, and where to."""
    return (request.source, request.revision, request.dtype, request.device, request.device_map)


def _free_circles() -> None:
    """Free a model that only refers to itself: hooks that place its layers do, and so does an error's traceback."""
    gc.unfreeze()  # the explorer sets aside what will probably stay
    gc.collect()


def run(
    request: Request,
    on_event: OnEvent | None = None,
    is_cancelled: IsCancelled | None = None,
    session: Session | None = None,
) -> Profile:
    """Load and read in one go, or in a session that goes on: what the headless commands do."""
    session = session or Session(keeps_patterns=False)
    return session.run(request, on_event or (lambda _event: None), is_cancelled or (lambda: False))


def check(request: Request, on_event: OnEvent, is_cancelled: IsCancelled | None = None) -> "Verdict":
    """Load a model and compare every weight that is read with the model's own eager run, on a short prompt.

    Raises:
        LaminarError: what was wrong with the source, the model or the prompt.
    """
    on_event(Step("starting torch and transformers"))
    from laminar_tui.model.check import MAX_CHECK_TOKENS, check_model

    n_tokens = min(request.max_tokens or MAX_CHECK_TOKENS, MAX_CHECK_TOKENS)
    loaded = load(replace(request, max_tokens=n_tokens), on_event, is_cancelled or (lambda: False))
    prompt = loaded.tokenize(request.text(), n_tokens, bos=request.bos, chat=request.chat)
    on_event(Step("comparing every weight with an eager run"))
    return check_model(loaded.model, prompt.ids)


def read_prompt_file(path: str) -> str:
    """Read a prompt from a text file, see `without_file_end`.

    Raises:
        UsageError: if it cannot be read, is no regular file or larger than any prompt, or is no UTF-8 text.
    """
    file = as_path(path)
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a named pipe would wait for ever
            raise UsageError(f"{path} is no regular file", "to read what a program writes, pipe it into --prompt -")
        if found.st_size > MOST_PROMPT_BYTES:
            raise UsageError(f"{path} holds {found.st_size:,} bytes, too many for a prompt", "cut a part out of it")
        return without_file_end(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "give the path of a text file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text", "convert it, for example with iconv") from error


def without_file_end(text: str) -> str:
    """Take one line break from the end: it ends the file, and is not meant as the prompt's final token.

    Whoever means one ends the file with an empty line.
    """
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
