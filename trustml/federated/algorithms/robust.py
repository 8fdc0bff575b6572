"""Means that a few wrong clients cannot move far."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from trustml.federated.algorithms.algorithm import Algorithm


def robust(algorithm: Algorithm, combine: Callable) -> Algorithm:
    """The algorithm with `median()`, `trimmed_mean(0.1)` or `krum(2)` in place of the mean.

    All answers of a round are in memory at once, and every client counts alike.

    >>> import optax
    >>> from trustml.federated.algorithms.fedavg import fedavg
    >>> robust(fedavg(lambda w, row: w * row, optax.sgd(0.1)), median()).bounded
    False

    Raises:
      ValueError: Its clients keep a state that only a mean keeps true to the server's, or it is
        asynchronous.
    """
    if algorithm.stale is not None:
        raise ValueError("`algorithm` must wait for a round's answers, got an asynchronous one.")
    if algorithm.keep is not None:
        raise ValueError(
            "`algorithm` must keep no state at the clients, which only a mean keeps true to the "
            "server's, got one that does."
        )
    return dataclasses.replace(algorithm, combine=combine, bounded=False, weights="clients")


def median() -> Callable:
    """The median of each value over clients.

    >>> median()(jnp.array([1.0, 2.0, 9.0, 7.0]), jnp.array([1.0, 1.0, 1.0, 0.0])).tolist()
    2.0

    References:
      Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, 2018.
    """

    def combine(values: PyTree, weights: Float[Array, " client"]) -> PyTree:
        def one(leaf):
            ranked, number = _ranked(leaf, weights)
            low = jnp.take(ranked, (number - 1) // 2, axis=0, mode="clip")
            high = jnp.take(ranked, number // 2, axis=0, mode="clip")
            return jnp.where(number > 0, (low + high) / 2, 0.0)

        return jax.tree.map(one, values)

    return combine


def trimmed_mean(part: float) -> Callable:
    """The mean of each value without its lowest and highest `part` of the clients.

    >>> trimmed_mean(0.34)(jnp.array([1.0, 2.0, 9.0]), jnp.ones(3)).tolist()
    2.0

    Raises:
      ValueError: `part` is not at least 0 and below 0.5.

    References:
      Yin et al., 2018.
    """
    if not (0 <= part < 0.5):
        raise ValueError(f"`part` must be at least 0 and below 0.5, got {part!r}.")

    def combine(values: PyTree, weights: Float[Array, " client"]) -> PyTree:
        def one(leaf):
            ranked, number = _ranked(leaf, weights)
            cut = jnp.floor(part * number.astype(jnp.float32)).astype(jnp.int32)
            place = jnp.arange(leaf.shape[0])
            kept = ((place >= cut) & (place < number - cut)).astype(jnp.float32)
            kept = kept.reshape(-1, *(1,) * (leaf.ndim - 1))
            return jnp.where(kept > 0, ranked, 0.0).sum(0) / jnp.maximum(kept.sum(), 1.0)

        return jax.tree.map(one, values)

    return combine


def krum(wrong: int, *, keep: int = 1) -> Callable:
    """The mean of the `keep` answers that are nearest to their neighbours; multi-Krum above 1.

    >>> krum(1)(jnp.array([1.0, 1.1, 0.9, 50.0]), jnp.ones(4)).tolist()
    1.0

    Args:
      wrong: Clients that may be wrong; a round must have at least 2 `wrong` + 3 answers, which
        is not checked where clients drop out.
      keep: Answers whose mean is taken.

    Raises:
      ValueError: A number is out of range.

    References:
      Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
      2017.
    """
    if not (wrong >= 0 and keep >= 1):
        raise ValueError(f"`wrong` and `keep` must be at least 0 and 1, got {wrong!r}, {keep!r}.")

    def combine(values: PyTree, weights: Float[Array, " client"]) -> PyTree:
        there = weights > 0
        flat = jnp.concatenate(
            [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(values)], axis=1
        )
        flat = jnp.where(there[:, None], flat, 0.0)
        number = jnp.sum(there)
        distance = jnp.sum(jnp.square(flat[:, None] - flat[None]), -1)
        apart = there[:, None] & there[None] & ~jnp.eye(flat.shape[0], dtype=bool)
        ranked = jnp.sort(jnp.where(apart, distance, jnp.inf), axis=1)
        near = jnp.arange(flat.shape[0])[None] < jnp.maximum(number - wrong - 2, 1)
        score = jnp.where(near & jnp.isfinite(ranked), ranked, 0.0).sum(1)
        chosen = jnp.argsort(jnp.where(there, score, jnp.inf))
        rank = jnp.zeros_like(chosen).at[chosen].set(jnp.arange(len(chosen)))
        kept = (there & (rank < keep)).astype(jnp.float32)
        share = kept / jnp.maximum(kept.sum(), 1.0)

        def one(leaf):
            clean = jnp.where(kept.reshape(-1, *(1,) * (leaf.ndim - 1)) > 0, leaf, 0.0)
            return jnp.tensordot(share, clean, axes=1, precision="highest")

        return jax.tree.map(one, values)

    return combine


def _ranked(leaf, weights):
    """Values over clients in ascending order, those that do not count last; and how many count."""
    there = (weights > 0).reshape(-1, *(1,) * (leaf.ndim - 1))
    return jnp.sort(jnp.where(there, leaf, jnp.inf), axis=0), jnp.sum(weights > 0)
