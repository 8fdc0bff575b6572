"""The head of each task: its module, loss and prediction.

A head module maps `(states, pooled, table, unit)` to float32 scores, whatever the dtype of the
states: softmax and loss need the digits. `table` is the word embedding, which gives the scores of
tied language models.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from trustml.models.network import cross_entropy, masked_mean, token_loss
from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.layers import Dense, Norm, Options, Table, as_row, dropped
from trustml.models.transformers.problem_types import best_class, class_loss

_MAX_ANSWER = 30  # tokens of an answer


class Head(NamedTuple):
    """The head of one task: `module` gives scores; `loss` and `predict` take them."""

    module: nn.Module
    loss: Callable  # (scores, unit, head params) -> scalar
    predict: Callable  # (scores, unit, head params) -> prediction of one unit


class ClassifyHead(nn.Module):
    """Scores of classes from one state: the first, BERT's pooled one, or a decoder's last."""

    config: ModelConfig
    options: Options
    classes: int

    @nn.compact
    def __call__(self, states, pooled, table, unit):
        """Scores [class]."""
        kind, scale = self.config.model_type, self.config.initializer_range
        x = states[0] if pooled is None else pooled
        if self.config.decoder_only:
            last = jnp.maximum(unit["mask"].sum(dtype=jnp.int32) - 1, 0)
            x = jax.lax.dynamic_index_in_dim(states, last, keepdims=False)
        if kind in ("distilbert", "roberta"):
            x = x if kind == "distilbert" else dropped(self, x)
            x = Dense(self.config.hidden_size, self.options, scale, name="dense")(x)
            x = nn.relu(x) if kind == "distilbert" else jnp.tanh(x)
        # A decoder's classifier in transformers has no bias.
        biased = not self.config.decoder_only
        final = Dense(self.classes, self.options, scale, biased, name="classifier")
        return final(dropped(self, x)).astype(jnp.float32)


class TagHead(nn.Module):
    """Scores of tags per position; `crf` adds scores of neighbouring tags."""

    config: ModelConfig
    options: Options
    tags: int
    crf: bool = False

    @nn.compact
    def __call__(self, states, pooled, table, unit):
        """Scores [time, tag]."""
        scale = self.config.initializer_range
        if self.crf:
            for name, shape in (("transitions", (self.tags,) * 2), ("start", (self.tags,))):
                self.param(name, nn.initializers.zeros, shape, jnp.float32)
            self.param("end", nn.initializers.zeros, (self.tags,), jnp.float32)
        final = Dense(self.tags, self.options, scale, name="classifier")
        return final(dropped(self, states)).astype(jnp.float32)


class JointHead(nn.Module):
    """Scores of classes for the text and of tags per position."""

    config: ModelConfig
    options: Options
    classes: int
    tags: int
    crf: bool = False

    @nn.compact
    def __call__(self, states, pooled, table, unit):
        """Scores ([class], [time, tag])."""
        given = (states, pooled, table, unit)
        label = ClassifyHead(self.config, self.options, self.classes, name="intent")(*given)
        return label, TagHead(self.config, self.options, self.tags, self.crf, name="slots")(*given)


class AnswerHead(nn.Module):
    """Scores of an answer's first and last position."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, states, pooled, table, unit):
        """Scores ([time], [time])."""
        final = Dense(2, self.options, self.config.initializer_range, name="classifier")
        scores = final(states).astype(jnp.float32)
        return scores[:, 0], scores[:, 1]


class TokenHead(nn.Module):
    """Scores of the vocabulary without a layer of their own: decoders and BART."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, states, pooled, table, unit):
        """Scores [time, vocabulary]."""
        scores = _by_table(states, _output_table(self.config, table))
        if not self.config.logits_bias:
            return scores
        bias = self.param("bias", nn.initializers.zeros, (self.config.vocab_size,), jnp.float32)
        return scores + as_row(bias, scores)


class MaskedTokenHead(nn.Module):
    """Scores of the vocabulary after a dense layer and a norm: the BERT family."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, states, pooled, table, unit):
        """Scores [time, vocabulary]."""
        config = self.config
        x = Dense(config.hidden_size, self.options, config.initializer_range, name="dense")(states)
        # RoBERTa's head in transformers always uses GELU, whatever `activation` its layers have.
        name = "gelu" if config.model_type == "roberta" else config.activation
        x = Norm(config.layer_norm_eps, self.options, name="norm")(ACTIVATIONS[name](x))
        scores = _by_table(x, _output_table(config, table))
        bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,), jnp.float32)
        return scores + as_row(bias, scores)


def _output_table(config: ModelConfig, table) -> Float[Array, "vocabulary features"]:
    """The word embedding if tied, else an own table of the compact module that calls this."""
    if config.tied:
        return table
    rows, width = table.shape
    return Table(rows, width, config.initializer_range, name="decoder").embedding


def _by_table(states, table) -> Float[Array, "time vocabulary"]:
    """Products of states with every row of the word embedding."""
    return jnp.einsum(
        "td,vd->tv", states, table.astype(states.dtype), preferred_element_type=jnp.float32
    )


def tag_loss(scores, unit, params):
    """Mean cross-entropy over the positions with a tag, or the CRF's loss per such position."""
    mask = unit["tag_mask"] & unit["mask"]
    if "transitions" not in params:
        return masked_mean(cross_entropy(scores, unit["tags"]), mask)
    from trustml.models.joint.crf import crf_loss

    # Only first tokens of words have a tag; the CRF needs them next to each other.
    scores, tags, kept = _together(mask, scores, unit["tags"])
    chain = (params["transitions"], params["start"], params["end"])
    loss = crf_loss(scores, tags, kept, *chain)
    return jnp.where(kept.any(), loss / jnp.maximum(kept.sum(dtype=jnp.float32), 1.0), 0.0)


def tag_predict(scores, unit, params):
    """The best tag of each position, or the best sequence of the CRF; 0 at padding."""
    if "transitions" not in params:
        return jnp.where(unit["mask"], jnp.argmax(scores, -1), 0).astype(jnp.int32)
    from trustml.models.joint.crf import crf_decode

    mask = unit["tag_mask"] & unit["mask"]
    order = jnp.argsort(~mask, stable=True)
    chain = (params["transitions"], params["start"], params["end"])
    tags = crf_decode(scores[order], mask[order], *chain)
    return jnp.zeros_like(tags).at[order].set(tags)


def _together(mask, *arrays):
    """Moves the positions of `mask` to the front, in their order."""
    order = jnp.argsort(~mask, stable=True)
    return *(array[order] for array in arrays), mask[order]


def joint_loss(scores, unit, params):
    """The sum of the losses of the class and of the tags."""
    return class_loss(scores[0], unit, params) + tag_loss(scores[1], unit, params["slots"])


def joint_predict(scores, unit, params):
    """The best class and tags."""
    label = best_class(scores[0], unit, params)
    return label, tag_predict(scores[1], unit, params["slots"])


def answer_loss(scores, unit, params):
    """Mean of the cross-entropies of start and end; 0 if the answer is not in the context."""
    mask = unit["context_mask"]
    ends = [unit["start"], unit["end"]]
    chosen = [jax.nn.one_hot(end, mask.shape[0], dtype=jnp.float32) for end in ends]
    least = jnp.finfo(jnp.float32).min
    # Masked before the softmax, so that other positions get no probability and no gradient. The
    # least float, not -inf: without any context -inf would give NaN.
    masked = [jnp.where(mask, each, least) for each in scores]
    losses = [
        jax.nn.logsumexp(each) - jnp.where(mask, each * hot, 0.0).sum()
        for each, hot in zip(masked, chosen, strict=True)
    ]
    inside = [(mask & (hot > 0)).any() for hot in chosen]
    return jnp.where(inside[0] & inside[1], (losses[0] + losses[1]) * 0.5, 0.0)


def answer_predict(scores, unit, params):
    """The best start and end with start <= end < start + 30, in the context."""
    mask = unit["context_mask"]
    time = mask.shape[0]
    positions = jnp.arange(time)
    length = positions[None, :] - positions[:, None]
    legal = (length >= 0) & (length < _MAX_ANSWER) & mask[None, :] & mask[:, None]
    pairs = jnp.where(legal, scores[0][:, None] + scores[1][None, :], -jnp.inf)
    best = jnp.argmax(pairs).astype(jnp.int32)
    return best // time, best % time


def causal_targets(unit) -> tuple[Array, Bool[Array, " time"]]:
    """Targets of a causal model and their mask: the scores at t are for the token at t + 1."""
    counted = unit["mask"] & unit["loss_mask"] if "loss_mask" in unit else unit["mask"]
    return jnp.roll(unit["ids"], -1), jnp.roll(counted.at[0].set(False), -1)


def masked_targets(unit):
    """Targets of a masked model and their mask."""
    return unit["labels"], unit["label_mask"]


def pair_targets(unit):
    """Targets of a sequence-to-sequence model and their mask."""
    return unit["target_ids"], unit["target_mask"]


def token_losses(targets: Callable) -> tuple[Callable, Callable]:
    """The loss (a mean) and the prediction (sum, tokens, tokens that were likeliest)."""

    def loss(scores, unit, params):
        ids, mask = targets(unit)
        return masked_mean(token_loss(scores, ids), mask)

    def predict(scores, unit, params):
        ids, mask = targets(unit)
        keep = mask.astype(jnp.float32)
        right = (jnp.argmax(scores, -1) == ids).astype(jnp.float32)
        return jnp.stack([(token_loss(scores, ids) * keep).sum(), keep.sum(), (right * keep).sum()])

    return loss, predict
