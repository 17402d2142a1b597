"""laminar_tui: how the attention weights of a causal language model are distributed, layer by layer, head by head.

    import laminar_tui
    profile = laminar_tui.capture(model, input_ids)   # a transformers causal LM in memory
    profile.density("final", sink="without").values   # [n_layers, 300]
    profile.save("run.laminar")

    kept = laminar_tui.KeptPatterns()                 # exact weights of any head, after the capture
    laminar_tui.capture(model, input_ids, keep=kept)
    kept.pattern(layer=3, head=5)                     # [n_tokens, n_tokens], NaN where the mask hides

The names are imported when they are used: `laminar_tui.Profile` alone needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laminar_tui.model.capture import capture
    from laminar_tui.model.patterns import KeptPatterns
    from laminar_tui.profile.counts import Counts
    from laminar_tui.profile.density import Density
    from laminar_tui.profile.profile import Profile

__version__ = "0.1.0"
__all__ = ["Counts", "Density", "KeptPatterns", "Profile", "__version__", "capture"]

_HOMES = {
    "capture": "laminar_tui.model.capture",
    "Counts": "laminar_tui.profile.counts",
    "Density": "laminar_tui.profile.density",
    "KeptPatterns": "laminar_tui.model.patterns",
    "Profile": "laminar_tui.profile.profile",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'laminar_tui' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
