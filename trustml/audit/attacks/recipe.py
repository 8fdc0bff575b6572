"""How one shadow model is trained; the program that trains many is this one, vectorised."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from trustml.clipping import clipped_grad
from trustml.clipping.losses import takes_key
from trustml.plan import PrivacyPlan
from trustml.training.checks import loose_promotion


class Recipe(NamedTuple):
    """The settings of all models. It is hashed: the same functions and numbers compile once.

    A plan with a bound for each layer holds a tree, which has no hash; its fingerprint stands in.
    """

    loss_fn: Callable
    optimizer: optax.GradientTransformation
    init: Callable
    steps: int
    batch: int | None  # of a plain training
    plan: PrivacyPlan | None

    def __hash__(self):
        return hash(self._shown())

    def __eq__(self, other):
        return isinstance(other, Recipe) and self._shown() == other._shown()

    def _shown(self):
        return (*tuple(self)[:-1], None if self.plan is None else self.plan.fingerprint)


def check_plan(plan: PrivacyPlan, members: np.ndarray) -> None:
    """Refuses plans that the shadows' step does not carry out, and models of another size.

    Args:
      plan: Of the private training.
      members: Units that each model has.
    """
    wanted = {"sampling": "poisson", "noise": "independent", "noise_decay": 1.0}
    wanted |= {"num_microbatches": 0, "clip_quantile": None}
    for name, value in wanted.items():
        if getattr(plan, name) != value:
            raise ValueError(
                f"`private_plan` must have `{name}`={value!r}, as shadows are trained, got "
                f"{getattr(plan, name)!r}."
            )
    for size in (members.min(), members.max()):
        if not (abs(size - plan.num_units) <= 0.05 * plan.num_units):
            raise ValueError(
                f"`private_plan` must be for about the units that each model has, {size} of them, "
                f"got one for {plan.num_units}."
            )


@functools.partial(jax.jit, static_argnums=0)
def train_models(recipe: Recipe, units: Any, keys: Any, membership: Any) -> Any:
    """The weights of every model, with a leading model axis as `keys` and `membership` have.

    Args:
      recipe: What all models share.
      units: The whole data.
      keys: One of each model.
      membership: Its units, [model, unit].
    """
    return jax.vmap(functools.partial(_train, recipe), in_axes=(None, 0, 0))(
        units, keys, membership
    )


def _train(recipe: Recipe, units, key, members):
    """One model, from its key and its units."""
    start, draws = (jax.random.fold_in(key, purpose) for purpose in (1, 2))
    params = recipe.init(start)
    if recipe.plan is None:
        mean_of = _plain_mean(recipe.loss_fn, recipe.batch, members)
    else:
        mean_of = _private_mean(recipe.loss_fn, recipe.plan)

    def step(carry, number):
        params, state = carry
        mean = mean_of(params, units, members, jax.random.fold_in(draws, number))
        with loose_promotion():
            updates, state = recipe.optimizer.update(mean, state, params)
            return (optax.apply_updates(params, updates), state), None

    carry = (params, recipe.optimizer.init(params))
    (params, _), _ = jax.lax.scan(step, carry, jnp.arange(recipe.steps))
    return params


def _plain_mean(loss_fn, batch, members):
    """The mean gradient of a batch that is drawn from the model's own units."""
    (own,) = jnp.nonzero(members, size=len(members), fill_value=0)
    keyed = takes_key(loss_fn)

    def mean_of(params, units, members, key):
        drawn, noise = jax.random.split(key) if keyed else (key, key)
        # Below the count after rounding, too: 1 - 2^-23 times it is at least its spacing away.
        chance = jax.random.uniform(drawn, (batch,))
        rows = own[(chance * members.sum().astype(jnp.float32)).astype(jnp.int32)]
        taken = jax.tree.map(lambda leaf: leaf[rows], units)
        keys = (jax.random.split(noise, batch),) if keyed else ()

        def mean_loss(params):
            one = functools.partial(loss_fn, params)
            return jnp.mean(jax.vmap(one)(taken, *keys))

        return jax.grad(mean_loss)(params)

    return mean_of


def _private_mean(loss_fn, plan):
    """The noisy mean of clipped gradients of Poisson draws, as the plan says."""
    keyed = takes_key(loss_fn)
    grad = clipped_grad(loss_fn, clip_norm=plan.clip_norm, clipping=plan.clipping)

    def mean_of(params, units, members, key):
        drawn, noise, own = jax.random.split(key, 3)
        chance = jax.random.uniform(drawn, members.shape) < plan.sample_rate
        (rows,) = jnp.nonzero(chance & members, size=plan.capacity, fill_value=-1)
        taken = jax.tree.map(lambda leaf: leaf[rows], units)
        group = jnp.where(rows < 0, -1, 0)
        sums, _ = grad(params, taken, group, own if keyed else None)
        # As one vector: a draw for each leaf takes longer to compile and to run.
        flat, unravel = ravel_pytree(sums)
        noisy = flat + jnp.float32(plan.stddev) * jax.random.normal(noise, flat.shape)
        return unravel(noisy / jnp.float32(plan.expected_batch))

    return mean_of
