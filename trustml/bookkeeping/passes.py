"""Two backward passes that hold what ordinary training holds: norms first, then weighted sums."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.engine import Bounded, Run, book_keep, read_for
from trustml.bookkeeping.meters import Weights
from trustml.bookkeeping.rules import contracted


def auto(loss, trained, frozen, unit):
    """`book_keep`; but `ghost` where the loss rematerialises, as it does for want of memory."""
    reading = read_for(loss, trained, frozen, unit)
    compute = ghost if reading.rematerialises else book_keep
    return compute(loss, trained, frozen, unit, reading=reading)


class _Sums(NamedTuple):
    """Weighted sums of one turn, see `Run.leaves`."""

    tapped: list
    metered: list


class _Turn(NamedTuple):
    """Where the loop over backward passes stands."""

    number: Any
    again: Any  # whether another turn is needed
    factors: Any  # [bound, unit], of the next turn
    finite: Any  # [unit]
    norms: Any  # [bound, unit], as the first turn found them
    used: Any  # factors of the last turn
    sums: Any  # of the last turn


class Ghost(NamedTuple):
    """A loss whose weighted sums are taken on a later backward pass than its norms.

    Guarantee:
      Every turn of the loop takes norms and sums from the same cotangents, which are those of the
      unit's own loss. A turn's sums are used only if the norms of that very turn, times the factors
      that it applied, are within the bounds; a unit that exceeds one is dropped, and another turn
      is made. So a unit's contribution is bounded whatever a compiler makes of two passes, and
      whether or not a device repeats its results to the bit.

      Scaling the loss instead does not bound it: where a softmax saturates, c - pc is not c(1 - p)
      in float32, and a unit exceeded its bound by 25 %.
    """

    loss: Callable
    trained: Any
    frozen: Any
    unit: tuple
    rules: Any = None
    reading: Any = None

    def bounded(self, bounding) -> Bounded:
        """As `Kept.bounded`."""
        num_units = bounding.group.shape[0]
        run = Run(*self, metering=(bounding.of_leaf, _no_weights(bounding)))

        def turn(state: _Turn) -> _Turn:
            factors = state.factors
            weights = bounding.weights(factors)
            baton = Weights(jnp.moveaxis(weights, 2, 0), state.finite.astype(jnp.float32))
            found = run.backward(baton)
            sums = _Sums(
                [
                    contracted(
                        part,
                        [weights[bounding.of_leaf[root.index]] for root in cluster.roots],
                        state.finite,
                    )
                    for cluster, part in zip(run.tapped, found.parts, strict=True)
                ],
                [port.sums for port in found.ports],
            )
            norms = bounding.norms(run.squares(found))
            exceeding = bounding.exceeding(norms, factors)
            first = state.number == 0
            return _Turn(
                state.number + 1,
                first | jnp.any(exceeding),
                jnp.where(first, bounding.factors(norms), jnp.where(exceeding, 0.0, factors)),
                jnp.where(first, bounding.finite(norms), state.finite & ~exceeding),
                jnp.where(first, norms, state.norms),
                factors,
                sums,
            )

        blank = jnp.zeros((bounding.num_bounds, num_units), jnp.float32)
        start = _Turn(
            jnp.int32(0), jnp.bool(True), blank, jnp.ones(num_units, bool), blank, blank, None
        )
        sums = jax.eval_shape(turn, start).sums
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
        end = jax.lax.while_loop(lambda state: state.again, turn, start._replace(sums=zeros))
        sums = run.leaves(*end.sums, bounding.num_groups)
        return Bounded(end.norms, end.used, sums, run.loss, run.aux)


def _no_weights(bounding) -> Weights:
    num_units = bounding.group.shape[0]
    shape = (num_units, bounding.num_bounds, bounding.num_groups)
    return Weights(jnp.zeros(shape, jnp.float32), jnp.zeros(num_units, jnp.float32))


def ghost(loss, trained, frozen, unit, rules=None, reading=None) -> Ghost:
    """Norms by one backward pass, weighted sums by another, neither holding what it passed by.

    Scan and remat stay what they are, so memory does. Arguments are those of `book_keep`; the
    result is `Ghost`.

    References:
      Li et al., Large Language Models Can Be Strong Differentially Private Learners, 2021.
    """
    return Ghost(loss, trained, frozen, unit, rules, reading)
