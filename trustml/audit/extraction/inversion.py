"""Model inversion: gradient descent on mixtures of words until the model finds them in place."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from trustml.audit.extraction.white_box import Target, WhiteBox, mixed_loss, vectors_of
from trustml.plan.checks import check_count, check_positive


class Inversion(NamedTuple):
    """The result of an attack from each of its starts."""

    codes: Int[np.ndarray, "restart position"]  # places among the candidates
    losses: Float[np.ndarray, " restart"]  # of the sentence with that code, nats per word
    steps: Int[np.ndarray, " restart"]

    @property
    def best(self) -> tuple[int, ...]:
        """The code of the lowest loss, the attacker's answer; it is picked without the secret."""
        return tuple(self.codes[np.argmin(self.losses)].tolist())


class Descent(NamedTuple):
    """How the attack descends. The numbers are those of a public replication of the paper.

    Args:
      learning_rate: Of Adam.
      steps: At most.
      patience: Steps without a change of the code after which a start is done.
      temperature: The mixture is softmax(logits / temperature).
    """

    learning_rate: float = 0.02
    steps: int = 1000
    patience: int = 100
    temperature: float = 1.0


class _Search(NamedTuple):
    logits: Float[Array, "position candidate"]
    adam: optax.OptState
    code: Int[Array, " position"]
    unchanged: Int[Array, ""]
    step: Int[Array, ""]


def relaxed_loss(
    box: WhiteBox,
    params: PyTree,
    target: Target,
    logits: Float[Array, "position candidate"],
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, ""]:
    """The loss that the attack descends: that of words mixed by softmax(logits / temperature).

    >>> target = Target(
    ...     tokens=jnp.zeros((1, 1), jnp.int32), chars=jnp.zeros((1, 1), jnp.int32),
    ...     tags=jnp.zeros(2, jnp.int32),
    ...     candidate_tokens=jnp.array([[1], [2]]), candidate_chars=jnp.zeros((2, 1), jnp.int32),
    ... )
    >>> box = WhiteBox(  # a model that likes token 2
    ...     represent=lambda params, tokens, chars: tokens.astype(jnp.float32),
    ...     loss=lambda params, words, tags: (words[-1, 0] - 2.0) ** 2,
    ... )
    >>> float(relaxed_loss(box, None, target, jnp.zeros((1, 2))))  # half of each: 1.5
    0.25
    """
    weights = jax.nn.softmax(logits / jnp.float32(temperature))
    return mixed_loss(box, params, target, vectors_of(box, params, target), weights)


def invert_model(
    params: PyTree,
    box: WhiteBox,
    target: Target,
    *,
    key: Array,
    restarts: int = 50,
    descent: Descent | None = None,
) -> Inversion:
    """Reads the secret of a canary out of the weights, by the attack of Parikh et al.

    Each place of the secret holds a mixture of the candidates: their expected word vector and their
    expected vector of letters. Adam moves the mixtures towards a lower loss of the canary's tags;
    the code is the heaviest candidate at each place. All starts run at once in one program.

    What it finds is a lower bound on what leaks; see `score_codes` for a stronger attack.

    >>> target = Target(
    ...     tokens=jnp.zeros((1, 1), jnp.int32), chars=jnp.zeros((1, 1), jnp.int32),
    ...     tags=jnp.zeros(2, jnp.int32),
    ...     candidate_tokens=jnp.array([[1], [2]]), candidate_chars=jnp.zeros((2, 1), jnp.int32),
    ... )
    >>> box = WhiteBox(  # a model that likes token 2
    ...     represent=lambda params, tokens, chars: tokens.astype(jnp.float32),
    ...     loss=lambda params, words, tags: (words[-1, 0] - 2.0) ** 2,
    ... )
    >>> invert_model(None, box, target, key=jax.random.key(0), restarts=2).best
    (1,)

    Args:
      params: Weights of the trained model.
      box: Its inside, see `open_tagger`.
      target: What the attacker knows, see `attack_target`.
      key: JAX key of the starts, which are Glorot-uniform.
      restarts: Starts.
      descent: Settings; those of `Descent` by default.

    Raises:
      ValueError: A number is out of range.

    References:
      Parikh, Dupuy and Gupta, Canary Extraction in Natural Language Understanding Models, 2022.
    """
    descent = Descent() if descent is None else descent
    check_count("restarts", restarts)
    _check_descent(descent)
    found = _inverted(box, target, restarts, descent, params, key)
    return Inversion(*map(np.asarray, found))


def _check_descent(descent: Descent) -> None:
    """Refuses settings out of range."""
    for name in ("steps", "patience"):
        check_count(name, getattr(descent, name))
    for name in ("learning_rate", "temperature"):
        check_positive(name, getattr(descent, name))


@functools.partial(jax.jit, static_argnames=("box", "restarts"))
def _inverted(box, target, restarts, descent, params, key):
    vectors = vectors_of(box, params, target)

    def loss(weights):
        return mixed_loss(box, params, target, vectors, weights)

    def search(key):
        found = _descend(loss, (target.length, target.candidates), descent, key)
        return found.code, loss(jax.nn.one_hot(found.code, target.candidates)), found.step

    # Under vmap a start that is done is kept as it is until the last one is.
    return jax.vmap(search)(jax.random.split(key, restarts))


def _descend(loss, shape, descent, key):
    """One start to its end."""
    adam = optax.adam(descent.learning_rate)
    gradient = jax.grad(
        lambda logits: loss(jax.nn.softmax(logits / jnp.float32(descent.temperature)))
    )

    def going(search):
        return (search.step < descent.steps) & (search.unchanged < descent.patience)

    def move(search):
        slope = gradient(search.logits)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam promotes its step count
            updates, state = adam.update(slope, search.adam)
        logits = search.logits + updates
        code = jnp.argmax(logits, -1)
        same = (code == search.code).all()
        unchanged = jnp.where(same, search.unchanged + 1, 0)
        return _Search(logits, state, code, unchanged, search.step + 1)

    start = jax.nn.initializers.glorot_uniform()(key, shape, jnp.float32)
    zero = jnp.int32(0)
    first = _Search(start, adam.init(start), jnp.argmax(start, -1), zero, zero)
    return jax.lax.while_loop(going, move, first)
