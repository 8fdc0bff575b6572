"""The learned attack: a classifier that was trained to tell members on shadow models."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from trustml.audit.attacks.checks import check_reference
from trustml.audit.attacks.shadows import train_shadows
from trustml.audit.attacks.signals import class_loss
from trustml.plan.checks import check_count, check_positive


def learned_attack(
    target: ArrayLike,
    shadows: ArrayLike,
    membership: ArrayLike,
    labels: ArrayLike,
    *,
    key: Array,
    hidden: int = 32,
    steps: int = 1000,
    batch: int = 256,
    learning_rate: float = 3e-3,
) -> Float[np.ndarray, " unit"]:
    """Scores of a classifier that learned from shadow models to tell members from others.

    It reads the loss, the log-probabilities of the other classes from high to low, and the label
    as a row of zeros and a one, in place of the paper's attack model for each class. It does not
    know which unit it reads of, so it cannot tell easy ones from members: `lira` and `rmia` can.

    >>> logits = np.array([[4.0, 0.0], [0.5, 0.0]])  # members are fitted, others are not
    >>> shadows = np.stack([logits, logits[::-1]])
    >>> membership = np.array([[True, False], [False, True]])
    >>> scores = learned_attack(
    ...     logits, shadows, membership, [0, 0], key=jax.random.key(0), steps=50
    ... )
    >>> bool(scores[0] > scores[1])
    True

    Args:
      target: Logits of the model under attack, [unit, class].
      shadows: Logits of shadow models, [model, unit, class].
      membership: Who trained which shadow, truth values [model, unit].
      labels: The true class of each unit, integers [unit].
      key: A JAX key: of the start and the batches.
      hidden: Width of the one hidden layer; 0 for logistic regression.
      steps: Of Adam.
      batch: Pairs of a shadow and a unit per step.
      learning_rate: Of Adam.

    Returns:
      Float64 [unit], the log-odds of membership; higher is more like a member. Private.

    Raises:
      ValueError: Shapes that do not go together, another number of classes, a logit that is not
        finite, shadows whose units are all members or all others, or a number out of range.

    References:
      Shokri, Stronati, Song and Shmatikov, Membership Inference Attacks Against Machine Learning
      Models, 2017.
    """
    check_positive("learning_rate", learning_rate)
    if isinstance(hidden, bool) or not isinstance(hidden, int) or not (hidden >= 0):
        raise ValueError(f"`hidden` must be an integer, 0 for no hidden layer, got {hidden!r}.")
    found = check_reference(target, shadows, membership, axes=(2,))
    if found.membership.all() or not found.membership.any():
        raise ValueError("`membership` must hold members and others, got one kind alone.")
    seen = _features(found.shadows, labels).reshape(found.membership.size, -1)
    middle, spread = seen.mean(0), seen.std(0)
    spread[spread == 0] = 1.0  # a class that never came, say: it tells nothing
    units = {
        "x": ((seen - middle) / spread).astype(np.float32),
        "y": found.membership.ravel().astype(np.float32),
    }
    params = _trained(units, key, (seen.shape[1], hidden), float(learning_rate), steps, batch)
    asked = ((_features(found.target, labels) - middle) / spread).astype(np.float32)
    return np.asarray(jax.vmap(_score, (None, 0))(params, jnp.asarray(asked)), np.float64)


def _trained(units, key, sizes, learning_rate, steps, batch) -> Any:
    """One model on all of the pairs: the shadows' own trainer serves, and compiles once."""
    check_count("steps", steps)
    check_count("batch", batch)
    init, optimizer = _parts(sizes, learning_rate)
    everyone = np.ones((1, len(units["y"])), bool)
    trained = train_shadows(
        *(_loss, optimizer, init, units),
        models=1,
        key=key,
        steps=steps,
        batch=batch,
        membership=everyone,
        devices=jax.local_devices()[:1],
    )
    return jax.tree.map(lambda leaf: leaf[0], trained.params)


def _features(logits: Float[np.ndarray, "*rows class"], labels: ArrayLike):
    """The loss, the other classes' log-probabilities from high to low, the label: [*rows, ...]."""
    loss = class_loss(logits, labels)  # refuses labels that are wrong
    classes = logits.shape[-1]
    truth = np.broadcast_to(np.asarray(labels), loss.shape)[..., None]
    own = np.take_along_axis(logits, truth, -1)
    chances = logits - own - loss[..., None]
    mine = np.arange(classes) == truth
    others = -np.sort(np.where(mine, np.inf, -chances), -1)[..., : classes - 1]
    return np.concatenate([loss[..., None], others, mine.astype(np.float64)], -1)


@functools.lru_cache(maxsize=32)
def _parts(sizes: tuple[int, int], learning_rate: float):
    """The start and the optimizer of a size; the same ones, so that programs are found again."""
    inputs, hidden = sizes

    def init(key):
        if not hidden:
            return {"out": jnp.zeros(inputs), "bias": jnp.zeros(())}
        one, two = jax.random.split(key)
        return {
            "in": jax.random.normal(one, (inputs, hidden)) / jnp.sqrt(jnp.float32(inputs)),
            "shift": jnp.zeros(hidden),
            "out": jax.random.normal(two, (hidden,)) / jnp.sqrt(jnp.float32(hidden)),
            "bias": jnp.zeros(()),
        }

    return init, optax.adam(learning_rate)


def _score(params, x):
    """Log-odds that the row is of a member."""
    if "in" in params:
        x = jnp.tanh(x @ params["in"] + params["shift"])
    return jnp.dot(x, params["out"]) + params["bias"]


def _loss(params, unit):
    """Cross-entropy of membership."""
    score = _score(params, unit["x"])
    return jax.nn.softplus(score) - unit["y"] * score
