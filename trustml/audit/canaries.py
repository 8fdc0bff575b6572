"""Gradient canaries: rows whose gradient is known, which the training itself carries along."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from trustml.clipping.losses import takes_key
from trustml.clipping.sums import check_units
from trustml.plan.checks import check_count, check_positive
from trustml.training.runs.environment import flat_names

_REAL = -1  # what `canary` says of a unit that is none


class GradientCanaries(NamedTuple):
    """A loss, weights and units with canaries in them."""

    loss: Callable  # for `private_step`; takes a key if the given loss does
    params: dict[str, Any]  # {"model": the given weights, "canaries": zeros(number)}
    units: dict[str, Any]  # {"unit": the given units and copies of one, "canary": int32 [unit]}
    included: Bool[np.ndarray, " canary"]  # the coins. Private: the attack must not read them

    @property
    def num_units(self) -> int:
        """Rows to plan for: the given ones and the canaries that are in."""
        return len(self.units["canary"])


class CanaryState(NamedTuple):
    """State of `canary_optimizer`. The records are sums with noise, as the weights are."""

    model: Any  # the state of the given optimizer
    records: Float[Array, "step canary"] | None  # noisy means at the canaries' coordinates
    step: Int[Array, ""]  # updates so far


def make_canaries(
    loss: Callable,
    params: PyTree,
    units: PyTree,
    *,
    number: int,
    size: float,
    rng: np.random.Generator,
    template: PyTree = None,
) -> GradientCanaries:
    """Adds `number` canaries, each of which a fair coin puts in or leaves out.

    The weights get a vector `canaries` that the model never reads. The gradient of canary i is
    `size` at coordinate i of that vector and zero elsewhere; that of a real unit is zero there. So
    canaries disturb neither the model nor each other, and what training does to one unit (bound,
    sampling, noise, division) can be read off one coordinate of the final weights.

    Train with `private_step(made.loss, canary_optimizer(...), plan)` on `made.params` and
    `made.units`, where the plan is for `made.num_units` units. What reads weights or units
    (`evaluate`, `shorten`, bounds per layer) finds the given ones under "model" and "unit"; for
    `trainable` there is `canary_trainable`.

    Costs: `number` more weights, which get noise as all do, and about number / 2 more units, which
    are sampled as all are, evaluations of the loss included, and add nothing to the model's
    gradient. At the same expected batch real units take part, and move the model, that much less.
    The audit is of the training as a mechanism, at its worst case: it does not say what this model
    remembers of its data.

    >>> loss, units = lambda w, x: (w - x) ** 2, np.array([1.0, 3.0], np.float32)
    >>> rng = np.random.default_rng(0)
    >>> made = make_canaries(loss, jnp.zeros(()), units, number=4, size=2.0, rng=rng)
    >>> made.num_units - int(made.included.sum()), made.params["canaries"].shape
    (2, (4,))

    Args:
      loss: As for `private_step`: `loss(params, unit)` or `loss(params, unit, key)`; with
        `has_aux` there, `(loss, aux)`.
      params: The model's weights.
      units: The whole data, leading axis = unit; the result holds a copy of it.
      number: Canaries tossed, in and out.
      size: L2 norm of a canary's gradient. Well above the clip norm, it tests the bound too.
      rng: Of the coins. A generator that is seeded by a number is for tests: who knows the seed
        knows the coins.
      template: What stands for canaries: a unit that is nobody's, as where its gradient is not
        finite all canaries contribute nothing. By default `public_template` finds one.

    Guarantee:
      Each canary is in with probability 1/2, independently, as `audit_canaries` needs. The audit
      takes `num_units` as public, as the plan does: it tells how many are in, and the scores do
      not read it.

    Raises:
      ValueError: A number is out of range, the units share no leading axis, or `template` is not
        shaped like a unit.
      TypeError: A number is of another kind.
    """
    check_count("number", number)
    included = rng.random(number) < 0.5
    return place_canaries(loss, params, units, included=included, size=size, template=template)


def place_canaries(
    loss: Callable,
    params: PyTree,
    units: PyTree,
    *,
    included: Bool[np.ndarray, " canary"],
    size: float,
    template: PyTree = None,
) -> GradientCanaries:
    """`make_canaries` with coins that were tossed before: of a run that goes on.

    >>> loss, units = lambda w, x: (w - x) ** 2, np.array([1.0, 3.0], np.float32)
    >>> coins = np.array([True, False, True])
    >>> made = place_canaries(loss, jnp.zeros(()), units, included=coins, size=2.0)
    >>> made.units["canary"].tolist()  # two real units, then the canaries that are in
    [-1, -1, 0, 2]

    Args:
      loss: As for `make_canaries`, like all that follow.
      params: The model's weights.
      units: The whole data.
      included: The coins, fair and independent, or the audit says nothing.
      size: L2 norm of a canary's gradient.
      template: What stands for canaries.

    Raises:
      ValueError: As for `make_canaries`.
    """
    check_positive("size", size)
    rows, more = check_units(units), int(included.sum())
    if template is None:
        template = public_template(loss, params, units)
    wanted, given = (
        {name: (leaf.shape, leaf.dtype) for name, leaf in flat_names(tree).items()}
        for tree in (jax.tree.map(lambda leaf: leaf[0], units), jax.tree.map(np.asarray, template))
    )
    if wanted != given:
        raise ValueError(f"`template` must be one unit, of {wanted}, got {given}.")
    marked = {
        "unit": jax.tree.map(lambda leaf, one: _extended(leaf, one, more), units, template),
        "canary": np.concatenate([np.full(rows, _REAL), np.flatnonzero(included)]).astype(np.int32),
    }
    extended = {"model": params, "canaries": jnp.zeros(len(included), jnp.float32)}
    return GradientCanaries(_marked(loss, float(size)), extended, marked, included)


def public_template(loss: Callable, params: PyTree, units: PyTree) -> PyTree:
    """A unit that is nobody's and has a finite gradient: all zeros, or with a one at first places.

    >>> public_template(lambda w, x: jnp.log(w * x[1]), jnp.ones(()), np.ones((5, 2), np.float32))
    Traceback (most recent call last):
    ValueError: `template` must be given...

    Args:
      loss: As for `make_canaries`.
      params: Weights, as public as the first ones are.
      units: Only their shapes and dtypes are read.

    Raises:
      ValueError: Neither has; the way out is a template of your own.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), units)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    for unit in (zeros, jax.tree.map(_with_a_one, zeros)):
        if _finite_gradient(loss, params, unit):
            return unit
    raise ValueError(
        "`template` must be given, got none: of units of zeros and ones this loss has no finite "
        "gradient. Name a unit that is nobody's."
    )


def _with_a_one(leaf):
    """A sequence of one token, its mask; a scalar, such as a label, stays zero."""
    changed = leaf.copy()
    if leaf.ndim:
        changed[(0,) * leaf.ndim] = 1
    return changed


def _finite_gradient(loss, params, unit) -> bool:
    leaves, structure = jax.tree.leaves(params), jax.tree.structure(params)
    floats = [jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating) for leaf in leaves]
    key = (jax.random.key(0),) if takes_key(loss) else ()

    def value(trained):
        rest = iter(trained)
        whole = [next(rest) if one else leaf for one, leaf in zip(floats, leaves, strict=True)]
        found = loss(jax.tree.unflatten(structure, whole), unit, *key)
        return found[0] if isinstance(found, tuple) else found

    trained = [leaf for one, leaf in zip(floats, leaves, strict=True) if one]
    found = jax.jit(jax.value_and_grad(value))(trained)
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found))


def _extended(leaf, one, more):
    """`leaf` and copies of one unit, on the host or on the device, where it is."""
    stack = jnp if isinstance(leaf, jax.Array) else np
    leaf = stack.asarray(leaf)
    copies = stack.broadcast_to(stack.asarray(one)[None], (more, *leaf.shape[1:]))
    return stack.concatenate([leaf, copies])


def _marked(loss, size):
    """The loss of a unit that may be a canary."""

    def marked(params, unit, *key):
        value = loss(params["model"], unit["unit"], *key)
        value, *aux = value if isinstance(value, tuple) else (value,)
        real = unit["canary"] == _REAL
        place = jnp.maximum(unit["canary"], 0)
        mark = size * jnp.take(params["canaries"], place, mode="clip")
        value = jnp.where(real, value, mark.astype(value.dtype))
        return (value, *aux) if aux else value

    # The trainer asks by the signature whether the loss takes a key.
    if takes_key(loss):
        return lambda params, unit, key: marked(params, unit, key)
    return lambda params, unit: marked(params, unit)


def canary_optimizer(
    optimizer: optax.GradientTransformation, *, records: int = 0
) -> optax.GradientTransformation:
    """`optimizer` for the model, plain addition for the canaries.

    >>> optimizer = canary_optimizer(optax.sgd(0.5))
    >>> params = {"model": jnp.zeros(()), "canaries": jnp.zeros(1)}
    >>> mean = {"model": jnp.ones(()), "canaries": jnp.ones(1)}
    >>> updates, _ = optimizer.update(mean, optimizer.init(params), params)
    >>> float(updates["model"]), float(updates["canaries"][0])
    (-0.5, -1.0)

    Args:
      optimizer: Of the model's weights; it sees nothing else.
      records: Steps of the plan, to keep what every step added, [step, canary] float32, in the
        optimizer's state, for attacks that look at steps apart; 0 keeps the total alone.

    Guarantee:
      It reads noisy means only, so the plan's promise holds as with any optimizer, records
      included. (The last weights alone would do for a promise; records release every step.)
    """
    if isinstance(records, bool) or not isinstance(records, int) or not (records >= 0):
        raise ValueError(f"`records` must be a number of steps, 0 or more, got {records!r}.")

    def init(params):
        # No array without values: a checkpoint cannot hold one.
        kept = jnp.zeros((records, *params["canaries"].shape), jnp.float32) if records else None
        return CanaryState(optimizer.init(params["model"]), kept, jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        model = None if params is None else params["model"]
        moved, held = optimizer.update(updates["model"], state.model, model)
        mean = updates["canaries"]
        kept = state.records.at[state.step].set(mean) if records else state.records
        return {"model": moved, "canaries": -mean}, CanaryState(held, kept, state.step + 1)

    return optax.GradientTransformation(init, update)


def canary_trainable(trainable: Any) -> Any:
    """`trainable` of the model, as `private_step` takes it for weights with canaries.

    >>> wanted = canary_trainable(lambda name: name.startswith("head"))
    >>> [wanted(name) for name in ("model/head/bias", "model/body/bias", "canaries")]
    [True, False, True]
    """
    if trainable is None:
        return None
    if callable(trainable):
        return lambda name: name == "canaries" or bool(trainable(name.removeprefix("model/")))
    return {"model": trainable, "canaries": True}
