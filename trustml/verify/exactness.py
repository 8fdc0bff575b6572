"""Are clipped sums and norms those of the definition? One table over all architectures."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trustml.clipping import clipped_grad, combine, partition
from trustml.verify.architectures import ARCHITECTURES, Case, names


class Exactness(NamedTuple):
    """How far one strategy is from the definition on one architecture."""

    architecture: str
    strategy: str
    sum_error: float  # of the clipped sum, relative to its norm
    norm_error: float  # largest relative error of a unit's norm
    below: float  # how far any norm fell below the true one, relative; rounding only
    tolerance: float
    fallbacks: tuple[str, ...]  # parameters that no rule covers

    @property
    def holds(self) -> bool:
        """Whether every error is within the tolerance."""
        return max(self.sum_error, self.norm_error) <= self.tolerance


class _Definition(NamedTuple):
    """Algorithm 1 of Abadi et al. 2016, one unit at a time, summed in float64 NumPy."""

    clip_norm: float  # the median norm, so that half the units are clipped
    norms: np.ndarray
    sums: list[np.ndarray]


def definition(case: Case) -> _Definition:
    """The result that fast strategies must give, from per-unit gradients by `jax.grad` alone."""
    trained, frozen = partition(case.params, case.options.get("trainable"))
    keys: tuple = ()
    if case.key is not None:
        units = jax.tree.leaves(case.units)[0].shape[0]
        keys = (jax.vmap(lambda place: jax.random.fold_in(case.key, place))(jnp.arange(units)),)

    def loss(trained, *unit):
        return case.loss(combine(trained, frozen), *unit)

    grads = jax.jit(jax.vmap(jax.grad(loss), (None, 0, *(0 for _ in keys))))(
        trained, case.units, *keys
    )
    wide = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(grads)]
    norms = np.sqrt(sum(np.sum(leaf.reshape(len(leaf), -1) ** 2, axis=1) for leaf in wide))
    clip_norm = float(np.median(norms))
    factors = np.minimum(1.0, clip_norm / norms)
    return _Definition(clip_norm, norms, [np.tensordot(factors, leaf, 1) for leaf in wide])


def compare(name: str, strategies=("bookkeeping", "ghost")) -> list[Exactness]:
    """Compares strategies with the definition on one architecture."""
    # Other libraries' networks promote dtypes and ranks on their own.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        case = ARCHITECTURES[name]()
        want = definition(case)
        return [_compare(name, case, want, strategy) for strategy in strategies]


def _compare(name: str, case: Case, want: _Definition, strategy: str) -> Exactness:
    grad = clipped_grad(case.loss, clip_norm=want.clip_norm, strategy=strategy, **case.options)
    sums, info = grad(case.params, case.units, None, case.key)
    got = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(sums)]
    apart = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(got, want.sums, strict=True)))
    size = np.sqrt(sum(np.sum(leaf**2) for leaf in want.sums))
    relative = np.asarray(info.norm, np.float64) / want.norms - 1
    rows = grad.explain(case.params, case.units, case.key)
    return Exactness(
        name,
        strategy,
        float(apart / size),
        float(np.max(np.abs(relative))),
        float(max(0.0, -np.min(relative))),
        case.tolerance,
        tuple(dict.fromkeys(row.parameter for row in rows if row.fallback)),
    )


def all_architectures():
    """Yields the comparison of every architecture that can run here."""
    for name in names():
        yield from compare(name)
