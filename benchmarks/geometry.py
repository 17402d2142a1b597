"""The models that are measured: layer geometries with random parameters, and models from files."""

import copy
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from laminar_tui.model.load import load_model
from laminar_tui.run import BUNDLED_MODEL
from laminar_tui.source import find_source


@dataclass(frozen=True, eq=False)
class Geometry:
    """A model in float32, with what to call it in a table."""

    name: str
    model: Any
    tokenizer: Any = None

    @property
    def n_layers(self) -> int:
        """How many layers it has."""
        return int(self.model.config.num_hidden_layers)

    @property
    def n_heads(self) -> int:
        """How many query heads a layer has."""
        return int(self.model.config.num_attention_heads)

    @property
    def most_tokens(self) -> int:
        """How long a prompt it takes."""
        return int(self.model.config.max_position_embeddings)

    @property
    def title(self) -> str:
        """Name and sizes."""
        config = self.model.config
        d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        layers = "1 layer" if self.n_layers == 1 else f"{self.n_layers} layers"
        return f"{self.name} ({self.n_heads} heads × {d_head}), {layers}"

    def first_layer(self) -> "Geometry":
        """The same model cut after its first layer; the parameters are shared."""
        model = shared_copy(self.model)
        model.base_model.layers = model.base_model.layers[:1]
        model.config.num_hidden_layers = 1
        return replace(self, model=model, tokenizer=None)

    def prompt(self, n_tokens: int) -> torch.Tensor:
        """Random token ids, [1, n_tokens], the same each time."""
        n_known = int(self.model.config.vocab_size)
        return torch.randint(5, n_known, (1, n_tokens), generator=torch.Generator().manual_seed(0))


def shared_copy(model: Any) -> Any:
    """Copy a model's modules and config, not its parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def make_geometry(word: str, n_layers: int) -> Geometry:
    """Make `pythia`, or load a folder or GGUF file (all its layers)."""
    if word == "pythia":
        return Geometry("Pythia-2.8B's layers", pythia_layers(n_layers), AutoTokenizer.from_pretrained(BUNDLED_MODEL))
    source = find_source(word)
    loaded = load_model(source, dtype="float32", device="cpu")
    return Geometry(os.path.splitext(source.name)[0], loaded.model, loaded.tokenizer)  # noqa: PTH122  (a name)


def pythia_layers(n_layers: int) -> Any:
    """A few layers of Pythia-2.8B's geometry (32 heads x 80, D = 2560) with random parameters: scores spread by 1."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=2560,
        num_hidden_layers=n_layers,
        num_attention_heads=32,
        intermediate_size=10240,
        rotary_pct=0.25,
        max_position_embeddings=16384,
    )
    return GPTNeoXForCausalLM._from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()


def one_layer_of_heads(n_heads: int) -> Geometry:
    """One layer with any number of heads of 64 on a stream of 512, so that all but a little cost is the heads'."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=512,
        intermediate_size=512,
        num_hidden_layers=1,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        head_dim=64,
        max_position_embeddings=16384,
    )
    model = LlamaForCausalLM._from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()
    return Geometry("Llama's layer", model)
