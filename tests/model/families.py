"""A tiny model with random parameters of every type in transformers' causal-LM table that a small config can build.

The list of families is transformers' own. Sizes come from one table for all of them, of which a family takes the fields
that its config has; `EXTRA` holds what a family needs beyond that.
"""

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

MAX_PARAMETERS = 30_000_000
VOCABULARY = 64
WINDOW = 8
"""Windows, chunks and the number of keys a sparse index keeps: below the length of every prompt of the tests."""
HEADS, KV_HEADS, HEAD, HIDDEN, INNER = 4, 2, 8, 32, 48

SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("unpadded_vocab_size", "pronunciation_vocab_size", "shape_vocab_size"), VOCABULARY),
    **dict.fromkeys(("encoder_hash_byte_group_vocab",), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "emb_dim", "embedding_dim", "embedding_size"), HIDDEN),
    **dict.fromkeys(("input_embedding_size", "output_embedding_size", "word_embed_proj_dim", "lru_width"), HIDDEN),
    **dict.fromkeys(("pronunciation_embed_dim", "shape_embed_dim", "hidden_size_global"), HIDDEN),
    **dict.fromkeys(("adapter_in_dim", "adapter_out_dim", "adapter_input_size"), HIDDEN),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "swa_num_attention_heads"), HEADS),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), KV_HEADS),
    **dict.fromkeys(("head_dim", "global_head_dim", "swa_head_dim", "d_head", "dim_head", "kv_channels"), HEAD),
    **dict.fromkeys(("attention_head_size",), HEAD),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "ffn_dim", "dff", "dim_ff", "d_inner"), INNER),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size", "feed_forward_size"), INNER),
    **dict.fromkeys(("intermediate_size_mlp", "dense_intermediate_size", "shared_intermediate_size"), INNER),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "context_length"), 64),
    **dict.fromkeys(("max_source_positions", "max_target_positions", "model_max_length"), 64),
    **dict.fromkeys(("original_max_position_embeddings",), 64),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    **dict.fromkeys(("is_decoder", "causal"), True),
    # what an attention score goes through: far from d^-0.5, and a cap that is felt
    "query_pre_attn_scalar": 4,
    "attn_logit_softcapping": 2.0,
    # windows
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_chunk_size", "window_size"), WINDOW),
    **dict.fromkeys(("attention_window_size", "keep_window_size", "local_attention", "block_size"), WINDOW),
    **dict.fromkeys(("local_attention_window_len", "index_topk"), WINDOW),
    "use_sliding_window": True,
    # rotary embedding over a part of the head, latent attention, sparse index
    "rotary_dim": HEAD // 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "o_lora_rank": 16,
    "qk_nope_head_dim": HEAD,
    "qk_rope_head_dim": HEAD // 2,
    "qk_head_dim": HEAD + HEAD // 2,
    "v_head_dim": HEAD,
    "index_head_dim": HEAD,
    "index_n_heads": 2,
    # experts
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 24),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"), 24),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    "zero_expert_num": 2,
    **dict.fromkeys(("n_groups", "mamba_n_groups", "mamba_ngroups"), 2),
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    # layers that are no attention
    **dict.fromkeys(("state_size", "ssm_state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("linear_num_heads", "linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_head_dim", "linear_key_head_dim", "linear_value_head_dim"), HEAD),
    "num_kv_shared_layers": 2,
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), WINDOW),
}
"""Every family takes from here what its default config has."""

LATENT_SIZES: dict[str, Any] = {"num_key_value_heads": HEADS, "head_dim": HEAD // 2}
"""Multi-head latent attention: every head has keys of its own, and head_dim is that of the rotary part."""

OFF_BY_DEFAULT = {"attn_logit_softcapping", "first_k_dense_replace"}
"""Fields that stay None where a family has them as None."""

QUERY_OR_KEY_NORM = re.compile(r"(^|[._])(q|k|qk|query|key)_?(layer)?_?norm", re.IGNORECASE)
"""Where queries and keys are normalised, the gain alone decides how far attention is from uniform."""

LAYER_COUNTS = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"),
    *("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"),
)

EXTRA: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3], "num_hidden_layers": 4},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    },
    "cpmant": {"prompt_length": 4},
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "kv_n_heads": KV_HEADS, "clip_qkv": 8.0}},
    "deepseek_v4": {"compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4}},
    "dots3_note_text": {
        **dict.fromkeys(("swa_num_attention_heads", "swa_num_key_value_heads"), HEADS),
        **dict.fromkeys(("swa_q_lora_rank", "swa_kv_lora_rank"), 16),
        **dict.fromkeys(("swa_qk_nope_head_dim", "swa_v_head_dim"), HEAD),
        "swa_head_dim": HEAD + HEAD // 2,
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma4_text": {"global_head_dim": 2 * HEAD},
    "gemma4_unified_text": {"global_head_dim": 2 * HEAD},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "position_embedding_type": "rope"},
    "laguna": {"num_attention_heads_per_layer": [HEADS, 2 * HEADS]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"],
        "index_block_size": 4,
        "index_topk_blocks": 2,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD,
        "indexer_budget": WINDOW,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"axial_pos_embds_dim": [8, 24], "axial_pos_shape": [8, 8], "attn_layers": ["local", "local"]},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1, "layer_types": ["hybrid", "hybrid_sliding"]},
}
"""What single families need beyond `SIZES`: a field that holds a config takes a table of its own, one with an
entry per layer gives the kinds, which are repeated over the layers."""

CANNOT: dict[str, str] = {
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"),
        "drafts for another model and reads that model's keys and values, so it cannot run by itself",
    ),
    **dict.fromkeys(
        ("musicgen", "musicgen_melody"),
        "the table's class is the decoder's and takes a config of a type that is not in the table",
    ),
}
"""Families that are left out on purpose, each with its reason."""


class CannotBuildError(Exception):
    """A family of which no tiny model can be built; the message is one line and says why."""


def family_names() -> list[str]:
    """Return every model type of transformers' causal-LM table, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers says while a model is built or run, and put its verbosity back."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL + 1)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def build_family(
    name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, spread: bool = True
) -> PreTrainedModel:
    """Build a tiny model of the type `name`, in eval mode and with eager attention; the same seed gives the same model.

    Token ids 3 to 60 are valid, and so are 40 positions. Without `spread` the parameters are as transformers
    initialises them, and attention is nearly uniform. Raises CannotBuildError.
    """
    if name in CANNOT:
        raise CannotBuildError(f"{name}: {CANNOT[name]}")
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = tiny_config(CONFIG_MAPPING[name], {})
            with torch.device("meta"):
                n_parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
            if n_parameters > MAX_PARAMETERS:
                raise CannotBuildError(f"{name}: {n_parameters:,} parameters")
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
        except CannotBuildError:
            raise
        except Exception as error:
            line = " ".join(str(error).split())[:160]
            raise CannotBuildError(f"{name}: {type(error).__name__}: {line}") from error
        if spread:
            spread_parameters(model)
        cast_parameters(model, dtype)
        return model.eval()


def tiny_config(config_class: type[PreTrainedConfig], extra: dict[str, Any]) -> PreTrainedConfig:
    """Return a config with what this class has of `SIZES`, sub-configs included, then `EXTRA`, then `extra`."""
    extra = EXTRA.get(config_class.model_type, {}) | extra
    default = config_class()
    default.allow_global_per_layer_attribute_access = True
    kinds = layer_kinds(default)
    kinds |= {field: entries for field, entries in extra.items() if field in kinds or field == "layer_types"}
    n_layers = 4 if any(len(entries) > 1 for entries in kinds.values()) else 2
    cycles = {field: [entries[i % len(entries)] for i in range(n_layers)] for field, entries in kinds.items()}
    latent = LATENT_SIZES if hasattr(default, "kv_lora_rank") else {}
    wanted = cycles | SIZES | latent | dict.fromkeys(LAYER_COUNTS, n_layers)
    fields = {field: value for field, value in wanted.items() if can_set(default, field, value)}
    fields |= {field: value for field, value in extra.items() if field not in kinds}
    for field in config_class.sub_configs:
        sub = getattr(default, field, None)
        if isinstance(sub, PreTrainedConfig):
            fields[field] = tiny_config(type(sub), extra.get(field, {}))
    return config_class(**fields)


def layer_kinds(default: PreTrainedConfig) -> dict[str, list[Any]]:
    """Return, for every field with one entry per layer, its distinct entries in the order of their first layer."""
    n_layers = next((n for field in LAYER_COUNTS if (n := getattr(default, field, None)) is not None), None)
    kinds = {}
    for field in {*vars(default), "layers_block_type"} - {*default.attribute_map}:
        entries = getattr(default, field, None)
        if (
            isinstance(entries, list)
            and len(entries) == n_layers
            and all(isinstance(e, str | int | float) for e in entries)
        ):
            kinds[field] = list(dict.fromkeys(entries))
    if hasattr(default, "use_sliding_window") and "layer_types" in kinds:
        kinds["layer_types"] = ["full_attention", "sliding_attention"]
    return kinds


def can_set(default: PreTrainedConfig, field: str, value: Any) -> bool:
    """Tell whether a config has this field and lets it be set: some are computed from others."""
    try:
        if not hasattr(default, field) or (field in OFF_BY_DEFAULT and getattr(default, field) is None):
            return False
        setattr(copy.deepcopy(default), field, value)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


@torch.no_grad()
def spread_parameters(model: PreTrainedModel) -> None:
    """Widen the parameters, so that attention is far from uniform and no bias is zero."""
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    for parameter in model.parameters():
        least = 0.5 if parameter in embeddings else 0.25
        if parameter.ndim >= 2 and parameter.is_floating_point() and 0 < (deviation := float(parameter.std())) < least:
            parameter.mul_(least / deviation)
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.numel() > 1 and parameter.min() == parameter.max():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
            if QUERY_OR_KEY_NORM.search(name):
                parameter.mul_(1.5)


def cast_parameters(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Bring parameters and buffers to `dtype`, but for those that transformers keeps in float32 when it loads."""
    keep = set(model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        keep |= set(model._keep_in_fp32_modules or ())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        kept = "inv_freq" in name or any(f".{module}." in f".{name}." for module in keep)
        if tensor.is_floating_point() and not kept:
            tensor.data = tensor.data.to(dtype)
