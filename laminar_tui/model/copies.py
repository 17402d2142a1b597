"""Tensors on their way from a device to the host, which goes on with other work meanwhile."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray


def arrives_later(device: torch.device) -> bool:
    """Whether a device writes to the host's memory by itself."""
    return device.type == "cuda"


class Copy:
    """The host's copies of some tensors of one device, under way.

    From CUDA the device writes them by itself into memory that stays where it is; from elsewhere they are there at
    once.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        home = next(iter(tensors.values())).device
        is_later = arrives_later(home)
        self._copies = {name: each.to("cpu", non_blocking=is_later) for name, each in tensors.items()}
        self._event: Any = None
        if is_later:
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(home))

    def is_ready(self) -> bool:
        """Whether all have come; asks without waiting."""
        return self._event is None or bool(self._event.query())

    def wait(self) -> dict[str, NDArray[Any]]:
        """Wait for all, and give them; whoever keeps one copies it, since the memory is to be used again."""
        if self._event is not None:
            self._event.synchronize()
        return {name: each.numpy() for name, each in self._copies.items()}
