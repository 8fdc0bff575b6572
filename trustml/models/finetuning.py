"""An encoder that is trained together with the head on its features.

The network starts as the frozen encoder with that head, so fine-tuning begins where
`trustml.models.features` does, and no module starts from random weights.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from trustml.models.features import TextFeatures, build_feature_head
from trustml.models.network import Network
from trustml.models.transformers.bert import Bert
from trustml.models.transformers.layers import Lora, Options

HEAD = "head"


def with_adapters(features: TextFeatures, lora: Lora | None, *, seed: int = 0) -> TextFeatures:
    """The same features by an encoder with low-rank adapters, which change nothing at first.

    Args:
      features: Features by an encoder without adapters.
      lora: The adapters; None for none.
      seed: Of their random factors.
    """
    encoder = features.encoder
    module = Bert(encoder.config, Options(lora=lora))
    fresh = flatten_dict(_random(module, jax.random.key(seed)))
    body, steps = encoder.params
    weights = unflatten_dict({**fresh, **flatten_dict(body)})
    made = dataclasses.replace(encoder, module=module, params=(weights, steps))
    return dataclasses.replace(features, encoder=made)


def with_weights(features: TextFeatures, params: dict[str, Any]) -> TextFeatures:
    """The features by the encoder of `params`, of a network of `build_finetuned`."""
    weights = {name: leaf for name, leaf in params.items() if name != HEAD}
    made = dataclasses.replace(features.encoder, params=(weights, features.encoder.params[1]))
    return dataclasses.replace(features, encoder=made)


def build_finetuned(features: TextFeatures, outputs: int, problem_type: str) -> Network:
    """The encoder of `features` with a linear head on them, on one text's `ids` and `mask`.

    Its parameters are those of the encoder, and `head` as `build_feature_head` has it.

    Args:
      features: The features; `with_adapters` gives them what "lora" trains.
      outputs: Scores: one a class, or one for a number.
      problem_type: One of `problem_types.PROBLEM_TYPES`.
    """
    head = build_feature_head(features.width, outputs, problem_type)

    def init(key):
        return {**_random(features.encoder.module, key), **head.init(key)}

    def read(params, unit):
        found = with_weights(features, params).of_tokens(unit)
        return {HEAD: params[HEAD]}, {**unit, "features": found}

    def loss(params, unit):
        return head.loss(*read(params, unit))

    def logits(params, unit):
        return head.logits(*read(params, unit))

    def predict(params, units):
        read_all = jax.vmap(lambda unit: with_weights(features, params).of_tokens(unit))
        return head.predict(params, {"features": read_all(units)})

    return Network(jax.jit(init), loss, jax.jit(predict), logits)


def _random(module: Bert, key) -> dict[str, Any]:
    # No parameter depends on the length.
    unit = {"ids": jnp.zeros(1, jnp.int32), "mask": jnp.ones(1, bool)}
    return module.init(key, unit)["params"]
