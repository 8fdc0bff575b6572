"""Shadow models: many small trainings at once, each on its own random half of the units."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, PyTree

from trustml.audit.attacks.recipe import Recipe, check_plan, train_models
from trustml.clipping.sums import check_units
from trustml.plan import PrivacyPlan
from trustml.plan.checks import check_count
from trustml.training.checks import check_optimizer

_MODEL = "model"


class Shadows(NamedTuple):
    """Trained models, and the units that each was trained on. Private."""

    params: PyTree  # every leaf with a leading model axis, on the host
    membership: Bool[np.ndarray, "model unit"]


def train_shadows(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    init: Callable,
    units: PyTree,
    *,
    models: int,
    key: Array,
    steps: int | None = None,
    batch: int | None = None,
    private_plan: PrivacyPlan | None = None,
    include: float = 0.5,
    membership: Bool[np.ndarray, "model unit"] | None = None,
    at_once: int | None = None,
    devices: Sequence[Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Shadows:
    """Trains models by one recipe, each from its own start on its own random part of the units.

    The model under attack must have been trained by the same recipe, or the shadows tell what
    another kind of model would say. The simplest way is to attack one of them: `leave_one_out`.

    Models train side by side in one compiled program, a scan over steps of what is vectorised over
    models. Model i depends on `key` and i alone, up to rounding: not on how many are trained, nor
    on how they are spread over devices.

    >>> loss, init = lambda w, x: 0.5 * (w - x) ** 2, lambda key: jnp.zeros(())
    >>> units, key = jnp.array([1.0, 1.0, 9.0, 9.0]), jax.random.key(0)
    >>> options = {"models": 2, "key": key, "steps": 8, "batch": 4}
    >>> found = train_shadows(loss, optax.sgd(0.5), init, units, **options)
    >>> found.params.shape, found.membership.sum(1).tolist()
    ((2,), [2, 2])

    Args:
      loss_fn: `loss_fn(params, unit) -> scalar` for one unit without a batch axis; with a third
        argument it gets a key of the unit's own, for dropout.
      optimizer: An optax transformation that needs gradients and weights only.
      init: `init(key) -> params`, the start of one model.
      units: The whole data, leading axis = unit; it lies on every device.
      models: How many.
      key: A JAX key. Nothing else is random.
      steps: Of a plain training; a private one has those of its plan.
      batch: Units per step of a plain training, drawn from the model's own with replacement.
      private_plan: Trains as `private_step` does: Poisson draws from the model's own units, bound,
        noise of the plan's size, its divisor.
      include: Part of the units that each model gets, rounded to whole units.
      membership: Who trains which, truth values [model, unit], in place of `include`. Draw it for
        each model by itself, see `leave_one_out`.
      at_once: Models in one program, to bound memory; all by default. Rounded up to a multiple of
        the devices.
      devices: Over which the models are spread; all of this process by default.
      on_progress: Called with the models done and all of them.

    Returns:
      `Shadows`. Private.

    Guarantee:
      None, with a plan either: its noise is `jax.random`'s, whose tails end early and whose keys
      are short, its draws are cut off where they overflow, and all models read the same units. It
      shows what a private training gives away, and is not itself one.

    Raises:
      ValueError: A number out of range, units without a common axis, a plan together with `steps`
        or `batch`, or one that asks for more than Poisson draws, a flat or automatic bound and
        independent noise.

    References:
      Shokri, Stronati, Song and Shmatikov, Membership Inference Attacks Against Machine Learning
      Models, 2017.
    """
    rows = check_units(units)
    check_count("models", models)
    check_optimizer(optimizer, {"w": jnp.zeros(2)})
    recipe = _recipe(loss_fn, optimizer, init, steps, batch, private_plan)
    keys = jax.vmap(lambda model: jax.random.fold_in(key, model))(jnp.arange(models))
    if membership is None:
        membership = _halves(keys, rows, include)
    membership = _checked(np.asarray(membership), models, rows)
    if private_plan is not None:
        check_plan(private_plan, membership.sum(1))
    place, size = _placing(models, at_once, devices)
    units = jax.device_put(units, place[0])
    found = []
    for first in range(0, models, size):
        # The last program may be short of models: it trains some again, for one shape serves all.
        chosen = np.arange(first, first + size) % models
        own = jax.device_put((keys[chosen], jnp.asarray(membership[chosen])), place[1])
        found.append(jax.device_get(train_models(recipe, units, *own)))
        if on_progress is not None:
            on_progress(min(first + size, models), models)
    params = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:models], *found)
    return Shadows(params, membership)


def model_values(f: Callable, params: PyTree, units: PyTree, *, batch_size: int = 256) -> PyTree:
    """Outputs of each model for each unit, such as logits.

    >>> model_values(lambda w, x: w * x, jnp.array([1.0, 10.0]), jnp.array([2.0, 3.0])).tolist()
    [[2.0, 3.0], [20.0, 30.0]]

    Args:
      f: `f(params, unit)` of one model and one unit, to an array or a pytree of them. For models
        with dropout: as they are evaluated, without it.
      params: Of the models, with a leading model axis.
      units: The whole data, leading axis = unit.
      batch_size: Units computed at a time, of one model after another.

    Returns:
      Outputs of `f`, on the host, with leading axes [model, unit]. Private.
    """
    check_count("batch_size", batch_size)
    check_units(units)

    def of_model(own):
        return jax.lax.map(lambda unit: f(own, unit), units, batch_size=batch_size)

    return jax.device_get(jax.jit(lambda params: jax.lax.map(of_model, params))(params))


def _recipe(loss_fn, optimizer, init, steps, batch, plan) -> Recipe:
    if (plan is None) == (steps is None) or (plan is None) == (batch is None):
        raise ValueError(
            "`steps` and `batch` must be given, or `private_plan` in their place, got "
            f"{steps!r}, {batch!r} and {'a plan' if plan else 'no plan'}."
        )
    if plan is None:
        check_count("steps", steps)
        check_count("batch", batch)
    return Recipe(loss_fn, optimizer, init, steps or plan.steps, batch, plan)


def _halves(keys, rows, include):
    """Whole parts of the units, for each model by itself; on the host, without a program."""
    if not (0 < include <= 1):
        raise ValueError(f"`include` must be in (0, 1], got {include!r}.")
    members = round(include * rows)
    seeds = np.asarray(jax.random.key_data(keys)).tolist()
    return np.stack([np.random.default_rng(seed).permutation(rows) < members for seed in seeds])


def _checked(membership, models, rows):
    if membership.dtype != bool or membership.shape != (models, rows):
        raise ValueError(
            f"`membership` must hold a truth value for each model and unit, {(models, rows)}, got "
            f"{membership.dtype} of shape {membership.shape}."
        )
    if not membership.any(1).all():
        raise ValueError(
            f"`membership` must leave each model a unit, got none for model "
            f"{int(np.argmin(membership.any(1)))}."
        )
    return membership


def _placing(models, at_once, devices):
    """Shardings of units and models, and the number of models that a program trains."""
    devices = list(jax.local_devices() if devices is None else devices)
    if at_once is not None:
        check_count("at_once", at_once)
    programs = math.ceil(models / min(at_once or models, models))
    size = math.ceil(models / programs / len(devices)) * len(devices)
    mesh = Mesh(np.array(devices), (_MODEL,))
    return [NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec(_MODEL))], size
