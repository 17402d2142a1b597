"""What is found out about a boolean mask, asked of its device once for all layers that are handed the same one."""

from dataclasses import dataclass

import torch

MOST_MASKS = 3
"""How many masks of a forward are remembered: full, windowed, and one more. A mask of 32,768 tokens takes 1 GiB."""
BLOCK = 2**23
"""Entries that are looked at in one piece: nothing as large as the mask is made beside it."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A layer's mask.

    Attributes:
        seen: bool [n_tokens, n_tokens], True where a query sees a key.
        is_causal: whether no query sees a later key.
        window: how many keys a query sees at most where the mask is a sliding window, itself among them; None where it
            is anything else.
        n_seen: int64 [n_tokens], how many keys each query sees; on the mask's device.
    """

    seen: torch.Tensor
    is_causal: bool
    window: int | None
    n_seen: torch.Tensor


class Masks:
    """The masks of one forward pass, the last `MOST_MASKS` of them."""

    def __init__(self) -> None:
        self._known: dict[object, Mask] = {}

    def look_at(self, seen: torch.Tensor | None) -> Mask | None:
        """Say what a mask is: at its first sight, its device is waited for once.

        Args:
            seen: bool [n_tokens, n_tokens]; it may be another view of what was seen before.
        """
        if seen is None:
            return None
        # Each known mask is held, so no other one can come to lie where it is.
        key = seen.device, seen.data_ptr(), seen.storage_offset(), seen.shape, seen.stride()
        mask = self._known.pop(key, None)
        if mask is None:
            while len(self._known) >= MOST_MASKS:
                del self._known[next(iter(self._known))]
            mask = look_at(seen)
        self._known[key] = mask  # the last used is forgotten last
        return mask


def look_at(seen: torch.Tensor) -> Mask:
    """Find out what there is to know of a mask, bool [n_tokens, n_tokens]; waits for its device once."""
    n_tokens = len(seen)
    places = torch.arange(n_tokens, device=seen.device)
    width = seen[-1].sum()
    is_band, is_causal = torch.ones(2, dtype=torch.bool, device=seen.device)
    n_rows = max(1, BLOCK // n_tokens)
    for start in range(0, n_tokens, n_rows):
        block = seen[start : start + n_rows]
        distance = places[start : start + n_rows, None] - places
        is_band &= (block == ((distance >= 0) & (distance < width))).all()
        is_causal &= ~(block & (distance < 0)).any()
    window, causal = torch.stack([torch.where(is_band, width, 0), is_causal.long()]).tolist()
    return Mask(seen, bool(causal), window or None, seen.sum(dim=1))
