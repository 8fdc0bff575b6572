"""Clipped gradients: the bounded sum of per-unit gradients of a loss."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from trustml.bookkeeping import auto, book_keep, clusters_of, ghost, read_loss
from trustml.clipping.explain import Explanation, explanation
from trustml.clipping.losses import check_loss
from trustml.clipping.sums import BoundedSum, PerUnit, check_units, stacked_values
from trustml.clipping.trainable import combine, partition
from trustml.clipping.tuning import tuned

TUNE = "tune"
STRATEGIES = ("auto", "bookkeeping", "ghost", "gram", "materialise", "vmap", TUNE)
_PREFERRED = {"gram": ("gram",), "materialise": ("fitting",)}  # rules, to the cost model's choice
_COMPUTE: dict[str, Callable] = {
    "auto": auto,
    "bookkeeping": book_keep,
    "ghost": ghost,
    **{name: functools.partial(book_keep, rules=rules) for name, rules in _PREFERRED.items()},
}


class ClippedGrad(BoundedSum):
    """Sums of clipped per-unit gradients; see `clipped_grad`."""

    def __init__(self, loss_fn: Callable, *, strategy: str, has_aux: bool, trainable, **options):
        if strategy not in STRATEGIES:
            raise ValueError(f"`strategy` must be one of {STRATEGIES}, got {strategy!r}.")
        if not callable(loss_fn):
            raise TypeError(f"`loss_fn` must be a function, got {loss_fn!r}.")
        self.loss_fn = loss_fn
        self.strategy = strategy
        self.has_aux = has_aux
        self.trainable = trainable
        self._options = options
        super().__init__(self._gradients, **options)

    def __call__(self, params, units, group=None, key=None, clip_norm=None):
        """Sums the clipped gradients of `units` within groups; see `clipped_grad`."""
        if self.strategy == TUNE:
            self.tune(params, units, key)
        return super().__call__(params, units, group, key, clip_norm)

    def tune(self, params, units, key=None) -> dict[str, float]:
        """Measures the strategies that may be the quickest, and stays with the best.

        On made-up units of the shapes of `units`: the choice says nothing about the data.

        Args:
          params: As in a call; arrays.
          units: As in a call; only shapes and types are read.
          key: As in a call.

        Returns:
          Milliseconds per call by strategy; `strategy` is then the quickest one.
        """
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, units))):
            raise ValueError(
                f"`strategy` {TUNE!r} measures on arrays and cannot under jit: call "
                "`grad.tune(params, units)` before, which settles it."
            )
        found = tuned(self._with, params, units, key)
        self.strategy = min(found, key=lambda name: found[name])
        return found

    def _with(self, strategy: str) -> "ClippedGrad":
        held = {"has_aux": self.has_aux, "trainable": self.trainable, **self._options}
        return ClippedGrad(self.loss_fn, strategy=strategy, **held)

    def _gradients(self, params, units, keys) -> PerUnit:
        trained, frozen = partition(params, self.trainable)
        rest = () if keys is None else (keys,)
        check_loss(self.loss_fn, params, units, keys, has_aux=self.has_aux)
        unit = (units, *rest)
        if self.strategy == "vmap":
            return _per_unit_vmap(self._loss_of_halves, trained, frozen, unit)
        values = _COMPUTE[self.strategy](self._loss_of_halves, trained, frozen, unit)
        return PerUnit(values, jax.tree.structure(trained))

    def explain(self, params, units, key=None) -> Explanation:
        """A table of how each parameter's norms and sums are computed; print it.

        Args:
          params: As in a call; arrays or `jax.ShapeDtypeStruct`.
          units: As in a call.
          key: As in a call.
        """
        trained, frozen = partition(params, self.trainable)
        keys = () if key is None else (jax.random.split(key, check_units(units)),)
        unit = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (units, *keys)
        )
        check_loss(self.loss_fn, params, units, *keys, has_aux=self.has_aux)
        reading = read_loss(self._loss_of_halves, trained, frozen, unit)
        rules = _PREFERRED.get(self.strategy)
        clusters = clusters_of(reading.sites, check_units(units), rules)
        return explanation(trained, self.strategy, clusters)

    def _loss_of_halves(self, trained, frozen, *unit):
        """Always `(loss, aux)`, so that the strategies know one form."""
        result = self.loss_fn(combine(trained, frozen), *unit)
        return result if self.has_aux else (result, None)


def _per_unit_vmap(loss, trained, frozen, unit) -> PerUnit:
    """Per-unit gradients one by one under vmap: the oracle."""
    grad = jax.value_and_grad(loss, has_aux=True)
    (losses, aux), values = jax.vmap(functools.partial(grad, trained, frozen))(*unit)
    return stacked_values(values, losses.astype(jnp.float32), aux)


def clipped_grad(
    loss_fn: Callable,
    *,
    clip_norm,
    strategy: str = "auto",
    num_groups: int = 1,
    physical_batch_size: int | None = None,
    has_aux: bool = False,
    trainable=None,
    clipping: str = "flat",
) -> ClippedGrad:
    """Sums per-unit gradients, each clipped, within groups.

    >>> grad = clipped_grad(lambda w, x: 0.5 * (w - x) ** 2, clip_norm=1.0)
    >>> sums, info = grad(jnp.array(0.0), jnp.array([0.5, 8.0]), group=jnp.array([0, 0]))
    >>> float(sums.round(4)), grad.sensitivity
    (-1.5, 1.0)

    Args:
      loss_fn: `loss_fn(params, unit) -> scalar` for one unit, which has no batch axis; called with
        a third argument, the unit's own key, when the result is called with a key.
      clip_norm: L2 bound of one unit's gradient: a float, or a pytree prefix of the trained
        parameters for per-layer bounds. Infinity is allowed where no noise follows.
      strategy: `bookkeeping` computes norms and clipped sums in one backward pass without
        per-unit gradients; `ghost` in two, holding what ordinary training holds (of losses in
        float32 without `jax.custom_vjp`; others it leaves to book-keeping); `auto` is
        book-keeping, or ghost where the loss rematerialises. `gram` and `materialise` are
        book-keeping that prefers Gram products, or per-unit gradients where they are small, to the
        cost model's choice; `tune` measures which of all these is quickest, once; `vmap` builds
        every per-unit gradient, as the oracle.
      num_groups: With more than one, every leaf of the sums has a leading group axis.
      physical_batch_size: Units computed at a time; the result does not depend on it beyond
        rounding.
      has_aux: The loss returns `(loss, aux)`; `info.aux` holds it, stacked over units.
      trainable: A mask or a predicate on names such as `encoder/0/kernel`: the leaves that are
        differentiated. The others, integer leaves too, are passed through; their sums are None.
      clipping: `flat` for min(1, C / norm), `automatic` for C / (norm + 0.01) (AUTO-S),
        `automatic_v` for C / norm (AUTO-V).

    Returns:
      A function of `(params, units, group=None, key=None)` to `(sums, info)`: `sums` in float32,
      shaped like the trained parameters; `info` a `UnitInfo`, private.

    Guarantee:
      Adding or removing one unit moves `sums` by at most `sensitivity` in l2 norm, in exact
      arithmetic; the norms that are clipped are upper bounds of the true ones. A unit whose
      gradient or norm is not finite in float32 contributes zero.

    Raises:
      ValueError: An option is out of range.
      TypeError: The loss is not a floating scalar.

    References:
      Abadi et al., Deep Learning with Differential Privacy, 2016; Bu et al., Differentially
      Private Optimization on Large Model at Small Cost, 2022 (book-keeping); Bu et al., Automatic
      Clipping, 2023.
    """
    return ClippedGrad(
        loss_fn,
        strategy=strategy,
        has_aux=has_aux,
        trainable=trainable,
        clip_norm=clip_norm,
        num_groups=num_groups,
        physical_batch_size=physical_batch_size,
        clipping=clipping,
    )
