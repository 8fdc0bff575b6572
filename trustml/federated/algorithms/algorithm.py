"""What an algorithm is: a pair of pure functions at the server, and one at the client."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from trustml.federated.local import LocalTraining

ROWS, CLIENTS = "rows", "clients"


class Answer(NamedTuple):
    """What a client sends, and what it keeps."""

    value: PyTree  # float32: weighted and summed over clients
    loss: Float[Array, ""]
    own: PyTree = None  # its state for its next round


class Seen(NamedTuple):
    """What the server knows of a round beside the mean of the values."""

    answered: Float[Array, ""]  # clients
    population: int


def _nothing(trained: PyTree) -> None:
    """No state beside the parameters."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Algorithm:
    """A federated algorithm.

    Args:
      local: The local training of a client.
      init: `init(trained)`, the server's state before the first round.
      answer: `answer(params, server, own, batches, key)`, an `Answer` of one client.
      apply: `apply(trained, server, mean, seen)` to `(trained, server)`, from the mean value.
      keep: `keep(params)`, a client's state before its first round; None where it keeps none.
      weights: "rows" or "clients": what a client counts by.
      bounded: Whether the value is a change of the parameters alone, which a plan can bound.
      combine: `combine(values, weights)` takes the place of the weighted mean; values are
        [client, ...], and who does not count has weight 0.
      stale: `stale(versions)`, factors of answers that start from older parameters; None where all
        start from the newest.
    """

    local: LocalTraining
    init: Callable = _nothing
    answer: Callable
    apply: Callable
    keep: Callable | None = None
    weights: str = ROWS
    bounded: bool = True
    combine: Callable | None = None
    stale: Callable | None = None

    def __post_init__(self):
        if self.weights not in (ROWS, CLIENTS):
            raise ValueError(f'`weights` must be "rows" or "clients", got {self.weights!r}.')


def zeros_like(tree: PyTree) -> PyTree:
    """Zeros in float32, None where there is no leaf."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), tree)


def moved(trained: PyTree, change: PyTree, rate: float = 1.0) -> PyTree:
    """Parameters plus `rate` times a float32 change, in their own types."""
    return jax.tree.map(
        lambda leaf, part: (leaf.astype(jnp.float32) + rate * part).astype(leaf.dtype),
        trained,
        change,
    )
