"""Pretrained architectures with a head, as networks."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from trustml.models.network import Network
from trustml.models.transformers import heads
from trustml.models.transformers.architectures import DECODERS
from trustml.models.transformers.bart import Bart
from trustml.models.transformers.bert import Bert
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.gpt2 import Gpt2
from trustml.models.transformers.heads import Head
from trustml.models.transformers.layers import Options
from trustml.models.transformers.llama import Llama
from trustml.models.transformers.problem_types import classification

_ENCODER = ("classify", "tag", "nlu", "qa", "mlm")
HEADS: dict[str, tuple[str, ...]] = {
    "bert": _ENCODER,
    "distilbert": _ENCODER,
    "roberta": _ENCODER,
    "bart": ("seq2seq",),
    **dict.fromkeys(DECODERS, ("classify", "tag", "nlu", "qa", "lm")),
}


def build_language_model(
    config: ModelConfig,
    head: str,
    *,
    labels: Sequence[str] = (),
    tags: Sequence[str] = (),
    crf: bool = False,
    options: Options | None = None,
) -> Network:
    """The network of an architecture with a head, for random or pretrained weights.

    >>> sizes = {"vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "max_positions": 8}
    >>> config = ModelConfig(model_type="gpt2", num_layers=1, num_heads=1, **sizes)
    >>> network = build_language_model(config, "classify", labels=("no", "yes"))
    >>> jax.eval_shape(network.init, jax.random.key(0))["head"]["classifier"]["kernel"].shape
    (4, 2)

    Args:
      config: Sizes and arithmetic.
      head: "classify", "tag", "nlu", "qa", "lm", "mlm" or "seq2seq"; `HEADS` lists those of each
        architecture.
      labels: The classes, for "classify" and "nlu".
      tags: The tags, for "tag" and "nlu".
      crf: Whether "tag" and "nlu" score neighbouring tags.
      options: How to compute the network.

    Raises:
      ValueError: The architecture lacks the head, or labels or tags are missing or superfluous.
    """
    options = options or Options()
    body = _body(config, head, options)
    part = make_head(config, head, labels=labels, tags=tags, crf=crf, options=options)
    network = _network(config, options, body, part)
    if options.lora is not None:
        shapes = jax.eval_shape(network.init, jax.random.key(0))
        if not any(path[-1].key == "lora_a" for path, _ in jax.tree.leaves_with_path(shapes)):
            raise ValueError(
                f"`targets` of `lora` must match the path of a layer, such as "
                f"encoder/layer_0/attention/query, got {options.lora.targets!r}."
            )
    return network


def _body(config: ModelConfig, head: str, options: Options) -> nn.Module:
    supported = HEADS[config.model_type]
    if head not in supported:
        raise ValueError(
            f"`head` must be one of {', '.join(supported)} for {config.model_type}, got {head!r}."
        )
    if config.decoder_only:
        return make_decoder(config, options)
    if config.model_type == "bart":
        return Bart(config, options)
    return Bert(config, options, config.model_type == "bert" and head in ("classify", "nlu"))


def make_decoder(config: ModelConfig, options: Options) -> nn.Module:
    """The body of a decoder: `(unit, at, allowed)` to states and None, as `Gpt2`."""
    return Gpt2(config, options) if config.model_type == "gpt2" else Llama(config, options)


def make_head(
    config: ModelConfig,
    head: str,
    *,
    labels: Sequence[str] = (),
    tags: Sequence[str] = (),
    crf: bool = False,
    options: Options,
) -> Head:
    """The module, loss and prediction of a head; errors as `build_language_model`."""
    for name, given, users in (
        ("labels", labels, ("classify", "nlu")),
        ("tags", tags, ("tag", "nlu")),
    ):
        if head in users and not len(given):
            raise ValueError(f"`{name}` must name what the head {head!r} tells apart, got none.")
        if head not in users and len(given):
            raise ValueError(f"`{name}` must be empty for the head {head!r}, got {tuple(given)}.")
    if crf and not tags:
        raise ValueError(f"`crf` needs tags, which the head {head!r} lacks.")
    if head == "classify":
        module: nn.Module = heads.ClassifyHead(config, options, len(labels))
        return Head(module, *classification(config.problem_type, len(labels)))
    if head == "tag":
        module = heads.TagHead(config, options, len(tags), crf)
        return Head(module, heads.tag_loss, heads.tag_predict)
    if head == "nlu":
        module = heads.JointHead(config, options, len(labels), len(tags), crf)
        return Head(module, heads.joint_loss, heads.joint_predict)
    if head == "qa":
        return Head(heads.AnswerHead(config, options), heads.answer_loss, heads.answer_predict)
    if head == "mlm":
        masked = heads.token_losses(heads.masked_targets)
        return Head(heads.MaskedTokenHead(config, options), *masked)
    targets = heads.causal_targets if head == "lm" else heads.pair_targets
    return Head(heads.TokenHead(config, options), *heads.token_losses(targets))


def _network(config: ModelConfig, options: Options, body: nn.Module, head: Head) -> Network:
    dummy = _dummy(config)

    def apply(params, unit, key=None):
        rngs: list[dict] = [{}, {}]
        if key is not None:
            rngs = [{"dropout": one} for one in jax.random.split(key)]
        own = {name: leaf for name, leaf in params.items() if name != "head"}
        states, pooled = body.apply({"params": own}, unit, rngs=rngs[0])
        table = _table(params)
        inner = {"params": params.get("head", {})}
        return head.module.apply(inner, states, pooled, table, unit, rngs=rngs[1])

    @jax.jit
    def init(key):
        own_key, head_key = jax.random.split(key)
        params = body.init(own_key, dummy)["params"]
        states, pooled = body.apply({"params": params}, dummy)
        variables = head.module.init(head_key, states, pooled, _table(params), dummy)
        return {**params, **({"head": variables["params"]} if variables.get("params") else {})}

    def loss_with(params, unit, key):
        return head.loss(apply(params, unit, key), unit, params.get("head", {}))

    def loss(params, unit):
        return loss_with(params, unit, None)

    def predict(params, units):
        def one(unit):
            return head.predict(apply(params, unit), unit, params.get("head", {}))

        return jax.vmap(one)(units)

    def logits(params, unit):
        return apply(params, unit)

    # The training step inspects the signature: a loss with three arguments gets a key.
    return Network(init, loss_with if options.dropout > 0 else loss, jax.jit(predict), logits)


def _table(params):
    return params.get("embeddings", params)["word"]["embedding"]


def _dummy(config: ModelConfig):
    time = min(2, config.max_positions)  # no parameter depends on the length
    ids, mask = jnp.zeros(time, jnp.int32), jnp.ones(time, bool)
    return {"ids": ids, "mask": mask, "target_ids": ids, "target_mask": mask}
