"""What people and strangers' files get wrong, by name: each is answered with its exit code and at most three lines.

A case is a line of a table. Whatever it is, no traceback, nothing but printable characters on standard error,
nothing on standard output, no file left behind, and no waiting.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import BIDI, C1, ESC, HOSTILE, LINES, MARKUP, NUL_LIKE, OSC, ZERO_WIDTH, Run, names_below
from safetensors.numpy import load_file, save_file

from laminar_tui.profile.file import profile_bytes
from laminar_tui.profile.profile import Profile

USAGE, UNTRUSTED, BAD_PROFILE = 2, 3, 4
LONG = "x" * 100_000
PATIENCE = 60
"""Seconds after which a case that waits is ended: none of them has a reason to."""

Case = tuple[str, str | list[str], int]
"""Name, words, exit code. In the words, {profile}, {model}, {out} and {here} are paths, {NAME} one of those below."""


# -- profiles that are none ------------------------------------------------------------------------------------------


def _with(profile: Profile, **changes: Any) -> bytes:
    return profile_bytes(replace(profile, origin=replace(profile.origin, **changes)))


PROFILES: dict[str, Callable[[Profile, bytes], bytes]] = {
    "empty": lambda _profile, _data: b"",
    "one byte": lambda _profile, _data: b"\x00",
    "eight zeros": lambda _profile, _data: bytes(8),
    "a text": lambda _profile, _data: b"once upon a time",
    "a zip": lambda _profile, _data: b"PK\x03\x04" + bytes(100),
    "a picture": lambda _profile, _data: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "an ELF program": lambda _profile, _data: b"\x7fELF" + bytes(100),
    "half": lambda _profile, data: data[: len(data) // 2],
    "a byte less": lambda _profile, data: data[:-1],
    "a byte more": lambda _profile, data: data + b"\x00",
    "a bit turned at its end": lambda _profile, data: data[:-1] + bytes([data[-1] ^ 1]),
    "a bit turned in its header": lambda _profile, data: data[:900] + bytes([data[900] ^ 1]) + data[901:],
    "its bytes turned around": lambda _profile, data: data[::-1],
    "a huge header": lambda _profile, data: b"\xff" * 8 + data[8:],
    "no header": lambda _profile, data: bytes(8) + data[8:],
    "deep JSON": lambda _profile, _data: (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "converted line ends": lambda _profile, data: data.replace(b"\x00", b"\r\n"),
    "as text": lambda _profile, data: data.decode("latin-1").encode(),
    "twice": lambda _profile, data: data + data,
    "another version": lambda _profile, data: data.replace(b'\\\\\\"version\\\\\\":1', b'\\\\\\"version\\\\\\":7'),
    "hostile bytes": lambda _profile, _data: HOSTILE.encode("utf-8", "surrogatepass") * 20,
    "seconds that are none": lambda profile, _data: _with(profile, seconds=float("nan")),
    "a model of no name": lambda profile, _data: _with(profile, model=None),
    "a number for a token": lambda profile, _data: _with(profile, token_ids=profile.origin.token_ids[1:]),
    "versions of another type": lambda profile, _data: _with(profile, versions={"torch": 2}),
    "too many layers": lambda profile, _data: profile_bytes(
        Profile(replace(profile.origin, layer_kinds=("attention",) * 5000), (None,) * 5000)
    ),
}


# -- folders that hold no model --------------------------------------------------------------------------------------


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _write(name: str, payload: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(payload) and None


def _parameters(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        parameters = load_file(folder / "model.safetensors")
        change(parameters)
        save_file(parameters, folder / "model.safetensors", {"format": "pt"})

    return write


def _remove(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch OWNED'\ntR.")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


UP = "model.layers.1.mlp.up_proj.weight"

MODELS: dict[str, Callable[[Path], object]] = {
    "an empty folder": _empty,
    "a config that is empty": _write("config.json", b""),
    "a config that is no JSON": _write("config.json", b"{"),
    "a config that is a list": _write("config.json", b"[1, 2]"),
    "a config that is a number": _write("config.json", b"7"),
    "a config that is null": _write("config.json", b"null"),
    "a config that is no UTF-8": _write("config.json", b'{"model_type": "\xff\xfe"}'),
    "a config that is deep": _write("config.json", b"[" * 100_000),
    "a config without a type": _write("config.json", b"{}"),
    "a config of hostile text": _write("config.json", json.dumps({"model_type": HOSTILE}).encode()),
    "a config whose type is a list": _config(model_type=["llama"]),
    "a config whose type is a number": _config(model_type=7),
    "a config of an unknown type": _config(model_type="no_such_type"),
    "a config of an encoder": _config(model_type="bert", architectures=["BertForMaskedLM"]),
    "a config of an image model": _config(model_type="vit", architectures=["ViTModel"]),
    "a config of an encoder and decoder": _config(model_type="t5", architectures=["T5ForConditionalGeneration"]),
    "architectures that are hostile": _config(architectures=[HOSTILE]),
    "architectures that are a number": _config(architectures=5),
    "a width that is a word": _config(hidden_size="wide"),
    "a width below zero": _config(hidden_size=-32),
    "a width of zero": _config(hidden_size=0),
    "a width that is huge": _config(hidden_size=2**40),
    "a width that is hostile": _config(hidden_size=HOSTILE),
    "a width that does not divide": _config(hidden_size=33),
    "no heads": _config(num_attention_heads=0),
    "heads below zero": _config(num_attention_heads=-4),
    "heads that are a list": _config(num_attention_heads=[4]),
    "more key heads than heads": _config(num_key_value_heads=7),
    "no layers": _config(num_hidden_layers=0),
    "layers below zero": _config(num_hidden_layers=-2),
    "a layer more": _config(num_hidden_layers=3),
    "a billion layers": _config(num_hidden_layers=10**9),
    "layers that are a word": _config(num_hidden_layers="two"),
    "a vocabulary below zero": _config(vocab_size=-1),
    "a vocabulary that is huge": _config(vocab_size=2**45),
    "another vocabulary": _config(vocab_size=77),
    "a rotation that is a word": _config(rope_parameters="fast"),
    "an activation that is unknown": _config(hidden_act=HOSTILE),
    "a dtype that is unknown": _config(dtype=HOSTILE),
    "a quantisation that needs a library": _config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "no tokenizer": _remove("tokenizer.json"),
    "a tokenizer that is empty": _write("tokenizer.json", b""),
    "a tokenizer that is no JSON": _write("tokenizer.json", b"{" * 9),
    "a tokenizer of another kind": _write("tokenizer.json", b'{"model": {"type": "none"}}'),
    "a tokenizer of hostile text": _write("tokenizer.json", json.dumps({"model": HOSTILE}).encode()),
    "a tokenizer config that is a list": _write("tokenizer_config.json", b"[]"),
    "a tokenizer config that is no UTF-8": _write("tokenizer_config.json", b'{"a": "\xff"}'),
    "no parameters": _remove("model.safetensors"),
    "parameters of no length": _write("model.safetensors", b""),
    "parameters that are no file of them": _write("model.safetensors", b"\xff" * 500),
    "parameters with a huge header": _write("model.safetensors", b"\xff" * 7 + b"\x7f" + b"{}"),
    "parameters cut": lambda folder: os.truncate(folder / "model.safetensors", 9000),
    "parameters that are a folder": lambda folder: (
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors").mkdir(),
    ),
    "parameters in a pickle only": _only_pickle,
    "a parameter missing": _parameters(lambda each: each.pop(UP)),
    "a layer missing": _parameters(lambda each: [each.pop(name) for name in list(each) if ".layers.1." in name]),
    "all parameters missing": _parameters(lambda each: (each.clear(), each.update(other=np.zeros(3, np.float32)))),
    "a parameter of another shape": _parameters(lambda each: each.update({UP: np.zeros((3, 3), np.float32)})),
    "a parameter that is NaN": _parameters(lambda each: each[UP].flat.__setitem__(5, np.nan)),
    "a parameter that is infinite": _parameters(lambda each: each[UP].flat.__setitem__(5, -np.inf)),
    "a parameter with a hostile name": _parameters(lambda each: each.update({HOSTILE + UP: each.pop(UP)})),
    "an index that leads out of the folder": lambda folder: (
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": {UP: "../../etc/passwd"}})
        ),
    ),
    "code of its own": lambda folder: (
        _config(model_type="their_type", auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.M"})(
            folder
        ),
        (folder / "code.py").write_text("open('OWNED', 'w')"),
    ),
}

GGUFS: dict[str, bytes] = {
    "empty": b"",
    "not one": b"once upon a time",
    "its first bytes only": b"GGUF",
    "cut after its header": b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2,
    "of an unknown version": b"GGUF" + (99).to_bytes(4, "little") + bytes(16),
    "with a huge number of tensors": b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16,
    "with nothing in it": b"GGUF" + (3).to_bytes(4, "little") + bytes(16),
    "of a safetensors file": (2).to_bytes(8, "little") + b"{}",
}


# -- corpora, and folders of sweeps ----------------------------------------------------------------------------------

CORPORA: dict[str, bytes] = {
    "empty": b"",
    "blank lines": b"\n\n \n",
    "no JSON": b"once upon a time\n",
    "JSON cut": b'{"text": "a b c',
    "a list a line": b'["a", "b"]\n',
    "a number a line": b"7\n",
    "without the field": b'{"words": "a b c"}\n',
    "with fields of hostile names": json.dumps({HOSTILE: "a", LONG: "b"}).encode() + b"\n",
    "with a number for the text": b'{"text": 7}\n',
    "with a text that is null": b'{"text": null}\n',
    "with texts that are empty": b'{"text": ""}\n{"text": ""}\n',
    "no UTF-8": b'{"text": "caf\xe9"}\n',
    "deep JSON": b"[" * 100_000 + b"\n",
    "with half a surrogate pair": b'{"text": "a \\ud800 b"}\n',
}

SWEEPS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "hostile": json.dumps({"model": HOSTILE, HOSTILE: LONG}).encode(),
    "of another model": b'{"model": "other", "prompt": ""}',
    "no UTF-8": b'{"model": "\xff"}',
}


# -- the table -------------------------------------------------------------------------------------------------------


def _cases() -> Iterator[Case]:
    for name in PROFILES:
        yield f"a profile: {name}", ["show", f"{{profile: {name}}}"], BAD_PROFILE
    for name in MODELS:
        yield f"a model: {name}", ["capture", f"{{model: {name}}}", "--prompt", "ab", "-q", "-o", "{out}"], UNTRUSTED
    for name in GGUFS:
        yield f"a GGUF file: {name}", ["capture", f"{{gguf: {name}}}", "--prompt", "ab", "-q", "-o", "{out}"], UNTRUSTED
    yield "a GGUF file: of GPT-NeoX", ["capture", "{neox}", "--prompt", "ab", "-q", "-o", "{out}"], UNTRUSTED
    for name, text in {
        "ESC": ESC,
        "OSC 52": OSC,
        "C1": C1,
        "bidi": BIDI,
        "zero width": ZERO_WIDTH,
        "lines": LINES,
    }.items():
        yield f"hostile ({name}): a path", ["show", f"./{text}"], USAGE
        yield f"hostile ({name}): an option", ["show", "{profile}", f"--{text}"], USAGE
        yield f"hostile ({name}): a view", ["show", "{profile}", "--view", text], USAGE
        yield f"hostile ({name}): a device", ["capture", "{model}", "-q", "-o", "{out}", "--device", text], USAGE
    for name, text in {"markup": MARKUP, "controls": NUL_LIKE, "all": HOSTILE, "long": LONG}.items():
        yield f"hostile ({name}): a path", ["show", f"./{text}"], USAGE
        hub_id, code = f"owner/{text.replace('/', '')}", USAGE if text is LONG else UNTRUSTED
        yield f"hostile ({name}): a hub id", ["capture", hub_id, "-q", "-o", "{out}"], code
        yield f"hostile ({name}): a layer", ["show", "{profile}", "--layer", text], USAGE
        yield f"hostile ({name}): an option too many", ["show", "{profile}", text], USAGE
        yield f"hostile ({name}): a format", ["export", "{profile}", "--to", text, "-o", "{out}"], USAGE
        yield (
            f"hostile ({name}): a folder to write to",
            ["export", "{profile}", "--to", "csv", "-o", f"{text}/x"],
            USAGE,
        )
    corpus = ["capture", "{model}", "-q", "-o", "{out}", "--corpus"]
    for name in CORPORA:
        yield f"a corpus: {name}", [*corpus, f"{{corpus.jsonl: {name}}}"], USAGE
    for name in SWEEPS:
        words = ["sweep", "{here}", "--revisions", "a", "-q", "--prompt", "ab", "-o", f"{{sweep: {name}}}"]
        yield f"a sweep's folder: {name}", words, USAGE
    for name in ("half", "a text", "hostile bytes", "a huge header", "another version"):
        damaged = f"{{other: {name}}}"
        yield f"compared: {name}", ["compare", "{profile}", damaged], BAD_PROFILE
        yield f"compared, the first: {name}", ["compare", damaged, "{profile}"], BAD_PROFILE
        yield f"compared in the explorer: {name}", ["{profile}", "--compare", damaged], BAD_PROFILE
        yield f"reported: {name}", ["report", damaged], BAD_PROFILE
        yield f"a null: {name}", ["report", "{profile}", "--null", damaged], BAD_PROFILE
        yield f"swept: {name}", ["sweep", "{profile}", damaged], BAD_PROFILE
        yield f"followed: {name}", ["tail", damaged], BAD_PROFILE
        code = USAGE if name in ("a text", "hostile bytes") else BAD_PROFILE  # those are nothing at all
        yield f"a run cut off: {name}", ["show", f"{{cut.partial: {name}}}"], code
    for name, text in {"all": HOSTILE, "long": LONG, "markup": MARKUP}.items():
        yield f"hostile ({name}): a revision", ["sweep", "{model}", "--revisions", f"a,{text}", "-q"], USAGE
        yield f"hostile ({name}): a corpus", [*corpus, text], USAGE
        yield f"hostile ({name}): a field", [*corpus, "{corpus.jsonl: without the field}", "--field", text], USAGE
        yield f"hostile ({name}): a null", ["capture", "{model}", "-q", "-o", "{out}", "--null", text], USAGE
        yield f"hostile ({name}): a null of a report", ["report", "{profile}", "--null", text], USAGE
        yield f"hostile ({name}): a report's format", ["report", "{profile}", "--format", text], USAGE
        yield f"hostile ({name}): a comparison's format", ["compare", "{profile}", "{profile}", "--format", text], USAGE
        yield f"hostile ({name}): compared", ["compare", "{profile}", f"./{text}"], USAGE
        yield f"hostile ({name}): compared in the explorer", ["{profile}", "--compare", f"./{text}"], USAGE
        yield f"hostile ({name}): followed", ["tail", f"./{text}/x"], USAGE
        yield f"hostile ({name}): a log", ["show", "{profile}", "--log-file", f"./{text}/x"], USAGE
        yield f"hostile ({name}): an amount of memory", ["capture", "-q", "-o", "{out}", "--max-memory", text], USAGE
        yield f"hostile ({name}): a time to wait", ["capture", "-q", "-o", "{out}", "--timeout", text], USAGE
    yield from OTHERS


OTHERS: list[Case] = [
    # Sources.
    ("a source: nothing of that name", ["show", "./nothing"], USAGE),
    ("a source: no profile of that name", ["show", "nothing.laminar"], USAGE),
    ("a source: no GGUF file of that name", ["capture", "nothing.gguf", "-q", "-o", "{out}"], USAGE),
    ("a source: a user of no name", ["show", "~nobody-of-that-name/x"], USAGE),
    ("a source: a text file", ["show", "{text}"], USAGE),
    ("a source: a fifo", ["show", "{fifo}"], USAGE),
    ("a source: a fifo that is named like a profile", ["show", "{fifo.laminar}"], USAGE),
    ("a source: a fifo to export", ["export", "{fifo}", "--to", "csv", "-o", "{out}"], USAGE),
    ("a source: a folder to export", ["export", "{here}", "--to", "csv", "-o", "{out}"], USAGE),
    ("a source: a link to itself", ["show", "{loop}"], USAGE),
    ("a source: a link to nothing", ["show", "{dangling}"], USAGE),
    ("a source: an empty file", ["show", "{empty}"], USAGE),
    ("a source: a path below a file", ["show", "{text}/x"], USAGE),
    ("a source: dots", ["show", ".../..."], USAGE),
    ("a source: a device", ["show", "/dev/null"], USAGE),
    ("a source: a profile to capture", ["capture", "{profile}", "--prompt", "a", "-q", "-o", "{out}"], USAGE),
    ("a hub id: not in the cache", ["capture", "nobody/nothing", "-q", "-o", "{out}"], UNTRUSTED),
    ("a hub id: with a revision", ["capture", "nobody/nothing@step1", "-q", "-o", "{out}"], UNTRUSTED),
    ("a hub id: with an empty revision", ["capture", "nobody/nothing@", "-q", "-o", "{out}"], UNTRUSTED),
    ("a hub id: with blanks", ["capture", "a b/c d", "-q", "-o", "{out}"], UNTRUSTED),
    ("a hub id: of one word", ["capture", "nothing", "-q", "-o", "{out}"], UNTRUSTED),
    ("a hub id: ending with a slash", ["capture", "nobody/", "-q", "-o", "{out}"], UNTRUSTED),
    ("a hub id: a URL", ["capture", "https://example.org/a/b", "-q", "-o", "{out}"], USAGE),
    # Prompts.
    ("a prompt: empty", ["capture", "{model}", "-q", "-o", "{out}", "--prompt", ""], USAGE),
    ("a prompt: too long", ["capture", "{model}", "-q", "-o", "{out}", "--prompt", "x" * 65], USAGE),
    ("a prompt: much too long", ["capture", "{model}", "-q", "-o", "{out}", "--prompt", "x" * 100_000], USAGE),
    ("a prompt: half a surrogate pair", ["capture", "{model}", "-q", "-o", "{out}", "--prompt", "a\ud800b"], USAGE),
    ("a prompt: bytes that are no UTF-8", ["capture", "{model}", "-q", "-o", "{out}", "--prompt", "a\udcffb"], USAGE),
    ("a prompt: bytes, checked", ["check", "{model}", "-q", "--prompt", "a\udcffb"], USAGE),
    ("a prompt file: not there", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "nothing"], USAGE),
    ("a prompt file: a folder", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "{here}"], USAGE),
    ("a prompt file: a fifo", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "{fifo}"], USAGE),
    ("a prompt file: a device", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "/dev/null"], USAGE),
    ("a prompt file: empty", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "{empty}"], USAGE),
    ("a prompt file: no UTF-8", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "{latin}"], USAGE),
    ("a prompt file: a profile", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "{profile}"], USAGE),
    ("a prompt file: a link to itself", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "{loop}"], USAGE),
    ("a prompt file: huge", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", "{huge}"], USAGE),
    ("a prompt file: a hostile name", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", HOSTILE], USAGE),
    ("a prompt file: a long name", ["capture", "{model}", "-q", "-o", "{out}", "--prompt-file", LONG], USAGE),
    ("a prompt: and a file", ["capture", "{model}", "-o", "{out}", "--prompt", "a", "--prompt-file", "{text}"], USAGE),
    # Options of a run.
    ("a run: to nowhere", ["capture", "{model}", "--prompt", "a"], USAGE),
    ("a run: into a folder that is not there", ["capture", "{model}", "-q", "-o", "no/x.laminar"], USAGE),
    ("a run: into a folder", ["capture", "{model}", "-q", "--prompt", "a", "-o", "{here}"], USAGE),
    ("a run: into a fifo", ["capture", "{model}", "-q", "--prompt", "a", "-o", "{fifo}"], USAGE),
    ("a run: into a link", ["capture", "{model}", "-q", "--prompt", "a", "-o", "{dangling}"], USAGE),
    ("a run: an unknown dtype", ["capture", "{model}", "-q", "-o", "{out}", "--dtype", "float8"], USAGE),
    ("a run: an unknown device", ["capture", "{model}", "-q", "-o", "{out}", "--device", "abacus"], USAGE),
    ("a run: a device without numbers", ["capture", "{model}", "-q", "-o", "{out}", "--device", "meta"], USAGE),
    ("a run: a device of a number", ["capture", "{model}", "-q", "-o", "{out}", "--device", "cuda:9999"], USAGE),
    ("a run: a device of no name", ["capture", "{model}", "-q", "-o", "{out}", "--device", ":"], USAGE),
    ("a run: an unknown device map", ["capture", "{model}", "-q", "-o", "{out}", "--device-map", "all"], UNTRUSTED),
    ("a run: a hostile device map", ["capture", "{model}", "-q", "-o", "{out}", "--device-map", HOSTILE], UNTRUSTED),
    ("a run: an unknown recipe", ["capture", "{model}", "-q", "-o", "{out}", "--recipe", "pie"], USAGE),
    ("a run: no tokens", ["capture", "{model}", "-q", "-o", "{out}", "--max-tokens", "0"], USAGE),
    ("a run: tokens below zero", ["capture", "{model}", "-q", "-o", "{out}", "--max-tokens", "-3"], USAGE),
    ("a run: tokens in words", ["capture", "{model}", "-q", "-o", "{out}", "--max-tokens", "many"], USAGE),
    ("a run: an option without its value", ["capture", "{model}", "-q", "-o"], USAGE),
    # Places and looks.
    ("a layer: beyond", ["show", "{profile}", "--layer", "4"], USAGE),
    ("a layer: below zero", ["show", "{profile}", "--layer", "-1"], USAGE),
    ("a layer: huge", ["show", "{profile}", "--layer", "9" * 40], USAGE),
    ("a layer: without attention", ["show", "{profile}", "--layer", "1"], USAGE),
    ("a layer: NaN", ["show", "{profile}", "--layer", "nan"], USAGE),
    ("a layer: with more digits than Python reads", ["show", "{profile}", "--layer", "9" * 5000], USAGE),
    ("a head: beyond", ["show", "{profile}", "--layer", "2", "--head", "2"], USAGE),
    ("a head: below zero", ["show", "{profile}", "--layer", "0", "--head", "-1"], USAGE),
    ("a head: without a layer", ["show", "{profile}", "--head", "0"], USAGE),
    ("a width: huge", ["show", "{profile}", "--width", "1000000000"], USAGE),
    ("a width: below zero", ["show", "{profile}", "--width", "-5"], USAGE),
    ("a width: infinite", ["show", "{profile}", "--width", "inf"], USAGE),
    ("a height: huge", ["show", "{profile}", "--height", "1000000000"], USAGE),
    ("a height: below zero", ["show", "{profile}", "--height", "-5"], USAGE),
    ("a height: in words", ["show", "{profile}", "--height", "tall"], USAGE),
    ("a look: an unknown population", ["show", "{profile}", "--population", "people"], USAGE),
    ("a look: an unknown sink", ["show", "{profile}", "--sink", "kitchen"], USAGE),
    ("a look: an unknown estimator", ["show", "{profile}", "--estimator", "guess"], USAGE),
    ("a look: an unknown colour map", ["show", "{profile}", "--color-map", "rainbow"], USAGE),
    ("a look: an unknown depth", ["show", "{profile}", "--color", "deep"], USAGE),
    ("a look: an unknown view", ["show", "{profile}", "--view", "sea"], USAGE),
    ("a look: an empty view", ["show", "{profile}", "--view", "~"], USAGE),
    # Exports.
    ("an export: an unknown format", ["export", "{profile}", "--to", "xls", "-o", "{out}"], USAGE),
    ("an export: no points", ["export", "{profile}", "--to", "npz", "-o", "{out}", "--n-grid", "0"], USAGE),
    ("an export: points below zero", ["export", "{profile}", "--to", "npz", "-o", "{out}", "--n-grid", "-1"], USAGE),
    ("an export: too many points", ["export", "{profile}", "--to", "npz", "-o", "{out}", "--n-grid", "9" * 12], USAGE),
    ("an export: points that are NaN", ["export", "{profile}", "--to", "npz", "-o", "{out}", "--n-grid", "nan"], USAGE),
    ("an export: a layer beyond", ["export", "{profile}", "--to", "svg", "-o", "{out}", "--layer", "99"], USAGE),
    (
        "an export: an unknown estimator",
        ["export", "{profile}", "--to", "csv", "-o", "{out}", "--estimator", "x"],
        USAGE,
    ),
    ("an export: no file", ["export", "{profile}", "--to", "csv"], USAGE),
    ("an export: into a fifo", ["export", "{profile}", "--to", "csv", "-o", "{fifo}"], USAGE),
    ("an export: into a folder", ["export", "{profile}", "--to", "csv", "-o", "{here}"], USAGE),
    ("an export: into a folder that is not there", ["export", "{profile}", "--to", "csv", "-o", "no/x.csv"], USAGE),
    ("an export: of nothing", ["export", "{unread}", "--to", "csv", "-o", "{out}"], USAGE),
    ("an export: with a NUL in its name", ["export", "{profile}", "--to", "csv", "-o", "a\x00b"], USAGE),
    ("an export: with a long name", ["export", "{profile}", "--to", "csv", "-o", "y" * 300], USAGE),
    ("an export: with bytes in its name", ["export", "{profile}", "--to", "csv", "-o", "no\udcff/x"], USAGE),
    # Corpora.
    ("a corpus: not there", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "./nothing"], USAGE),
    ("a corpus: of no name", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", ""], USAGE),
    ("a corpus: a folder with nothing in it", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "{here}"], USAGE),
    ("a corpus: a fifo", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "{fifo}"], USAGE),
    ("a corpus: a link to itself", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "{loop}"], USAGE),
    ("a corpus: a link to nothing", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "{dangling}"], USAGE),
    ("a corpus: a text that is no UTF-8", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "{latin}"], USAGE),
    ("a corpus: a device", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "/dev/null"], USAGE),
    ("a corpus: a profile", ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "{profile}"], USAGE),
    ("a corpus: and a prompt", ["capture", "{model}", "-o", "{out}", "--corpus", "{text}", "--prompt", "a"], USAGE),
    ("a corpus: to standard output", ["capture", "{model}", "-o", "-", "--corpus", "{text}"], USAGE),
    ("a corpus: to nowhere", ["capture", "{model}", "--json", "--corpus", "{text}"], USAGE),
    ("a corpus: no windows", ["capture", "{model}", "-o", "{out}", "--corpus", "{text}", "--limit", "0"], USAGE),
    (
        "a corpus: windows in words",
        ["capture", "{model}", "-o", "{out}", "--corpus", "{text}", "--limit", "few"],
        USAGE,
    ),
    (
        "a corpus: windows of no token",
        ["capture", "{model}", "-o", "{out}", "--corpus", "{text}", "--max-tokens", "0"],
        USAGE,
    ),
    *(
        (
            f"a corpus: kept every {text} seconds",
            ["capture", "{model}", "-q", "-o", "{out}", "--corpus", "{text}", "--save-every", text],
            USAGE,
        )
        for text in ("nan", "-1", "inf", "often")
    ),
    ("a corpus: to resume none", ["capture", "{model}", "-q", "-o", "{out}", "--resume"], USAGE),
    ("a corpus: a field of none", ["capture", "{model}", "-q", "-o", "{out}", "--field", "text"], USAGE),
    ("a corpus: a limit of none", ["capture", "{model}", "-q", "-o", "{out}", "--limit", "3"], USAGE),
    # Nulls, roles and memory.
    ("a null: unknown", ["capture", "{model}", "-q", "-o", "{out}", "--null", "zero", "--prompt", "ab"], USAGE),
    (
        "a null: with a recipe",
        ["capture", "{model}", "-q", "-o", "{out}", "--prompt", "ab", "--null", "random", "--recipe", "content"],
        USAGE,
    ),
    (
        "a null: shuffled, of one token",
        ["capture", "{model}", "-q", "-o", "{out}", "--null", "shuffled", "--prompt", ""],
        USAGE,
    ),
    ("a null: random, of a profile", ["report", "{profile}", "--null", "random"], USAGE),
    ("a null: a profile that is not there", ["report", "{profile}", "--null", "./no.laminar"], USAGE),
    ("roles: of a profile", ["report", "{profile}", "--roles"], USAGE),
    *(
        (f"memory: {text or 'none'}", ["capture", "{model}", "-q", "-o", "{out}", "--max-memory", text], USAGE)
        for text in ("0", "-1GB", "8 apples", "nan", "inf", "1e9", "9" * 40, "GB", "1..5GB", " ")
    ),
    (
        "memory: less than the model takes",
        ["capture", "{model}", "-q", "-o", "{out}", "--prompt", "ab", "--max-memory", "1kB"],
        USAGE,
    ),
    *(
        (f"a time to wait: {text}", ["capture", "{model}", "-q", "-o", "{out}", "--timeout", text], USAGE)
        for text in ("0", "-1", "nan", "inf", "1e9", "soon")
    ),
    # The log.
    ("a log: into a folder", ["show", "{profile}", "--log-file", "{here}"], USAGE),
    ("a log: into a fifo", ["show", "{profile}", "--log-file", "{fifo}"], USAGE),
    ("a log: into a link", ["show", "{profile}", "--log-file", "{dangling}"], USAGE),
    ("a log: into a folder that is not there", ["tail", "{profile}", "--log-file", "no/x.log"], USAGE),
    ("a log: on a device", ["sweep", "{profile}", "--log-file", "/dev/null"], USAGE),
    ("a log: with a NUL in its name", ["check", "{model}", "--log-file", "a\x00b"], USAGE),
    ("a log: with a long name", ["capture", "{model}", "-q", "-o", "{out}", "--log-file", "y" * 300], USAGE),
    ("a log: of a user of no name", ["show", "{profile}", "--log-file", "~nobody-of-that-name/x"], USAGE),
    # Following.
    ("followed: in a folder that is not there", ["tail", "no/x.laminar"], USAGE),
    ("followed: a folder", ["tail", "{here}"], USAGE),
    ("followed: a fifo", ["tail", "{fifo}"], USAGE),
    ("followed: a device", ["tail", "/dev/null"], USAGE),
    ("followed: with a NUL in its name", ["tail", "a\x00b"], USAGE),
    ("followed: below a file", ["tail", "{text}/x"], USAGE),
    ("followed: nothing", ["tail"], USAGE),
    ("followed: a text file", ["tail", "{text}"], BAD_PROFILE),
    ("followed: an empty file", ["tail", "{empty}"], BAD_PROFILE),
    # Reports and comparisons.
    ("a report: an unknown format", ["report", "{profile}", "--format", "pdf"], USAGE),
    ("a report: into a folder that is not there", ["report", "{profile}", "-o", "no/x.md"], USAGE),
    ("a report: into a fifo", ["report", "{profile}", "-o", "{fifo}"], USAGE),
    ("a report: into a folder", ["report", "{profile}", "-o", "{here}"], USAGE),
    ("a report: of nothing", ["report", "{unread}"], USAGE),
    ("a report: of what is not there", ["report", "./nothing"], USAGE),
    ("a comparison: with one file", ["compare", "{profile}"], USAGE),
    ("a comparison: with a model", ["compare", "{profile}", "{model}"], USAGE),
    ("a comparison: with a folder", ["compare", "{here}", "{profile}"], USAGE),
    ("a comparison: with a fifo", ["compare", "{profile}", "{fifo}"], USAGE),
    (
        "a comparison: an unknown population",
        ["compare", "{profile}", "{profile}", "--population", "all of them"],
        USAGE,
    ),
    ("a comparison: an unknown sink", ["compare", "{profile}", "{profile}", "--sink", "kitchen"], USAGE),
    ("a comparison: in the explorer, with a fifo", ["{profile}", "--compare", "{fifo}"], USAGE),
    ("a comparison: in the explorer, without a terminal", ["{profile}", "--compare", "{profile}"], USAGE),
    # Sweeps.
    ("a sweep: of nothing", ["sweep"], USAGE),
    ("a sweep: of a model without revisions", ["sweep", "{model}"], USAGE),
    ("a sweep: of a profile's revisions", ["sweep", "{profile}", "--revisions", "a,b"], USAGE),
    ("a sweep: of two models", ["sweep", "{model}", "nobody/nothing", "--revisions", "a"], USAGE),
    ("a sweep: no revisions", ["sweep", "{model}", "--revisions", " , ,"], USAGE),
    ("a sweep: a revision that is no folder", ["sweep", "{model}", "--revisions", "step1", "-q"], USAGE),
    ("a sweep: a revision that leads out", ["sweep", "{model}", "--revisions", "../../etc", "-q"], USAGE),
    ("a sweep: revisions and one", ["sweep", "{model}", "--revisions", "a", "--revision", "b"], USAGE),
    ("a sweep: revisions of a file", ["sweep", "{text}", "--revisions", "a", "-q"], USAGE),
    ("a sweep: into a file", ["sweep", "{here}", "--revisions", "a", "-q", "-o", "{text}"], USAGE),
    ("a sweep: a head without a layer", ["sweep", "{profile}", "--head", "0"], USAGE),
    ("a sweep: a layer beyond", ["sweep", "{profile}", "--layer", "9"], USAGE),
    ("a sweep: a layer without attention", ["sweep", "{profile}", "--layer", "1"], USAGE),
    ("a sweep: a head beyond", ["sweep", "{profile}", "--layer", "2", "--head", "9"], USAGE),
    ("a sweep: an unknown estimator", ["sweep", "{profile}", "--estimator", "guess"], USAGE),
    ("a sweep: a fifo", ["sweep", "{profile}", "{fifo}"], USAGE),
    ("a command: with too many words", ["show", "{profile}", "{profile}"], USAGE),
    ("a command: that is none", ["explode", "{profile}"], USAGE),
    ("a name with a NUL", ["show", "a\x00b"], USAGE),
]

CASES = {name: (words, code) for name, words, code in _cases()}


def test_there_are_enough_of_them_and_no_two_of_one_name() -> None:
    assert len(CASES) == len(list(_cases())) >= 150


# -- what every case gets --------------------------------------------------------------------------------------------


@pytest.fixture
def ground(
    tmp_path: Path, small_profile: Profile, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], str]]:
    """Makes what a case names, in an empty folder that is the working one; ends a case that waits."""
    made = tmp_path / "made"
    here = tmp_path / "here"
    made.mkdir(), here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(made / "cache"))

    def end(*_: object) -> None:
        raise AssertionError(f"it has waited for {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE)

    def make(word: str) -> str:
        if not (word.startswith("{") and "}" in word):
            return word
        name, rest = word[1:].split("}")
        kind, _, which = name.partition(": ")
        return str(_make(kind, which, made, here, small_profile, model_folder)) + rest

    yield make
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _make(kind: str, which: str, made: Path, here: Path, profile: Profile, model: Path) -> Path:
    """Make a file or a folder by name."""
    if kind in ("here", "out"):
        return here if kind == "here" else here / "out"
    path = made / (kind if "." in kind else f"{kind}.{'gguf' if kind in ('gguf', 'neox') else 'laminar'}")
    if kind == "profile":
        data = profile_bytes(profile)
        path.write_bytes(PROFILES[which](profile, data) if which else data)
    elif kind in ("other", "cut.partial"):
        path = made / f"{kind.replace('other', 'other.laminar')}"
        path.write_bytes(PROFILES[which](profile, profile_bytes(profile)))
    elif kind == "corpus.jsonl":
        path.write_bytes(CORPORA[which])
    elif kind == "sweep":
        path = made / "sweep"
        path.mkdir()
        (here / "a").mkdir()
        (path / "sweep.json").write_bytes(SWEEPS[which])
    elif kind == "unread":
        Profile(profile.origin, (None,) * profile.n_layers).save(path)
    elif kind == "model":
        path = Path(shutil.copytree(model, made / "some-model"))
        if which:
            MODELS[which](path)
    elif kind == "gguf":
        path.write_bytes(GGUFS[which])
    elif kind == "neox":
        _write_neox(path)
    elif kind.startswith("fifo"):
        path = made / kind
        os.mkfifo(path)
    else:
        path = made / kind
        _SPECIAL[kind](path)
    return path


_SPECIAL: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("once upon a time"),
    "empty": lambda path: path.write_bytes(b""),
    "latin": lambda path: path.write_bytes(b"caf\xe9 \xff\xfe"),
    "huge": lambda path: (path.touch(), os.truncate(path, 2**40)),
    "loop": lambda path: path.symlink_to(path),
    "dangling": lambda path: path.symlink_to("nowhere"),
}


def _write_neox(path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "gptneox")
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def assert_answered(result: tuple[int, bytes, bytes], code: int) -> None:
    """The exit code, at most three lines on standard error, printable all of them, and nothing else."""
    found, out, err = result
    text = err.decode("utf-8")
    assert "Traceback" not in text, text
    assert found == code, text
    assert out == b""
    assert 1 <= len(text.splitlines()) <= 3, text
    assert text.startswith("laminar-tui"), text
    assert max(map(len, text.splitlines())) < 700, "nobody reads more"
    hidden = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}
    assert not hidden, hidden


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")  # libraries warn of what they are about to refuse
def test_it_is_answered(name: str, command: Run, ground: Callable[[str], str], tmp_path: Path) -> None:
    words, code = CASES[name]
    made = [ground(word) for word in words]
    before = names_below(tmp_path)
    assert_answered(command(*made), code)
    left = {each for each in names_below(tmp_path) - before if not each.startswith("made/cache")}
    assert left == set(), "something was left behind"


AS_PROCESS = [
    "hostile (all): a path",
    "hostile (all): an option too many",
    "a prompt file: a fifo",
    "a profile: hostile bytes",
    "a prompt: bytes that are no UTF-8",
]


@pytest.mark.parametrize("name", AS_PROCESS)
@pytest.mark.parametrize("language", ["C.UTF-8", "C"])
def test_it_is_answered_by_the_program(name: str, language: str, ground: Callable[[str], str], tmp_path: Path) -> None:
    words, code = CASES[name]
    done = subprocess.run(
        [sys.executable, "-m", "laminar_tui", *(os.fsencode(ground(word)) for word in words)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "LC_ALL": language, "HOME": str(tmp_path)},
    )
    assert_answered((done.returncode, done.stdout, done.stderr), code)


@pytest.mark.parametrize("payload", [b"\xff\xfe not text", b""], ids=["bytes", "none"])
def test_a_prompt_from_a_pipe_is_answered(payload: bytes, ground: Callable[[str], str], tmp_path: Path) -> None:
    words = ["capture", ground("{model}"), "-q", "-o", "-", "--prompt", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "laminar_tui", *words],
        input=payload,
        capture_output=True,
        timeout=60,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
    )
    assert_answered((done.returncode, done.stdout, done.stderr), USAGE)
