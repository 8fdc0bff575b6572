"""The architectures of `trustml.models` at the sizes of published checkpoints, weights random.

Fields are those of each checkpoint's config.json on the Hugging Face hub that fix the arithmetic.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from trustml.models import ModelConfig, Network, build_language_model

from .base import Case, Draw

_BERT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
}
_GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 50257,
    "n_embd": 768,
    "n_head": 12,
    "n_positions": 1024,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "hf-bert-base": {  # bert-base-uncased
        "model_type": "bert",
        **_BERT,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    },
    "hf-distilbert": {  # distilbert-base-uncased
        "model_type": "distilbert",
        "vocab_size": 30522,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "max_position_embeddings": 512,
        "activation": "gelu",
        "initializer_range": 0.02,
        "pad_token_id": 0,
    },
    "hf-roberta-base": {
        "model_type": "roberta",
        **_BERT,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
    },
    "hf-gpt2": {**_GPT2, "n_layer": 12},
    "hf-distilgpt2": {**_GPT2, "n_layer": 6},
    "hf-bart-base": {
        "model_type": "bart",
        "vocab_size": 50265,
        "d_model": 768,
        "encoder_layers": 6,
        "encoder_attention_heads": 12,
        "encoder_ffn_dim": 3072,
        "decoder_layers": 6,
        "decoder_attention_heads": 12,
        "decoder_ffn_dim": 3072,
        "max_position_embeddings": 1024,
        "activation_function": "gelu",
        "init_std": 0.02,
        "scale_embedding": False,
        "pad_token_id": 1,
        "decoder_start_token_id": 2,
    },
}
_TINY = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 64,
    "max_positions": 32,
}
_TINY_DECODER = {"decoder_layers": 2, "decoder_heads": 4, "decoder_intermediate_size": 64}
_HEADS = {"gpt2": "lm", "bart": "seq2seq"}  # the others classify
_LABELS = ("no", "yes")


def network(name: str, quick: bool) -> tuple[ModelConfig, str, Network]:
    """Sizes, head and network of a case."""
    config = ModelConfig.from_hf(PUBLISHED[name])
    if quick:
        tiny = _TINY | (_TINY_DECODER if config.model_type == "bart" else {})
        config = dataclasses.replace(config, **tiny)
    head = _HEADS.get(config.model_type, "classify")
    labels = _LABELS if head == "classify" else ()
    return config, head, build_language_model(config, head, labels=labels)


def _case(name: str, quick: bool) -> Case:
    """A full batch of random tokens; BART reads half of them and writes the other half."""
    batch, time = (4, 8) if quick else (4, 128)
    config, head, net = network(name, quick)
    draw = Draw()
    parts = ("", "target_") if head == "seq2seq" else ("",)
    shape = (batch, time // len(parts))
    units: dict[str, jax.Array] = {}
    for part in parts:
        units[f"{part}ids"] = draw.integers(config.vocab_size, *shape)
        units[f"{part}mask"] = jnp.ones(shape, bool)
    if head == "classify":
        units["label"] = draw.integers(len(_LABELS), batch)
    lengths = " + ".join([str(shape[1])] * len(parts))
    what = f"{name}, {head}: {lengths} tokens, vocabulary {config.vocab_size}, batch {batch}"
    return Case(net.loss, net.init(jax.random.key(0)), units, what)


PRETRAINED: dict[str, Callable[[bool], Case]] = {
    name: functools.partial(_case, name) for name in PUBLISHED
}
