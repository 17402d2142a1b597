"""Runs the kernel in Triton's interpreter, for `test_kernel`: prints what was found, one JSON object a line.

A process of its own with TRITON_INTERPRET=1, because `triton` decides on import what becomes of a kernel.
The cases are given as JSON.
"""

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import laminar_tui
from laminar_tui.errors import UntrustedWeightsError
from laminar_tui.model import device, kernel, tap
from laminar_tui.model.masks import Masks
from laminar_tui.model.tally import LayerTally
from laminar_tui.profile.counts import N_BINS

CPU = torch.device("cpu")


def draw(case: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float, torch.Tensor | None]:
    """Make a layer; query and key are views into one tensor of all heads, as models give them."""
    n_heads, n_kv_heads = case["n_heads"]
    n_tokens, d_head = case["n_tokens"], case["d_head"]
    generator = torch.Generator().manual_seed(4)
    fused = torch.randn(n_tokens, n_heads + 2 * n_kv_heads, d_head, generator=generator).to(
        getattr(torch, case["dtype"])
    )
    query, key, value = fused.transpose(0, 1).split([n_heads, n_kv_heads, n_kv_heads])
    window = case.get("window")
    ones = torch.ones(n_tokens, n_tokens, dtype=torch.bool)
    mask = None if window is None else ones.tril().triu(1 - window)
    return query, key, value, case.get("spread", 1.5) * d_head**-0.5, mask


def compare(case: dict[str, Any]) -> dict[str, Any]:
    """Read a layer by the kernel, by tiles and by the formula in float64."""
    query, key, value, scaling, mask = draw(case)
    found = kernel.find(query, key, value, scaling, mask, case.get("window"))
    tiles = device.find_in_tiles(query, key, value, scaling, mask)
    scores = query.double() @ key.double().repeat_interleave(len(query) // len(key), dim=0).transpose(1, 2) * scaling
    seen = torch.ones_like(scores[0], dtype=torch.bool).tril() if mask is None else mask
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
    content = weights.tril(-1)
    content[:, :, 0] = 0
    rows = dict(zip(device.MEASURED, found.rows.double(), strict=True))
    keys = torch.arange(case["n_tokens"], dtype=torch.float64)
    exact = {
        "first": weights[:, :, 0],
        "itself": weights.diagonal(dim1=1, dim2=2),
        "previous": torch.nn.functional.pad(weights.diagonal(-1, dim1=1, dim2=2), (1, 0)),
        "total": content.sum(2),
        "squares": content.square().sum(2),
        "entropy": torch.special.entr(content).sum(2),
        "position": content @ keys,
    }
    bins = content.half().view(torch.int16).numpy().reshape(len(query), -1)
    hits = np.stack([np.bincount(head, minlength=N_BINS) for head in bins])[:, 1:]
    mine, theirs = found.hits[:, 1:].numpy(), tiles.hits[:, 1:].numpy()
    tally = LayerTally(len(query), case["n_tokens"], CPU)
    device.hand_over(found, Masks().look_at(mask), tally)
    return {
        "difference": device.tell_difference(found, tiles),
        "n_counted": int(theirs.sum()),
        "moved": int(np.abs(mine - theirs).sum()),
        "cumulative": int(np.abs((mine - theirs)[:, ::-1].cumsum(1)).max()),
        "cumulative_of_formula": int(np.abs((mine - hits)[:, ::-1].cumsum(1)).max()),
        "off": {name: float((rows[name] - values).abs().max()) for name, values in exact.items()},
        "off_received": float((found.received - content.sum(1)).abs().max()),
        "n_content": tally.finish().parts["content"].unpack().n.tolist(),
        "n_expected": int((seen.tril(-1)[:, 1:]).sum()),
        "n_zeros": [
            int((content[head] >= device.SMALLEST).sum() - found.n_positive[head]) for head in range(len(query))
        ],
        "log_sum": float(
            (
                kernel.sum_rows(query, key, scaling, case.get("window"))
                - scores.masked_fill(~seen, -torch.inf).logsumexp(2)
            )
            .abs()
            .max()
        ),
    }


def refuse(case: dict[str, Any]) -> dict[str, Any]:
    """Read a layer one head of which is not a number: whether it is refused, and what was counted of it."""
    query, key, value, scaling, mask = draw(case)
    query = query.clone()
    query[1] = float("nan")
    with np.errstate(invalid="ignore"):
        found = kernel.find(query, key, value, scaling, mask, None)
    try:
        device.hand_over(found, Masks().look_at(mask), LayerTally(len(query), case["n_tokens"], CPU))
        refused = ""
    except UntrustedWeightsError as error:
        refused = str(error)
    return {"refused": refused, "hits": found.hits[:, 1:].sum(dim=1).tolist()}


def capture() -> dict[str, Any]:
    """Read a model of two layers through the tap, by the kernel as on a GPU and by the family's own function."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    tokens = torch.randint(0, 64, (40,))
    own = laminar_tui.capture(model, tokens)
    device.is_kernel_at_hand = lambda _device: True  # type: ignore[assignment]
    tap._attend_in_tiles = lambda _query: device.attend
    calls = []
    find = kernel.find
    kernel.find = lambda *args: calls.append(args[0].shape[1]) or find(*args)  # type: ignore[func-returns-value]
    read = laminar_tui.capture(model, tokens)
    pairs = [(one.key_shares, other.key_shares) for one, other in zip(own.layers, read.layers, strict=True)]
    return {
        "calls": calls,
        "n": [
            bool((own.layers[i].parts["content"].unpack().n == read.layers[i].parts["content"].unpack().n).all())
            for i in range(2)
        ],
        "off": [float(np.abs(one - other).max()) for one, other in pairs],
    }


def main() -> None:
    """Print one line for each case."""
    cases: list[dict[str, Any]] = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")  # numpy's, on overflow in what is hidden
    real = kernel.BLOCK_ROWS, kernel.BLOCK_KEYS
    kernel.BLOCK_ROWS, kernel.BLOCK_KEYS = 32, 16
    work: list[Callable[[], dict[str, Any]]] = [lambda case=case: compare(case) for case in cases]
    for each in (*work, lambda: refuse(cases[1])):
        print(json.dumps(each()), flush=True)
    kernel.BLOCK_ROWS, kernel.BLOCK_KEYS = real
    print(json.dumps(capture()), flush=True)


if __name__ == "__main__":
    main()
