"""Two backward passes that hold what ordinary training holds: norms first, then weighted sums."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.engine import Bounded, Run, book_keep, read_for
from trustml.bookkeeping.meters import Weights
from trustml.bookkeeping.rules import contracted


def auto(loss, trained, frozen, unit):
    """`book_keep`; but `ghost` where the loss rematerialises, as it does for want of memory.

    >>> loss = lambda w, frozen, x: (jnp.sum((w - x) ** 2), None)
    >>> arrays = (jnp.zeros(2), (), (jnp.ones((3, 2)),))
    >>> [type(auto(each, *arrays)).__name__ for each in (loss, jax.checkpoint(loss))]
    ['Kept', 'Ghost']
    """
    reading = read_for(loss, trained, frozen, unit)
    compute = ghost if reading.rematerialises else book_keep
    return compute(loss, trained, frozen, unit, reading=reading)


class _Sums(NamedTuple):
    """Weighted sums of one turn, see `Run.leaves`."""

    tapped: list
    metered: list


class _Turn(NamedTuple):
    """State of the loop over backward passes."""

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
      Every turn of the loop takes norms and sums from the same cotangents, those of the unit's own
      loss. Its sums are used only if the norms of that very turn, times the factors that it
      applied, are within the bounds; else the units that exceed one are dropped, in another turn.
      So what a unit contributes is bounded whatever a compiler makes of two passes, and whether or
      not a device repeats its results to the bit.
    """

    loss: Callable
    trained: Any
    frozen: Any
    unit: tuple
    rules: Any = None
    reading: Any = None

    def bounded(self, bounding) -> Bounded:
        """As `Kept.bounded`."""
        run = Run(*self, metering=(bounding.of_leaf, _no_weights(bounding)))
        turn = functools.partial(_next, run, bounding)
        blank = jnp.zeros((bounding.num_bounds, bounding.group.shape[0]), jnp.float32)
        all_finite = jnp.ones(bounding.group.shape, bool)
        start = _Turn(jnp.int32(0), jnp.bool(True), blank, all_finite, blank, blank, None)
        sums = jax.eval_shape(turn, start).sums
        start = start._replace(
            sums=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
        )
        end = jax.lax.while_loop(lambda state: state.again, turn, start)
        sums = run.leaves(end.sums.tapped, end.sums.metered, bounding.num_groups)
        return Bounded(end.norms, end.used, sums, run.loss, run.aux)


def _next(run: Run, bounding, state: _Turn) -> _Turn:
    """One backward pass: the first has no weights yet, so that it takes no sums."""
    weights = bounding.weights(state.factors)
    found = run.backward(Weights(jnp.moveaxis(weights, 2, 0), state.finite.astype(jnp.float32)))
    of_leaf = [weights[owner] for owner in bounding.of_leaf]
    tapped = [
        contracted(part, [of_leaf[root.index] for root in cluster.roots], state.finite)
        for cluster, part in zip(run.tapped, found.parts, strict=True)
    ]
    norms = bounding.norms(run.squares(found))
    exceeding = bounding.exceeding(norms, state.factors)
    first = state.number == 0
    return _Turn(
        state.number + 1,
        first | jnp.any(exceeding),
        jnp.where(first, bounding.factors(norms), jnp.where(exceeding, 0.0, state.factors)),
        jnp.where(first, bounding.finite(norms), state.finite & ~exceeding),
        jnp.where(first, norms, state.norms),
        state.factors,
        _Sums(tapped, [port.sums for port in found.ports]),
    )


def _no_weights(bounding) -> Weights:
    num_units = bounding.group.shape[0]
    shape = (num_units, bounding.num_bounds, bounding.num_groups)
    return Weights(jnp.zeros(shape, jnp.float32), jnp.zeros(num_units, jnp.float32))


def ghost(loss, trained, frozen, unit, rules=None, reading=None) -> Ghost:
    """Norms by one backward pass, weighted sums by another, neither holding what it passed by.

    Scan and remat stay what they are, so memory does. The gradient of weighted losses, which others
    take for the second pass, would not keep the bound: where a softmax saturates, c - pc is not
    c(1 - p) in float32, and units exceeded their bounds by 25 % and more.

    Arguments are those of `book_keep`.

    >>> from trustml.clipping.bounding import Bounding
    >>> from trustml.clipping.bounds import bounds_for
    >>> loss = lambda w, frozen, x: (0.5 * jnp.sum((w - x) ** 2), None)
    >>> bounding = Bounding(bounds_for(1.0, jnp.zeros(2)), "flat", jnp.zeros(1, jnp.int32), 1)
    >>> found = ghost(loss, jnp.zeros(2), (), (jnp.array([[3.0, 4.0]]),)).bounded(bounding)
    >>> [round(value, 3) for value in found.sums[0][0].tolist()]
    [-0.6, -0.8]

    References:
      Li et al., Large Language Models Can Be Strong Differentially Private Learners, 2021.
    """
    return Ghost(loss, trained, frozen, unit, rules, reading)
