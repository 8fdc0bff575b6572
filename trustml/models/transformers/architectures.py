"""What config.json says of each architecture: names of fields, defaults, and what is supported."""

from typing import Any

ROTARY = ("llama", "mistral", "qwen2", "qwen3", "gemma")  # rotary positions; modules in llama.py
DECODERS = ("gpt2", *ROTARY)

# Our name of a field to that of config.json, by architecture; each one is required.
_BERT = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
}
REQUIRED: dict[str, dict[str, str]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": {
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_layers": "n_layers",
        "num_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "max_positions": "max_position_embeddings",
    },
    "gpt2": {
        "vocab_size": "vocab_size",
        "hidden_size": "n_embd",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "max_positions": "n_positions",
    },
    "bart": {
        "vocab_size": "vocab_size",
        "hidden_size": "d_model",
        "num_layers": "encoder_layers",
        "num_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim",
        "max_positions": "max_position_embeddings",
        "decoder_layers": "decoder_layers",
        "decoder_heads": "decoder_attention_heads",
        "decoder_intermediate_size": "decoder_ffn_dim",
    },
}
for _name in ROTARY:
    REQUIRED[_name] = {k: v for k, v in _BERT.items() if k != "type_vocab_size"}
# Defaults of fields that config.json may omit.
_IDS = {
    "bert": (0, None, None),
    "roberta": (1, 0, 2),
    "distilbert": (0, None, None),
    "gpt2": (None, 50256, 50256),
    "bart": (1, 0, 2),
    "llama": (None, 1, 2),
    "mistral": (None, 1, 2),
    "qwen2": (None, None, None),
    "qwen3": (None, None, None),
    "gemma": (0, 2, 1),
}
OPTIONAL: dict[str, dict[str, tuple[str, Any]]] = {
    name: {
        "pad_id": ("pad_token_id", pad),
        "bos_id": ("bos_token_id", bos),
        "eos_id": ("eos_token_id", eos),
        "initializer_range": ("initializer_range", 0.02),
        "tied": ("tie_word_embeddings", True),
        "problem_type": ("problem_type", None),
    }
    for name, (pad, bos, eos) in _IDS.items()
}
for _name in ("bert", "roberta"):
    OPTIONAL[_name] |= {
        "activation": ("hidden_act", "gelu"),
        "layer_norm_eps": ("layer_norm_eps", 1e-12),
    }
OPTIONAL["distilbert"] |= {"activation": ("activation", "gelu")}
OPTIONAL["gpt2"] |= {
    "activation": ("activation_function", "gelu_new"),
    "layer_norm_eps": ("layer_norm_epsilon", 1e-5),
    "intermediate_size": ("n_inner", None),
    "scale_attn_weights": ("scale_attn_weights", True),
    "scale_attn_by_inverse_layer_idx": ("scale_attn_by_inverse_layer_idx", False),
}
OPTIONAL["bart"] |= {
    "activation": ("activation_function", "gelu"),
    "initializer_range": ("init_std", 0.02),
    "scale_embedding": ("scale_embedding", False),
    "decoder_start_id": ("decoder_start_token_id", 2),
}
# Heads of keys and the width of a head where config.json is silent; None follows from the rest.
_HEADS = {"mistral": (8, None), "qwen2": (32, None), "qwen3": (32, 128), "gemma": (16, 256)}
for _name in ROTARY:
    _keys, _width = _HEADS.get(_name, (None, None))
    OPTIONAL[_name] |= {
        "activation": ("hidden_act", "gelu_pytorch_tanh" if _name == "gemma" else "silu"),
        "layer_norm_eps": ("rms_norm_eps", 1e-6),
        "num_kv_heads": ("num_key_value_heads", _keys),
        "head_width": ("head_dim", _width),
        "tied": ("tie_word_embeddings", _name == "gemma"),
    }
for _name in ("llama", "qwen3", "gemma"):
    OPTIONAL[_name] |= {"attention_bias": ("attention_bias", False)}
OPTIONAL["llama"] |= {"mlp_bias": ("mlp_bias", False)}
OPTIONAL["mistral"] |= {"sliding_window": ("sliding_window", 4096)}

# What is not in the config.json of these architectures.
FIXED: dict[str, dict[str, Any]] = {
    "distilbert": {"layer_norm_eps": 1e-12},
    "bart": {"layer_norm_eps": 1e-5},
    "qwen2": {"attention_bias": True},  # of queries, keys and values
}

FLAGS = (
    *("tied", "scale_embedding", "scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
    *("attention_bias", "mlp_bias"),
)

# Options of the architectures and their variants that change the arithmetic, with the only value
# that is supported. A file may omit them.
ONLY: dict[str, Any] = {
    "position_embedding_type": "absolute",
    **dict.fromkeys(
        (
            *("add_cross_attention", "is_decoder", "sinusoidal_pos_embds", "tie_encoder_decoder"),
            *("normalize_before", "add_final_layer_norm", "static_position_embeddings"),
            *("norm_first", "pre_norm", "prenorm", "apply_residual_connection_post_layernorm"),
            *("alibi", "rotary_value", "relative_attention", "use_task_id", "quant_mode"),
            *("trigram_input", "use_bottleneck", "use_sliding_window"),
            *("use_bidirectional_attention", "attn_logit_softcapping", "final_logit_softcapping"),
        ),
        False,
    ),
    **dict.fromkeys(("normalize_embedding", "layernorm_embedding", "qkv_bias"), True),
    "normalization_type": "layer_norm",
    "pruned_heads": {},
    **dict.fromkeys(("inner_group_num", "num_feedforward_networks"), 1),
}
# Sizes that variants separate; here each must equal the size that it is listed under.
SAME: dict[str, tuple[str, ...]] = {
    "hidden_size": ("embedding_size", "true_hidden_size", "intra_bottleneck_size"),
    "num_heads": ("num_attention_heads", "num_key_value_heads"),
    "num_layers": ("num_hidden_groups",),
}
