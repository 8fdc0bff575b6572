"""Joint models of an assistant's utterance: one intent, one slot tag per token.

A network is plain functions of parameters and one utterance without a batch axis, as
`clipped_grad`, an audit or a federated client need it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from trustml.models.joint.decoding import allowed_transitions, viterbi
from trustml.models.joint.encoders import BiLstmEncoder, ConvolutionalEncoder, TransformerEncoder
from trustml.models.network import Network
from trustml.models.transformers.problem_types import SINGLE, classification

ENCODERS: dict[str, type[nn.Module]] = {
    "conv": ConvolutionalEncoder,
    "bilstm": BiLstmEncoder,
    "transformer": TransformerEncoder,
}


class JointModel(nn.Module):
    """An encoder with two heads: pooled states give the intent, each state gives a tag.

    With 0 `intents` or 0 `tags` that head is absent, and its scores are None.
    """

    encoder: nn.Module
    intents: int
    tags: int

    @nn.compact
    def __call__(self, tokens, mask):
        """Scores of the intents and, per token, of the tags."""
        states = self.encoder(tokens, mask)
        if not self.intents:
            return None, nn.Dense(self.tags, name="tag_head")(states)
        keep = mask.astype(jnp.float32)[:, None]
        mean = (states * keep).sum(0) / jnp.maximum(keep.sum(), 1.0)
        highest = _masked_max(states, keep)
        pooled = jnp.concatenate([mean, highest])
        intent = nn.Dense(self.intents, name="intent_head")(pooled)
        if not self.tags:
            return intent, None
        # Tags depend on the intent: "rate the album" and "play the album" tag differently.
        by_intent = nn.Dense(self.tags, use_bias=False, name="tag_of_intent")(nn.softmax(intent))
        return intent, nn.Dense(self.tags, name="tag_head")(states) + by_intent[None, :]


def _masked_max(states, keep):
    # Not `max`: its gradient compares floats for equality, and XLA may compute the two sides with
    # different rounding (seen on a CPU with JAX 0.12), which loses part of the gradient.
    highest = jnp.argmax(jnp.where(keep > 0, states, -jnp.inf), 0)
    chosen = jax.nn.one_hot(highest, states.shape[0], axis=0, dtype=states.dtype)
    return (states * chosen * keep).sum(0)


def build(
    kind: str,
    *,
    table_sizes: tuple[int, ...],
    intents: int,
    tags: tuple[str, ...],
    problem_type: str = SINGLE,
    slot_weight: float = 1.0,
    **sizes: int,
) -> Network:
    """The network of an encoder with a head for the intent and a head for the tags.

    >>> sizes = {"features": 4, "layers": 1, "embedding": 4}
    >>> network = build("conv", table_sizes=(8,), intents=2, tags=("O", "B-x", "I-x"), **sizes)
    >>> jax.eval_shape(network.init, jax.random.key(0))["tag_head"]["kernel"].shape
    (4, 3)

    Args:
      kind: "conv", "bilstm" or "transformer".
      table_sizes: Number of values of each id of a token (`Tokenizer.sizes`).
      intents: Number of intents or classes; 0 for a model that only tags.
      tags: The BIO tags, "O" first (`Examples.tags`); none for a model that only classifies.
      problem_type: What the scores of the intents are: of one class, of several classes at once,
        or a number. Units of the latter two have a `label` instead of an `intent`.
      slot_weight: Weight of the mean loss per token, relative to the loss of the intent.
      **sizes: `features`, `layers` and `embedding` of the encoder.

    Raises:
      ValueError: An unknown kind, a number that is not positive, or neither intents nor tags.
    """
    if kind not in ENCODERS:
        raise ValueError(f"`kind` must be one of {', '.join(ENCODERS)}, got {kind!r}.")
    least = {"intents": 0 if tags else 1}
    for name, value in {"intents": intents, **sizes}.items():
        if not (isinstance(value, int) and value >= least.get(name, 1)):
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
    if not slot_weight >= 0:
        raise ValueError(f"`slot_weight` must not be negative, got {slot_weight!r}.")
    model = JointModel(ENCODERS[kind](sizes=tuple(table_sizes), **sizes), intents, len(tags))
    return _network(model, allowed_transitions(tags), problem_type, slot_weight)


def _network(
    model: JointModel, allowed: np.ndarray, problem_type: str, slot_weight: float
) -> Network:
    ids = len(model.encoder.sizes)
    label_loss, label_predict = classification(problem_type, model.intents)

    def init(key):
        return model.init(key, jnp.zeros((4, ids), jnp.int32), jnp.ones(4, bool))["params"]

    def logits(params, unit):
        return model.apply({"params": params}, unit["tokens"], unit["mask"])

    def loss(params, unit):
        intent, tags = logits(params, unit)
        whole = 0.0
        if intent is not None:
            own = {"label": unit["intent"]} if problem_type == SINGLE else {}
            whole = label_loss(intent, {**unit, **own}, None)
        if tags is None:
            return whole
        keep = unit["mask"].astype(jnp.float32)
        per_token = _cross_entropy(tags, unit["tags"]) * keep
        return whole + slot_weight * per_token.sum() / jnp.maximum(keep.sum(), 1.0)

    def predict(params, units):
        def one(unit):
            intent, tags = logits(params, unit)
            label = None if intent is None else label_predict(intent, unit, None)
            return label, None if tags is None else viterbi(tags, unit["mask"], allowed)

        return jax.vmap(one)({name: units[name] for name in ("tokens", "mask")})

    return Network(init, loss, jax.jit(predict), logits)


def _cross_entropy(scores, label):
    # A product with a one-hot row: the gradient of a gather is a scatter, slow under `vmap`.
    chosen = jax.nn.one_hot(label, scores.shape[-1], dtype=scores.dtype)
    return -(nn.log_softmax(scores) * chosen).sum(-1)
