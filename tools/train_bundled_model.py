"""Train the small GPT-NeoX model that is shipped in laminar_tui/assets/model.

It is small enough for a package, has the architecture of the Pythia models (parallel residual, partial rotary
embedding, fused query_key_value; only its embeddings are tied, unlike Pythia's), and has attention heads worth
looking at: text teaches it English, and sequences of random tokens that repeat teach it to copy, which needs a
previous-token head and an induction head (Olsson et al., arXiv 2209.11895).

The texts are in the public domain and come from two Debian packages; neither has to be installed:

    apt-get download r-cran-janeaustenr bible-kjv bible-kjv-text
    for package in *.deb; do dpkg-deb -x "$package" unpacked; done
    unpacked/usr/bin/bible -p unpacked/usr/lib -f "gen1:1-rev22:21" > kjv.txt
    python tools/train_bundled_model.py \
        --austen unpacked/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb --kjv kjv.txt

The six novels of Jane Austen (died 1817) are read straight from the R package's data file, so no R is needed.
Runs are seeded; still, sums in bfloat16 need not agree to the last bit between processors or library versions.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from measure_heads import format_best, load_eager, make_repeats, score_heads
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

BOS = "<|bos|>"
BOS_ID = 0
IGNORED = -100  # label that the loss of transformers leaves out

N_LAYERS = 6
N_HEADS = 8
HIDDEN_SIZE = 256
INTERMEDIATE_SIZE = 768  # 3 x hidden instead of Pythia's 4 x: keeps the float16 file below 10 MB
MAX_POSITIONS = 1024
HELD_OUT_SHARE = 0.02

FIRST_ROW = 64  # the first steps learn to copy, and do so much sooner from short rows with short periods
SHORT_ROW = 256
LONG_ROW = 1024
LONG_EVERY = 5  # every fifth batch has long rows, so that all positions up to 1024 are trained
SHORTEST_PERIOD = 4
LONGEST_PERIOD = 256

R_HEADER = b"X\n"  # R's binary serialization, big-endian
R_STRING_VECTOR = 16
R_STRING = 9

Loss = float


# --- texts ----------------------------------------------------------------------------------------


def read_r_records(path: Path) -> Iterator[bytes]:
    """Yield the objects of an R lazy-load data file, uncompressed but still serialized.

    Each record is the uncompressed length as four big-endian bytes, then a zlib stream.
    """
    rest = path.read_bytes()
    while rest:
        stream = zlib.decompressobj()
        yield stream.decompress(rest[4:])
        rest = stream.unused_data


def parse_r_strings(record: bytes) -> list[str]:
    """Parse one serialized R character vector (serialization version 3)."""
    if not record.startswith(R_HEADER):
        raise ValueError("not an R object in big-endian binary form")
    position = len(R_HEADER) + 12  # the header is followed by three version numbers
    (encoding_length,) = struct.unpack_from(">i", record, position)
    position += 4 + encoding_length
    flags, n_strings = struct.unpack_from(">ii", record, position)
    if flags & 0xFF != R_STRING_VECTOR:
        raise ValueError(f"R object of type {flags & 0xFF}, not a character vector")
    position += 8
    strings = []
    for _ in range(n_strings):
        flags, length = struct.unpack_from(">ii", record, position)
        if flags & 0xFF != R_STRING:
            raise ValueError(f"R object of type {flags & 0xFF} inside a character vector")
        position += 8
        strings.append(record[position : position + length].decode("utf-8"))
        position += length
    return strings


def join_paragraphs(lines: list[str]) -> str:
    """Undo the line breaks inside paragraphs; paragraphs stay apart by one empty line."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(line.strip() for line in lines))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def read_austen(path: Path) -> list[str]:
    """Read the novels from the data file of the R package janeaustenr, one string per novel."""
    return [join_paragraphs(parse_r_strings(record)) for record in read_r_records(path)]


def read_kjv(path: Path) -> list[str]:
    """Read the output of `bible -f`, one verse per line; chapters become paragraphs, one string in all."""
    chapters: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        reference, verse = line.split(" ", 1)
        chapters.setdefault(reference.split(":")[0], []).append(verse.strip())
    return ["\n\n".join(" ".join(verses) for verses in chapters.values())]


def split_held_out(documents: list[str]) -> tuple[list[str], list[str]]:
    """Cut the last two per cent of every document off for the validation loss."""
    cuts = [round(len(document) * (1 - HELD_OUT_SHARE)) for document in documents]
    train = [document[:cut] for document, cut in zip(documents, cuts, strict=True)]
    held_out = [document[cut:] for document, cut in zip(documents, cuts, strict=True)]
    return train, held_out


# --- tokenizer ------------------------------------------------------------------------------------


def train_tokenizer(documents: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE that puts BOS in front by itself and can spell any UTF-8 text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> Tensor:
    """Encode documents without BOS into one long row of ids, [n_tokens]."""
    # verbose=False: the documents are longer than the model's longest input, and that is meant.
    rows = tokenizer(documents, add_special_tokens=False, verbose=False).input_ids
    return torch.tensor([token for row in rows for token in row])


# --- batches --------------------------------------------------------------------------------------


def draw_text_row(tokens: Tensor, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut a random piece of text and put BOS in front; every token is a label."""
    start = int(torch.randint(len(tokens) - length, (1,), generator=generator))
    row = torch.cat([torch.tensor([BOS_ID]), tokens[start : start + length - 1]])
    return row, row


def draw_period(longest: int, generator: torch.Generator) -> int:
    """Draw a period, uniform on a logarithmic scale, because copying is learned from short periods first."""
    fraction = torch.rand(1, generator=generator).item()
    return round(SHORTEST_PERIOD * (longest / SHORTEST_PERIOD) ** fraction)


def draw_repeat_row(vocab_size: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw random tokens repeated with a random period.

    Only what can be known is a label: the first period is noise, and so is the first token of the second, because
    nothing says that the repetition begins there.
    """
    period = draw_period(min(LONGEST_PERIOD, (length - 2) // 2), generator)
    once = make_repeats(1, period, vocab_size, BOS_ID, generator)[0, : 1 + period]
    n_times = math.ceil((length - 1) / period)
    row = torch.cat([once[:1], once[1:].repeat(n_times)])[:length]
    labels = row.clone()
    labels[: period + 2] = IGNORED
    return row, labels


@dataclass(frozen=True, eq=False)
class Mixture:
    """What batches are drawn from: the training text and the share of repeats over time."""

    tokens: Tensor  # [n_tokens]
    vocab_size: int
    tokens_per_batch: int
    copy_steps: int  # so many steps on short repeats alone
    decay_steps: int  # then the share of repeats falls from first_share to last_share in so many
    first_share: float
    last_share: float

    def repeat_share(self, step: int) -> float:
        """Share of rows that are repeats: high first, until the induction head has formed, then lower."""
        if step < self.copy_steps:
            return 1.0
        progress = min(1.0, (step - self.copy_steps) / self.decay_steps)
        return self.first_share + (self.last_share - self.first_share) * progress

    def row_length(self, step: int) -> int:
        """Tokens per row in this step, BOS included."""
        if step < self.copy_steps:
            return FIRST_ROW
        return LONG_ROW if step % LONG_EVERY == LONG_EVERY - 1 else SHORT_ROW

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the ids and labels of one batch, both [batch, length]."""
        length = self.row_length(step)
        rows = []
        for _ in range(self.tokens_per_batch // length):
            is_repeat = float(torch.rand(1, generator=generator)) < self.repeat_share(step)
            if is_repeat:
                rows.append(draw_repeat_row(self.vocab_size, length, generator))
            else:
                rows.append(draw_text_row(self.tokens, length, generator))
        ids, labels = zip(*rows, strict=True)
        return torch.stack(ids), torch.stack(labels)


# --- model ----------------------------------------------------------------------------------------


def make_model(vocab_size: int) -> GPTNeoXForCausalLM:
    """Build the model with random parameters, shaped like a small Pythia."""
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        intermediate_size=INTERMEDIATE_SIZE,
        max_position_embeddings=MAX_POSITIONS,
        rotary_pct=0.25,
        use_parallel_residual=True,
        tie_word_embeddings=True,  # untied, copying was not learned in 1,000 steps
        bos_token_id=BOS_ID,
        eos_token_id=None,
        attn_implementation="sdpa",
    )
    return GPTNeoXForCausalLM(config)


def make_optimizer(model: GPTNeoXForCausalLM, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: decaying biases and norms does harm and saves nothing."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


def learning_rate_factor(step: int, n_steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to two per cent."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, n_steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def evaluate_text(model: GPTNeoXForCausalLM, tokens: Tensor) -> Loss:
    """Mean loss in nats per token on the held-out text, in rows of 256 with BOS in front."""
    model.eval()
    n_rows = len(tokens) // (SHORT_ROW - 1)
    rows = tokens[: n_rows * (SHORT_ROW - 1)].view(n_rows, SHORT_ROW - 1)
    rows = torch.cat([torch.full((n_rows, 1), BOS_ID), rows], dim=1)
    losses = [model(input_ids=chunk, labels=chunk).loss * len(chunk) for chunk in torch.split(rows, 16)]
    model.train()
    return float(torch.stack(losses).sum()) / n_rows


@torch.no_grad()
def evaluate_repeats(model: GPTNeoXForCausalLM, vocab_size: int) -> Loss:
    """Mean loss in nats per token on what can be known of repeated random tokens."""
    model.eval()
    generator = torch.Generator().manual_seed(1)
    rows = [draw_repeat_row(vocab_size, SHORT_ROW, generator) for _ in range(16)]
    ids, labels = (torch.stack(column) for column in zip(*rows, strict=True))
    loss = float(model(input_ids=ids, labels=labels).loss)
    model.train()
    return loss


# --- files ----------------------------------------------------------------------------------------


def save_model(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in float16 with its tokenizer, free of anything about this run or machine."""
    copy = GPTNeoXForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        clean_json(folder / name)


def clean_json(path: Path) -> None:
    """Remove what other versions of transformers stumble over.

    Keys that begin with an underscore are private; `_attn_implementation` in a config would even override the
    caller's choice without a warning. The generic tokenizer class has had one name up to version 4 and another one
    since; the old name is understood by both.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content.items() if not key.startswith("_")}
    if "tokenizer_class" in kept:
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def report_heads(folder: Path, held_out: Tensor, vocab_size: int) -> str:
    """Score the saved model's heads on held-out text and on repeats."""
    period = 64
    bos = torch.full((8, 1), BOS_ID)
    text = torch.cat([bos, held_out[: 8 * (SHORT_ROW - 1)].view(8, SHORT_ROW - 1)], dim=1)
    repeats = make_repeats(16, period, vocab_size, BOS_ID, torch.Generator().manual_seed(0))
    return format_best(score_heads(load_eager(folder), text, repeats, period))


# --- training -------------------------------------------------------------------------------------


def train_step(model: GPTNeoXForCausalLM, optimizer: torch.optim.Optimizer, ids: Tensor, labels: Tensor) -> Loss:
    """One step in bfloat16 (parameters stay float32); gradients are clipped to norm 1."""
    with torch.autocast("cpu", torch.bfloat16):
        loss: Tensor = model(input_ids=ids, labels=labels, use_cache=False).loss
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


@dataclass(frozen=True, eq=False)
class Corpus:
    """The tokenizer and what it made of the texts."""

    tokenizer: PreTrainedTokenizerFast
    tokens: Tensor  # [n_tokens], to train on
    held_out: Tensor  # [n_tokens], for the validation loss


def read_corpus(austen: Path, kjv: Path, vocab_size: int) -> Corpus:
    """Read the texts, hold some out, train the tokenizer on the rest and encode both."""
    train_text, held_out_text = split_held_out(read_austen(austen) + read_kjv(kjv))
    tokenizer = train_tokenizer(train_text, vocab_size)
    corpus = Corpus(tokenizer, encode(tokenizer, train_text), encode(tokenizer, held_out_text))
    print(f"{len(corpus.tokens):,} tokens to train on, {len(corpus.held_out):,} held out", flush=True)
    return corpus


def make_mixture(args: argparse.Namespace, tokens: Tensor) -> Mixture:
    """The mixture that the command line describes."""
    return Mixture(
        tokens=tokens,
        vocab_size=args.vocab_size,
        tokens_per_batch=args.batch_tokens,
        copy_steps=args.copy_steps,
        decay_steps=args.decay_steps,
        first_share=args.first_share,
        last_share=args.last_share,
    )


def train(args: argparse.Namespace) -> None:
    """Read the texts, train, and keep the parameters with the lowest held-out text loss."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    corpus = read_corpus(args.austen, args.kjv, args.vocab_size)
    mixture = make_mixture(args, corpus.tokens)
    model = make_model(args.vocab_size)
    optimizer = make_optimizer(model, args.lr, args.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, args.steps, args.warmup)
    )
    best = math.inf
    started = time.perf_counter()
    for step in range(args.steps):
        train_step(model, optimizer, *mixture.draw(step, generator))
        schedule.step()
        if (step + 1) % args.evaluate_every and step + 1 != args.steps:
            continue
        text_loss = evaluate_text(model, corpus.held_out)
        repeat_loss = evaluate_repeats(model, args.vocab_size)
        seconds = time.perf_counter() - started
        losses = f"text {text_loss:.4f}, repeats {repeat_loss:.4f} nats per token"
        print(f"step {step + 1}: {losses}, {seconds:.0f} s", flush=True)
        if text_loss < best:
            best = text_loss
            save_model(model, corpus.tokenizer, args.output)
            print(report_heads(args.output, corpus.held_out, args.vocab_size), flush=True)


def parse_arguments() -> argparse.Namespace:
    """The defaults are those of the bundled model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--austen", type=Path, required=True, help="Rdata.rdb of janeaustenr")
    parser.add_argument("--kjv", type=Path, required=True, help="output of bible -f")
    parser.add_argument("--output", type=Path, default=Path("laminar_tui/assets/model"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--copy-steps", type=int, default=400, help="steps on short repeats alone")
    parser.add_argument("--decay-steps", type=int, default=600, help="steps in which their share falls")
    parser.add_argument("--first-share", type=float, default=0.5, help="share of repeats after the first steps")
    parser.add_argument("--last-share", type=float, default=0.15, help="share of repeats in the end")
    parser.add_argument("--evaluate-every", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    train(parse_arguments())
