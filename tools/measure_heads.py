"""Measure every head of a causal language model: previous token, induction, duplicate token, sink.

The figures on the card of the bundled model come from here, so that anyone can reproduce them:

    python tools/measure_heads.py laminar_tui/assets/model --text laminar_tui/assets/prompt.txt

All scores are means of the model's own eager attention weights, computed in float32. With A[query, key]:

* previous token: mean A[q, q - 1] over q >= 1, on the text and on random tokens;
* induction: on random tokens repeated with period P, mean A[q, q - P + 1] over the second half (Olsson et al.,
  arXiv 2209.11895);
* duplicate token: the same sequence and queries, mean A[q, q - P];
* sink share: alpha_0, mean A[i, 0] over the first 64 rows, row 0 included (Gu et al., arXiv 2410.10781, who call
  a head with alpha_0 > 0.3 a sink head), on the text and on random tokens. The mask is causal, so the first 64 rows
  of a longer sequence are those of a sequence of 64 tokens.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

SINK_ROWS = 64  # T in arXiv 2410.10781


@dataclass(frozen=True, eq=False)
class HeadScores:
    """The scores of all heads of one model; each tensor is [n_layers, n_heads], values in [0, 1]."""

    previous_text: Tensor
    previous_random: Tensor
    induction: Tensor
    duplicate: Tensor
    sink_text: Tensor
    sink_random: Tensor


def make_repeats(n_sequences: int, period: int, vocab_size: int, bos_id: int, generator: torch.Generator) -> Tensor:
    """Draw sequences of one BOS, then `period` random tokens, then the same tokens again.

    Returns:
        [n_sequences, 1 + 2 * period], int64; BOS does not occur among the random tokens.
    """
    ids = torch.randint(vocab_size - 1, (n_sequences, period), generator=generator)
    ids = ids + (ids >= bos_id)  # skip the id of BOS
    bos = torch.full((n_sequences, 1), bos_id)
    return torch.cat([bos, ids, ids], dim=1)


@torch.no_grad()
def read_patterns(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Run the model and return its attention weights, [n_layers, batch, n_heads, query, key], in float32."""
    attentions = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
    return torch.stack([pattern.float() for pattern in attentions])


def mean_at_offset(patterns: Tensor, offset: int, first_query: int) -> Tensor:
    """Mean weight from each query q >= first_query to the key q - offset.

    Args:
        patterns: [n_layers, batch, n_heads, query, key].

    Returns:
        [n_layers, n_heads].
    """
    diagonal = patterns.diagonal(offset=-offset, dim1=-2, dim2=-1)  # entry i is A[i + offset, i]
    return diagonal[..., first_query - offset :].mean(dim=(1, 3))


def share_of_key_zero(patterns: Tensor) -> Tensor:
    """Sink share alpha_0: mean A[i, 0] over the first 64 rows, [n_layers, n_heads]."""
    return patterns[..., :SINK_ROWS, 0].mean(dim=(1, 3))


def score_heads(model: PreTrainedModel, text_ids: Tensor, repeats: Tensor, period: int) -> HeadScores:
    """Score all heads on one text and on repeated random tokens.

    Args:
        model: loaded with `attn_implementation="eager"`, the only one that returns weights.
        text_ids: [batch, query], each row with BOS in front.
        repeats: [batch, 1 + 2 * period] as `make_repeats` draws them.
    """
    text = read_patterns(model, text_ids)
    random = read_patterns(model, repeats)
    first_half = random[..., : 1 + period, : 1 + period]
    second_half_starts = 1 + period
    return HeadScores(
        previous_text=mean_at_offset(text, 1, first_query=1),
        previous_random=mean_at_offset(first_half, 1, first_query=1),
        induction=mean_at_offset(random, period - 1, first_query=second_half_starts),
        duplicate=mean_at_offset(random, period, first_query=second_half_starts),
        sink_text=share_of_key_zero(text),
        sink_random=share_of_key_zero(random),
    )


def load_eager(folder: Path) -> PreTrainedModel:
    """Load a model in float32 with eager attention; fails if it ended up with another one."""
    config = AutoConfig.from_pretrained(folder)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
        use_safetensors=True,
    )
    if model.config._attn_implementation != "eager":
        raise RuntimeError(f"wanted eager attention, got {model.config._attn_implementation!r}")
    return model.eval()


def format_table(scores: HeadScores) -> str:
    """One line per head: layer, head and the six scores."""
    lines = ["layer head  prev(text) prev(rand)  induction  duplicate  sink(text) sink(rand)"]
    columns = torch.stack(list(vars(scores).values()), dim=-1)  # [n_layers, n_heads, 6]
    for layer, heads in enumerate(columns.tolist()):
        for head, values in enumerate(heads):
            lines.append(f"{layer:5d} {head:4d}  " + " ".join(f"{value:10.3f}" for value in values))
    return "\n".join(lines)


def format_best(scores: HeadScores) -> str:
    """The best head of every score, one line each."""
    lines = ["best head of each score:"]
    for name, values in vars(scores).items():
        layer, head = divmod(int(values.argmax()), values.shape[1])
        lines.append(f"  {name:16s} layer {layer} head {head}  {values[layer, head]:.3f}")
    return "\n".join(lines)


def main() -> None:
    """Command line: a model folder, a text, and how many random sequences of which period."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the model and its tokenizer")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text for the text scores")
    parser.add_argument("--period", type=int, default=64, help="period P of the repeats (64)")
    parser.add_argument("--sequences", type=int, default=16, help="how many repeats (16)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random tokens (0)")
    args = parser.parse_args()

    model = load_eager(args.folder)
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    ids = tokenizer(args.text.read_text(encoding="utf-8"), return_tensors="pt").input_ids
    ids = ids[:, : model.config.max_position_embeddings]
    repeats = make_repeats(
        args.sequences,
        args.period,
        model.config.vocab_size,
        tokenizer.bos_token_id,
        torch.Generator().manual_seed(args.seed),
    )
    scores = score_heads(model, ids, repeats, args.period)
    print(f"text: {ids.shape[1]} tokens; repeats: {args.sequences} of period {args.period}")
    print(format_table(scores))
    print(format_best(scores))


if __name__ == "__main__":
    main()
