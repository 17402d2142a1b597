"""laminar_tui: how the attention weights of a causal language model are distributed, layer by layer, head by head.

    import laminar_tui
    profile = laminar_tui.capture(model, input_ids, tokenizer=tokenizer)   # a transformers causal LM in memory
    profile.density("final", sink="without").values   # [n_layers, 300]
    profile.save("run.laminar")

    loaded = laminar_tui.load_model("EleutherAI/pythia-70m")   # checked and estimated as on the command line
    prompt = loaded.tokenize("Call me Ishmael.")
    profile = laminar_tui.capture(loaded.model, prompt.ids, tokens=prompt.tokens)

    kept = laminar_tui.KeptPatterns()                 # exact weights of any head, after the capture
    laminar_tui.capture(model, input_ids, keep=kept)
    kept.pattern(layer=3, head=5)                     # [n_tokens, n_tokens], NaN where the mask hides

The names are imported when they are used: `laminar_tui.Profile` alone needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laminar_tui.errors import (
        CancelledError,
        LaminarError,
        MemoryNeededError,
        ModelError,
        NetworkError,
        NotHereError,
        PeerError,
        ProfileFileError,
        PromptError,
        UntrustedWeightsError,
        UsageError,
    )
    from laminar_tui.export import export_profile
    from laminar_tui.model.capture import capture
    from laminar_tui.model.check import check_model
    from laminar_tui.model.load import load_model
    from laminar_tui.model.patterns import KeptPatterns
    from laminar_tui.model.roles import measure_roles
    from laminar_tui.profile.compare import compare
    from laminar_tui.profile.counts import Counts
    from laminar_tui.profile.density import Density
    from laminar_tui.profile.merge import merge
    from laminar_tui.profile.profile import Profile
    from laminar_tui.profile.report import make_report
    from laminar_tui.profile.report_formats import report_markdown

__version__ = "0.1.0"
__all__ = [
    "CancelledError",
    "Counts",
    "Density",
    "KeptPatterns",
    "LaminarError",
    "MemoryNeededError",
    "ModelError",
    "NetworkError",
    "NotHereError",
    "PeerError",
    "Profile",
    "ProfileFileError",
    "PromptError",
    "UntrustedWeightsError",
    "UsageError",
    "__version__",
    "capture",
    "check_model",
    "compare",
    "export_profile",
    "load_model",
    "make_report",
    "measure_roles",
    "merge",
    "report_markdown",
]

_HOMES = {
    "capture": "model.capture",
    "check_model": "model.check",
    "compare": "profile.compare",
    "Counts": "profile.counts",
    "Density": "profile.density",
    "export_profile": "export",
    "KeptPatterns": "model.patterns",
    "load_model": "model.load",
    "make_report": "profile.report",
    "measure_roles": "model.roles",
    "merge": "profile.merge",
    "Profile": "profile.profile",
    "report_markdown": "profile.report_formats",
}
"""Where a name is; those of errors are in `errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'laminar_tui' has no attribute '{name}'")
    return getattr(import_module(f"laminar_tui.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
